package bttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// relayBed is an asker, a gateway and a member behind it.
type relayBed struct {
	*domain
	t        testing.TB
	asker    *Endpoint
	gateway  *Endpoint
	member   *Endpoint
	target   blocktree.Runtime // the member
	near     *Conn             // asker to gateway
	standing atomic.Pointer[Conn]
	asked    atomic.Pointer[Conn] // by which the member was asked last
	refuses  atomic.Bool          // the member admits nobody any more
}

// newRelayBed has the asker reach the gateway by the carrier near, and that the member by far.
func newRelayBed(t testing.TB, near, far Transport, handler Handler) *relayBed {
	b := &relayBed{domain: newDomain(t), t: t}
	mc := b.config("member")
	mc.Handler = HandlerFunc(func(r *Request) {
		b.asked.Store(r.Conn)
		handler.Serve(r)
	})
	mc.Admit = func(peer cred.Identity) error {
		if b.refuses.Load() || peer.Anonymous() {
			return blocktree.E("admit", blocktree.Permission, errors.New("not you"))
		}
		return nil
	}
	b.member, b.target = b.listen(mc)
	gc := b.config("gateway")
	gc.Transport = Auto
	member := b.target.Principal
	gc.Relay = func(p blocktree.Principal) *Conn {
		if p != member {
			return nil
		}
		return b.standing.Load()
	}
	gc.Addrs = []string{"127.0.0.1:0"}
	var at blocktree.Runtime
	b.gateway, at = b.listen(gc)
	b.gateway.config.Transport = far // for dialling
	b.standing.Store(b.dial(b.gateway, b.target))
	ac := b.config("asker")
	ac.Transport = near
	b.asker = b.client(ac)
	b.near = b.dial(b.asker, at)
	return b
}

func (b *relayBed) via() (*Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return b.asker.DialVia(ctx, b.near, b.target)
}

func (b *relayBed) mustVia() *Conn {
	b.t.Helper()
	c, err := b.via()
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// relays is how many the endpoint counts.
func relays(e *Endpoint) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.relays
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// legs runs a test on each pair of carriers.
func legs(t *testing.T, f func(t *testing.T, near, far Transport)) {
	for _, near := range []Transport{TCP, QUIC} {
		for _, far := range []Transport{TCP, QUIC} {
			t.Run(fmt.Sprintf("%s-%s", near, far), func(t *testing.T) { f(t, near, far) })
		}
	}
}

// TestRelay has many calls of all sizes through a gateway: each end knows the other, not the gateway.
func TestRelay(t *testing.T) {
	legs(t, func(t *testing.T, near, far Transport) {
		b := newRelayBed(t, near, far, echo)
		c := b.mustVia()
		if c.Peer().Path != b.target.Path || c.Via() != b.near.Peer().Path || b.near.Via() != "" {
			t.Fatalf("peer %v via %v", c.Peer().Path, c.Via())
		}
		if n := relays(b.gateway); n != LanesDefault {
			t.Errorf("the gateway counts %d relays", n)
		}
		var all sync.WaitGroup
		for worker := range uint64(4) {
			all.Go(func() { relayCaller(t, c, worker) })
		}
		all.Wait()
		if who := b.asked.Load().Peer(); who.Principal != b.asker.Identity().Principal {
			t.Errorf("the member was asked by %v", who.Path)
		}
		_ = c.Close()
		eventually(t, "relays are left over", func() bool { return relays(b.gateway) == 0 && relays(b.member) == 0 })
		if b.near.Err() != nil || b.standing.Load().Err() != nil {
			t.Error("a connection that the relay hung on has ended with it")
		}
		again := b.mustVia()
		relayCaller(t, again, 7)
	})
}

// relayCaller calls with bodies of all sizes and checks the answers.
func relayCaller(t *testing.T, c *Conn, seed uint64) {
	for i, size := range []int{0, 1, 4096, bulkBytes, 100 << 10, blocktree.FrameBodyBytesMax, 17} {
		body := pattern(make([]byte, size), seed+uint64(i))
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		r, err := c.CallWait(ctx, 1, []byte{byte(seed)}, body)
		cancel()
		if err != nil || !bytes.Equal(r.Body, body) {
			t.Errorf("%d bytes: %v, %d came back", size, err, len(r.Body))
			return
		}
		r.Release()
	}
}

// TestRelayEnds: whatever a relay hangs on, its end is the connection's, and nothing is left.
func TestRelayEnds(t *testing.T) {
	for name, end := range map[string]func(b *relayBed){
		"the asker's connection":   func(b *relayBed) { _ = b.near.Close() },
		"the gateway's connection": func(b *relayBed) { _ = b.standing.Load().Close() },
		"the gateway":              func(b *relayBed) { _ = b.gateway.Close() },
		"the member":               func(b *relayBed) { _ = b.member.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			legs(t, func(t *testing.T, near, far Transport) {
				hold := HandlerFunc(func(r *Request) { r.Release() }) // no answer, ever
				b := newRelayBed(t, near, far, hold)
				c := b.mustVia()
				failed := make(chan error, 1)
				if err := c.Call(1, nil, nil, func(r Reply, err error) { r.Release(); failed <- err }); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the call does not arrive", func() bool { return b.asked.Load() != nil })
				inner := b.asked.Load()
				end(b)
				if err := <-failed; err == nil {
					t.Error("an answer came")
				}
				<-c.Done()
				<-inner.Done()
				eventually(t, "relays are left over", func() bool { return relays(b.gateway) == 0 && relays(b.member) == 0 })
			})
		})
	}
}

// TestRelayOfNobody: a relay ends with the asker's connection, even if the asker keeps it.
func TestRelayOfNobody(t *testing.T) {
	for _, far := range []Transport{TCP, QUIC} {
		b := newRelayBed(t, TCP, far, echo)
		config, err := cred.NewTLSConfig(cred.TLSOptions{Key: b.asker.config.Key, Expect: b.target.Principal, ALPN: []string{alpn}})
		if err != nil {
			t.Fatal(err)
		}
		kept, err := b.asker.dialWith(t.Context(), b.target, b.near.openVia(b.target.Principal, config))
		if err != nil {
			t.Fatal(err)
		}
		_ = b.near.Close()
		eventually(t, "the relay is left over", func() bool { return relays(b.gateway) == 0 && relays(b.member) == 0 })
		<-kept.Done()
	}
}

// TestRelayRefused: what a gateway does not do costs the asker that relay, and not its connection.
func TestRelayRefused(t *testing.T) {
	legs(t, func(t *testing.T, near, far Transport) {
		b := newRelayBed(t, near, far, echo)
		refused := func(what string, kind blocktree.Kind) {
			t.Helper()
			if _, err := b.via(); blocktree.KindOf(err) != kind {
				t.Errorf("%s: %v", what, err)
			}
			if b.near.Err() != nil {
				t.Fatalf("%s: the connection to the gateway ended: %v", what, b.near.Err())
			}
		}
		standing := b.standing.Swap(nil)
		refused("a gateway without a connection", blocktree.Unavailable)
		other := b.target
		b.target.Principal = b.asker.Identity().Principal
		refused("a runtime that it knows nothing of", blocktree.Unavailable)
		b.target = other
		b.standing.Store(standing)
		b.gateway.mu.Lock()
		b.gateway.relays += blocktree.RelaysMax - 1
		b.gateway.mu.Unlock()
		refused("one lane too many", blocktree.Busy)
		eventually(t, "the first lane is left over", func() bool { return relays(b.gateway) == blocktree.RelaysMax-1 })
		b.gateway.mu.Lock()
		b.gateway.relays = 0
		b.gateway.mu.Unlock()
		count := func(n int) {
			b.gateway.mu.Lock()
			defer b.gateway.mu.Unlock()
			b.gateway.accepted[b.near.id].relays += n
			b.gateway.relays += n
		}
		count(blocktree.RelaysPerConnectionMax - LanesDefault)
		last := b.mustVia()
		refused("more than one asker may have", blocktree.Busy)
		count(LanesDefault - blocktree.RelaysPerConnectionMax)
		_ = last.Close()
		_ = b.near.Close()
		eventually(t, "relays are left over", func() bool { return relays(b.gateway) == 0 && relays(b.member) == 0 })
	})
}

// TestNoRelayOfARelay: a gateway does not pass on to what it reaches through a gateway itself, nor does a runtime that is none.
func TestNoRelayOfARelay(t *testing.T) {
	b := newRelayBed(t, TCP, TCP, echo)
	far := b.config("far")
	far.Handler = echo
	_, r := b.listen(far)
	direct := b.dial(b.member, r)
	b.member.config.Relay = func(blocktree.Principal) *Conn { return direct }
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	through, err := b.gateway.DialVia(ctx, b.standing.Load(), r)
	if err != nil {
		t.Fatal(err)
	}
	b.gateway.config.Relay = func(blocktree.Principal) *Conn { return through }
	if _, err := b.asker.DialVia(ctx, b.near, r); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Errorf("two gateways in a row: %v", err)
	}
	if _, err := b.gateway.DialVia(ctx, through, b.target); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("a gateway behind a gateway: %v", err)
	}
	b.gateway.config.Relay = nil
	if _, err := b.via(); blocktree.KindOf(err) != blocktree.Unsupported {
		t.Errorf("no gateway: %v", err)
	}
}

// TestRelayOfAStranger: whose key has not opened the connection that a relay frame names gets nothing.
func TestRelayOfAStranger(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		b := newRelayBed(t, transport, TCP, echo)
		ac := b.config("stranger")
		ac.Transport = transport
		_, at := b.gateway, blocktree.Runtime{Path: b.gateway.Identity().Path, Principal: b.gateway.Identity().Principal, Endpoints: b.gateway.Addrs()}
		own := b.dial(b.client(ac), at)
		id := own.id
		own.id = b.near.id // another's
		if _, err := own.openRelay(t.Context(), b.target.Principal); blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Errorf("with another's connection: %v", err)
		}
		own.id = id
		if n := relays(b.gateway); n != 0 {
			t.Errorf("%d relays", n)
		}
	})
}

// TestLyingGateway changes one byte of what is passed on, in either direction: the connection ends, and no answer is another than the
// member's.
func TestLyingGateway(t *testing.T) {
	for _, toMember := range []bool{true, false} {
		t.Run(fmt.Sprint(toMember), func(t *testing.T) {
			var wrong atomic.Bool
			want := pattern(make([]byte, 4096), 3)
			b := newRelayBed(t, TCP, TCP, HandlerFunc(func(r *Request) {
				if !bytes.Equal(r.Body, want) {
					wrong.Store(true)
				}
				echo(r)
			}))
			var lies atomic.Bool
			standing := b.standing.Load()
			standing.remote = tamper(t, standing.remote, toMember, &lies)
			c := b.mustVia()
			call := func() (Reply, error) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				return c.CallWait(ctx, 1, nil, want)
			}
			if r, err := call(); err != nil || !bytes.Equal(r.Body, want) {
				t.Fatalf("while it passes all on: %v", err)
			}
			lies.Store(true)
			if r, err := call(); err == nil {
				t.Errorf("an answer of %d bytes came through a change", len(r.Body))
			}
			<-c.Done()
			if wrong.Load() {
				t.Error("the member was asked something else")
			}
		})
	}
}

// tamper listens in front of to, and changes a byte of each piece in one direction while lies holds.
func tamper(t *testing.T, to string, forth bool, lies *atomic.Bool) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	pass := func(dst, src net.Conn, change bool) {
		defer dst.Close()
		defer src.Close()
		buf := make([]byte, 4<<10)
		for {
			n, err := src.Read(buf)
			if n > 0 && change && lies.Load() {
				buf[n/2] ^= 1
			}
			if _, e := dst.Write(buf[:n]); e != nil || err != nil {
				return
			}
		}
	}
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			all.Go(func() { pass(far, near, forth) })
			all.Go(func() { pass(near, far, !forth) })
		}
	})
	return l.Addr().String()
}

// TestRelayWaits: a member that takes nothing is not sent for. What the gateway has taken by then is what the kernels and its two buffers
// hold, not what the asker has, and nothing is lost when the member goes on.
func TestRelayWaits(t *testing.T) {
	legs(t, func(t *testing.T, near, far Transport) {
		const calls, size = 48, 1 << 20
		goOn := make(chan struct{})
		b := newRelayBed(t, near, far, HandlerFunc(func(r *Request) {
			<-goOn
			echo(r)
		}))
		c := b.mustVia()
		body := pattern(make([]byte, size), 1)
		answers := make(chan error, calls)
		for range calls {
			if err := c.Call(1, nil, [][]byte{body}, func(r Reply, err error) {
				if err == nil && !bytes.Equal(r.Body, body) {
					err = io.ErrUnexpectedEOF
				}
				r.Release()
				answers <- err
			}); err != nil {
				t.Fatal(err)
			}
		}
		sealed := func() (n int) {
			c.calls.mu.Lock()
			defer c.calls.mu.Unlock()
			for i := range c.calls.slots {
				if x := &c.calls.slots[i]; x.id != 0 && x.sent {
					n++
				}
			}
			return n
		}
		taken := sealed()
		for still := 0; still < 20; time.Sleep(10 * time.Millisecond) { // until nothing moves
			if now := sealed(); now == taken {
				still++
			} else {
				taken, still = now, 0
			}
		}
		if taken == calls {
			t.Errorf("all %d MiB were taken for a member that takes nothing", calls)
		}
		t.Logf("%d of %d MiB were taken", taken, calls)
		close(goOn)
		for range calls {
			if err := <-answers; err != nil {
				t.Fatal(err)
			}
		}
	})
}
