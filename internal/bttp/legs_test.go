package bttp

import (
	"context"
	"crypto/tls"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// legsBed is an asker, two runtimes between, and a target that nobody dials: it has dialled the second of these, its parent, which the first one has dialled.
type legsBed struct {
	*domain
	t                        testing.TB
	asker, one, two, target  *Endpoint
	at                       blocktree.Runtime // the target
	first, oneToTwo          *Conn             // as who dialled has them
	twoFromOne, twoFromBelow *Conn             // as two has them
	oneFromAsker, uplink     *Conn             // as one has the asker's, as the target has its own
	seen                     string            // host at which the asker is seen
	served                   atomic.Pointer[Conn]
	change                   func(*Ask) // before the target sees it
}

func newLegsBed(t testing.TB, carrier Transport) *legsBed {
	b := &legsBed{domain: newDomain(t), t: t, seen: "127.0.0.1"}
	runtime := func(name string, h Handler) (*Endpoint, blocktree.Runtime) {
		c := b.config(name)
		c.Handler = h
		e, r := b.listen(c)
		e.config.Transport = carrier // for dialling
		return e, r
	}
	var one, two blocktree.Runtime
	b.one, one = runtime("one", echo)
	b.two, two = runtime("two", echo)
	b.target, b.at = runtime("target", HandlerFunc(func(r *Request) { b.served.Store(r.Conn); echo(r) }))
	b.at.Endpoints = []string{"127.0.0.1:1"} // nobody dials it
	ac := b.config("asker")
	ac.Transport = carrier
	b.asker = b.client(ac)
	b.first, b.oneToTwo, b.uplink = b.dial(b.asker, one), b.dial(b.one, two), b.dial(b.target, two)
	b.oneFromAsker, b.twoFromOne, b.twoFromBelow = b.accepted(b.one, b.first), b.accepted(b.two, b.oneToTwo), b.accepted(b.two, b.uplink)
	return b
}

// accepted is the other end of a connection.
func (b *legsBed) accepted(e *Endpoint, c *Conn) (other *Conn) {
	eventually(b.t, "the connection is not accepted", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		other = e.accepted[c.id]
		return other != nil
	})
	return other
}

// send is what package cluster does with an ask, in one process.
func (b *legsBed) send(ctx context.Context, encoded []byte) ([]byte, error) {
	answer, err := b.pass(ctx, encoded)
	return []byte(answer), err
}

func (b *legsBed) pass(ctx context.Context, encoded []byte) (string, error) {
	a, err := DecodeAsk(encoded)
	if err != nil {
		return "", err
	}
	if b.change != nil {
		b.change(a)
	}
	who, err := b.target.VerifyAsk(a)
	if err != nil {
		return "", err
	}
	if a.Mode != AskRelay {
		return b.target.AnswerAsk(ctx, a, who, b.uplink, b.seen, b.two.Addrs()[0])
	}
	one, err := b.one.JoinLegs(a, who, b.oneFromAsker, b.oneToTwo)
	if err != nil {
		return "", err
	}
	two, err := b.two.JoinLegs(a, who, b.twoFromOne, b.twoFromBelow)
	if err == nil {
		_, err = b.target.AnswerAsk(ctx, a, who, b.uplink, b.seen, "")
	}
	for _, open := range []func(context.Context) error{two.OpenFar, two.OpenNear, one.OpenFar, one.OpenNear} {
		if err == nil {
			err = open(ctx)
		}
	}
	if err != nil {
		one.Drop()
		if two != nil {
			two.Drop()
		}
	}
	return "", err
}

func (b *legsBed) ask(mode Mode) (*Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return b.asker.AskWay(ctx, mode, b.first, b.at, b.send)
}

// left is what the endpoints still keep of asks.
func (b *legsBed) left() (n int) {
	for _, e := range []*Endpoint{b.asker, b.one, b.two, b.target} {
		e.mu.Lock()
		n += e.legCount + len(e.legs)
		if e != b.target { // which keeps a token for a while
			n += len(e.meetings)
		}
		e.mu.Unlock()
	}
	return n
}

func asks(t *testing.T, f func(t *testing.T, mode Mode, carrier Transport)) {
	for name, mode := range map[string]Mode{"back": AskBack, "relay": AskRelay, "punch": AskPunch} {
		for _, carrier := range []Transport{TCP, QUIC} {
			if mode == AskPunch && carrier == TCP {
				continue
			}
			t.Run(name+"-"+string(carrier), func(t *testing.T) { f(t, mode, carrier) })
		}
	}
}

// TestAskWay has many calls of all sizes on a connection that nobody could dial, in both directions: each end knows the other.
func TestAskWay(t *testing.T) {
	asks(t, func(t *testing.T, mode Mode, carrier Transport) {
		b := newLegsBed(t, carrier)
		b.asker.SetHandler(echo)
		c, err := b.ask(mode)
		if err != nil {
			t.Fatal(err)
		}
		want := map[Mode]Way{AskBack: DialedBack, AskRelay: Relayed, AskPunch: Punched}[mode]
		if c.Peer().Path != b.at.Path || c.Way() != want || !c.Asked() || (c.Via() != "") != (mode == AskRelay) || b.first.Way() != Direct {
			t.Errorf("peer %v, %s via %q", c.Peer().Path, c.Way(), c.Via())
		}
		var all sync.WaitGroup
		for worker := range uint64(4) {
			all.Go(func() { relayCaller(t, c, worker) })
		}
		all.Wait()
		back := b.served.Load()
		if back.Peer().Principal != b.asker.Identity().Principal || back.Way() != want {
			t.Errorf("the target was asked by %v, %s", back.Peer().Path, back.Way())
		}
		relayCaller(t, back, 9)
		if _, err := c.openRelay(t.Context(), b.one.Identity().Principal); blocktree.KindOf(err) != blocktree.Unsupported {
			t.Errorf("a gateway that was asked for: %v", err)
		}
		_ = c.Close()
		<-back.Done()
		eventually(t, "something of the ask is left", func() bool { return b.left() == 0 || mode == AskRelay && b.left() == 3 })
		for _, standing := range []*Conn{b.first, b.oneToTwo, b.uplink} {
			if standing.Err() != nil {
				t.Error("a standing connection has ended with it")
			}
		}
	})
}

// TestLegsEnd: whatever a relay hangs on, its end is the connection's, and nothing is left (but that the target counts it for the time of a handshake).
func TestLegsEnd(t *testing.T) {
	for name, end := range map[string]func(b *legsBed){
		"the asker's connection":   func(b *legsBed) { _ = b.first.Close() },
		"the connection between":   func(b *legsBed) { _ = b.oneToTwo.Close() },
		"the target's":             func(b *legsBed) { _ = b.uplink.Close() },
		"a runtime between":        func(b *legsBed) { _ = b.two.Close() },
		"the target":               func(b *legsBed) { _ = b.target.Close() },
		"the connection, far away": func(b *legsBed) { _ = b.served.Load().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newLegsBed(t, TCP)
			c, err := b.ask(AskRelay)
			if err != nil {
				t.Fatal(err)
			}
			relayCaller(t, c, 1)
			inner := b.served.Load()
			end(b)
			<-c.Done()
			<-inner.Done()
			eventually(t, "something of the ask is left", func() bool {
				b.one.mu.Lock()
				defer b.one.mu.Unlock()
				return b.one.legCount == 0 && len(b.one.meetings) == 0
			})
		})
	}
}

// TestAskFromAnother: a carrier with a token, from anybody but who is expected with it, is refused; so is a target that turns out to be somebody else.
func TestAskFromAnother(t *testing.T) {
	carriers(t, func(t *testing.T, carrier Transport) {
		b := newLegsBed(t, carrier)
		sc := b.config("stranger")
		sc.Transport = carrier
		stranger := b.client(sc)
		oneID := b.one.Identity()
		toOne := b.dial(stranger, blocktree.Runtime{Path: oneID.Path, Principal: oneID.Principal, Endpoints: b.one.Addrs()})
		twoID := b.two.Identity()
		toTwo := b.dial(stranger, blocktree.Runtime{Path: twoID.Path, Principal: twoID.Principal, Endpoints: b.two.Addrs()})
		b.change = func(a *Ask) {
			who, _ := b.target.VerifyAsk(a)
			l, err := b.one.JoinLegs(a, who, b.oneFromAsker, b.oneToTwo)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Drop()
			if _, err := toOne.openMeet(t.Context(), a.Token); blocktree.KindOf(err) != blocktree.Unauthenticated {
				t.Errorf("another key with the token: %v", err)
			}
			below, err := b.two.JoinLegs(a, who, b.twoFromOne, b.twoFromBelow)
			if err != nil {
				t.Fatal(err)
			}
			defer below.Drop()
			if _, err := toTwo.openMeet(t.Context(), a.Token); blocktree.KindOf(err) != blocktree.Unauthenticated {
				t.Errorf("another key with the token, where the next runtime opens: %v", err)
			}
			if _, err := toOne.openMeet(t.Context(), askToken{1}); blocktree.KindOf(err) != blocktree.Unauthenticated {
				t.Errorf("another token: %v", err)
			}
		}
		if _, err := b.ask(AskRelay); err != nil {
			t.Fatal(err)
		}
		b.change = nil
		// A stranger that dials back in the target's stead.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.asker.AskWay(ctx, AskBack, b.first, b.at, func(ctx context.Context, encoded []byte) ([]byte, error) {
			a, _ := DecodeAsk(encoded)
			config, err := cred.NewTLSConfig(cred.TLSOptions{Key: stranger.config.Key, Expect: b.asker.Identity().Principal, ALPN: []string{alpn}})
			if err != nil {
				t.Error(err)
			}
			o := stranger.openTCP("127.0.0.1:"+strconv.Itoa(int(a.TCP)), config)
			if carrier == QUIC {
				o = stranger.openQUIC("127.0.0.1:"+strconv.Itoa(int(a.UDP)), config)
			}
			c, _, _, err := o.open(ctx)
			if err != nil {
				t.Error(err)
				return nil, err
			}
			s := &relayed{carrier: c, in: stranger.newReader(c)}
			defer s.Close()
			_ = s.offer(a.Token)
			if err := s.accept(); err == nil {
				t.Error("a stranger's carrier is taken")
			}
			return nil, nil
		})
		if err == nil {
			t.Error("a connection to a stranger")
		}
	})
}

// TestAsksOnly: who listens for what it has asked for serves nobody.
func TestAsksOnly(t *testing.T) {
	carriers(t, func(t *testing.T, carrier Transport) {
		b := newLegsBed(t, carrier)
		c, err := b.ask(AskBack)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		at := blocktree.Runtime{Principal: b.asker.Identity().Principal, Endpoints: []string{"127.0.0.1:" + strconv.Itoa(int(b.asker.backTCP))}}
		if carrier == QUIC {
			at.Endpoints = []string{"127.0.0.1:" + strconv.Itoa(int(b.asker.backUDP))}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := b.two.Dial(ctx, at); blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Errorf("a client is connected to: %v", err)
		}
	})
}

// TestAskRefused: the target judges who asks, and why it refuses is told; what send fails with is what AskWay does.
func TestAskRefused(t *testing.T) {
	asks(t, func(t *testing.T, mode Mode, carrier Transport) {
		b := newLegsBed(t, carrier)
		b.target.SetRefused(func(id cred.Identity) error {
			if id.Principal == b.asker.Identity().Principal {
				return blocktree.E("revoked", blocktree.Unauthenticated, errors.New("not you"))
			}
			return nil
		})
		if _, err := b.ask(mode); blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Errorf("a revoked asker: %v", err)
		}
		eventually(t, "something of the ask is left", func() bool { return b.left() == 0 })
	})
}

// TestBackGoesWhereTheAskerIs: W2.
func TestBackGoesWhereTheAskerIs(t *testing.T) {
	for _, x := range []struct {
		host, leg string
		may       bool
	}{
		{"203.0.113.5", "198.51.100.1:7000", true}, {"203.0.113.5", "10.0.0.1:7000", true}, {"2001:db8::1", "198.51.100.1:7000", true},
		{"10.0.0.5", "10.0.0.1:7000", true}, {"192.168.1.5", "10.0.0.1:7000", true}, {"fd00::5", "[fd00::1]:7000", true},
		{"10.0.0.5", "198.51.100.1:7000", false}, {"127.0.0.1", "10.0.0.1:7000", false}, {"127.0.0.1", "198.51.100.1:7000", false},
		{"::1", "198.51.100.1:1", false}, {"::ffff:127.0.0.1", "198.51.100.1:1", false}, {"127.0.0.1", "127.0.0.1:7000", true},
		{"169.254.169.254", "10.0.0.1:7000", false}, {"fe80::1", "[2001:db8::1]:1", false}, {"224.0.0.1", "224.0.0.1:1", false},
		{"0.0.0.0", "0.0.0.0:1", false}, {"::", "[::]:1", false}, {"255.255.255.255", "10.0.0.1:7000", false}, {"", "10.0.0.1:1", false}, {"host", "10.0.0.1:1", false},
		{"10.0.0.5", "", false},
	} {
		if got := MayDialBack(x.host, x.leg); got != x.may {
			t.Errorf("MayDialBack(%q, %q) = %v", x.host, x.leg, got)
		}
	}
	b := newLegsBed(t, TCP)
	b.seen = "10.255.255.1" // the leg is on loopback
	begun := time.Now()
	if _, err := b.ask(AskBack); blocktree.KindOf(err) != blocktree.Unavailable || time.Since(begun) > 10*time.Second {
		t.Errorf("another network than the leg's: %v", err)
	}
}

// TestAskVerify: an ask that is altered anywhere, or not of now, is nobody's.
func TestAskVerify(t *testing.T) {
	b := newLegsBed(t, TCP)
	other := newDomain(t)
	sign := func(d *domain, change func(*Ask)) []byte {
		c := d.config("asker")
		a := &Ask{Mode: AskBack, Token: newConnID(), Path: b.at.Path, Target: b.at.Principal, TCP: 1, Lanes: 2, Time: time.Now()}
		if change != nil {
			change(a)
		}
		a.sign(c.Key, c.Credentials)
		return a.Encode()
	}
	verify := func(encoded []byte) error {
		a, err := DecodeAsk(encoded)
		if err != nil {
			return err
		}
		_, err = b.target.VerifyAsk(a)
		return err
	}
	good := sign(b.domain, nil)
	if err := verify(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		good[i] ^= 1
		if verify(good) == nil {
			t.Errorf("byte %d of %d may be another", i, len(good))
		}
		good[i] ^= 1
	}
	for name, encoded := range map[string][]byte{
		"another domain": sign(other, nil),
		"old":            sign(b.domain, func(a *Ask) { a.Time = a.Time.Add(-2 * blocktree.AskTimeMax) }),
		"early":          sign(b.domain, func(a *Ask) { a.Time = a.Time.Add(2 * blocktree.AskTimeMax) }),
		"no lanes":       sign(b.domain, func(a *Ask) { a.Lanes = 0 }),
		"many lanes":     sign(b.domain, func(a *Ask) { a.Lanes = blocktree.AskLanesMax + 1 }),
		"no port":        sign(b.domain, func(a *Ask) { a.TCP = 0 }),
		"no target":      sign(b.domain, func(a *Ask) { a.Target = blocktree.Principal{} }),
		"another mode":   sign(b.domain, func(a *Ask) { a.Mode = 99 }),
		"a TCP hole":     sign(b.domain, func(a *Ask) { a.Mode, a.UDP = AskPunch, 1 }),
		"a bad path":     sign(b.domain, func(a *Ask) { a.Path += "/../x" }),
		"another root":   sign(b.domain, func(a *Ask) { a.Path = blocktree.RootPath(other.root).Join("x") }),
	} {
		if verify(encoded) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestLyingLeg changes one byte of what is passed on: the connection ends, and no answer is another than the target's.
func TestLyingLeg(t *testing.T) {
	var lies atomic.Bool
	b := newLegsBed(t, TCP)
	b.oneToTwo.opener = b.one.openTCP(tamper(t, b.oneToTwo.remote, true, &lies), mustTLS(t, b.one, b.two))
	b.oneToTwo.opener.asked = false
	c, err := b.ask(AskRelay)
	if err != nil {
		t.Fatal(err)
	}
	relayCaller(t, c, 3)
	lies.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if r, err := c.CallWait(ctx, 1, nil, pattern(make([]byte, 4096), 1)); err == nil {
		r.Release()
		t.Error("an answer came through a change")
	}
	<-c.Done()
}

func mustTLS(t testing.TB, from, to *Endpoint) *tls.Config {
	config, err := cred.NewTLSConfig(cred.TLSOptions{Key: from.config.Key, Expect: to.Identity().Principal, ALPN: []string{alpn}})
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// TestAskBounds: one asker leaves relays for others, and carriers beyond what was said are refused.
func TestAskBounds(t *testing.T) {
	b := newLegsBed(t, TCP)
	who := b.asker.Identity()
	ask := func(id byte) *Ask { return &Ask{Mode: AskRelay, Token: askToken{id}, Lanes: blocktree.AskLanesMax} }
	var all []*Legs
	for i := range 255 {
		l, err := b.one.JoinLegs(ask(byte(i)), who, b.oneFromAsker, b.oneToTwo)
		if err != nil {
			if blocktree.KindOf(err) != blocktree.Busy {
				t.Error(err)
			}
			break
		}
		all = append(all, l)
	}
	if n := len(all) * blocktree.AskLanesMax; n != blocktree.LegRelaysPerPrincipalMax {
		t.Errorf("one asker has %d pairs", n)
	}
	other := cred.Identity{Principal: blocktree.Principal{7}}
	l, err := b.one.JoinLegs(ask(255), other, b.oneFromAsker, b.oneToTwo)
	if err != nil {
		t.Fatalf("another asker: %v", err)
	}
	if _, err := b.one.JoinLegs(ask(255), other, b.oneFromAsker, b.oneToTwo); blocktree.KindOf(err) != blocktree.Exists {
		t.Errorf("the same ask again: %v", err)
	}
	if _, err := b.two.JoinLegs(ask(1), other, b.twoFromBelow, b.twoFromBelow); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("back where it came from: %v", err)
	}
	for i := range blocktree.AskLanesMax + 1 {
		s, err := b.first.openMeet(t.Context(), askToken{255})
		if (err == nil) != (i < blocktree.AskLanesMax) {
			t.Errorf("carrier %d: %v", i, err)
		}
		if err == nil {
			defer s.Close()
		}
	}
	for _, l := range append(all, l) {
		l.Drop()
	}
	if n := b.left(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// TestRelayRate: what is let through in a while is what the pace says, and not more at once than a twentieth of a second's.
func TestRelayRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1000)
		begun := time.Now()
		for range 40 {
			p.take(t.Context(), 50)
		}
		if d := time.Since(begun); d < 1900*time.Millisecond || d > 2*time.Second {
			t.Errorf("2000 bytes at 1000 in a second took %v", d)
		}
		time.Sleep(time.Hour)
		begun = time.Now()
		for range 3 {
			p.take(t.Context(), 50)
		}
		if d := time.Since(begun); d < 100*time.Millisecond {
			t.Errorf("after a pause 150 bytes took %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun = time.Now()
		p.take(ctx, 1<<20)
		if time.Since(begun) != 0 {
			t.Error("it waits though it is over")
		}
	})
}
