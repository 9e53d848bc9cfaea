package bttp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/simnet"
)

func TestDialsOfOnePeerShareAConnection(t *testing.T) {
	carriersAndMemory(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		sc, cc := d.pair(transport)
		e, r := d.listen(sc)
		client := d.client(cc)
		conns := make([]*Conn, 16)
		var all sync.WaitGroup
		for i := range conns {
			all.Go(func() { conns[i] = d.dial(client, r) })
		}
		all.Wait()
		for _, c := range conns {
			if c != conns[0] {
				t.Fatal("two connections")
			}
		}
		e.mu.Lock()
		n := len(e.conns)
		e.mu.Unlock()
		if n != 1 {
			t.Fatalf("the peer sees %d connections", n)
		}
		_ = conns[0].Close()
		if again := d.dial(client, r); again == conns[0] || again.Err() != nil {
			t.Fatal("a closed connection was dialed")
		}
		other := r
		other.Path = "/elsewhere"
		if err := d.dialErr(client, other); blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Fatalf("a shared connection is not checked: %v", err)
		}
	})
}

func TestConnectionsPerPrincipal(t *testing.T) {
	d := newDomain(t)
	_, r := d.listen(d.config("a"))
	cc := d.config("b")
	for range blocktree.RuntimeConnectionsPerPrincipalMax {
		d.dial(d.client(cc), r)
	}
	extra := d.client(cc)
	if err := d.dialErr(extra, r); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Fatalf("one more: %v", err)
	}
	d.dial(d.client(d.config("c")), r) // another principal is not affected
}

// TestAutoPrefersTCP, in the time of a bubble: where both answer as fast, which a busy machine does not have them do.
func TestAutoPrefersTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, net := newDomain(t), simnet.New(1)
		on := func(name string, host byte) Config {
			c := d.config(name)
			c.Network = net.Host(netip.AddrFrom4([4]byte{10, 0, 0, host}))
			return c
		}
		sc := on("a", 1)
		sc.Addrs, sc.Handler = []string{"10.0.0.1:7000"}, echo
		_, both := d.listen(sc)
		if c := d.dial(d.client(on("b", 2)), both); c.Transport() != TCP {
			t.Fatal(c.Transport())
		}
	})
}

func TestAutoFallsBackToQUIC(t *testing.T) {
	d := newDomain(t)
	qc := d.config("q")
	qc.Transport = QUIC
	_, only := d.listen(qc)
	if c := d.dial(d.client(d.config("b")), only); c.Transport() != QUIC {
		t.Fatal(c.Transport())
	}
	// A TCP that accepts and says nothing does not keep QUIC from connecting.
	l, err := net.Listen("tcp", only.Endpoints[0])
	for err != nil { // the port is taken in TCP
		qc.Addrs = nil
		_, only = d.listen(qc)
		l, err = net.Listen("tcp", only.Endpoints[0])
	}
	defer l.Close()
	if c := d.dial(d.client(d.config("c")), only); c.Transport() != QUIC {
		t.Fatal(c.Transport())
	}
}

func TestSecondEndpointIsTried(t *testing.T) {
	d := newDomain(t)
	_, r := d.listen(d.config("a"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	_ = l.Close()
	for _, transport := range []Transport{TCP, Auto} {
		cc := d.config("b")
		cc.Transport = transport
		x := r
		x.Endpoints = append([]string{gone}, r.Endpoints...)
		if transport == Auto {
			x.Endpoints = x.Endpoints[1:] // QUIC to a port where nobody is takes the whole handshake timeout
		}
		d.dial(d.client(cc), x)
	}
	cc := d.config("b")
	cc.Transport = TCP
	r.Endpoints = []string{gone}
	if err := d.dialErr(d.client(cc), r); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Fatal(err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	d := newDomain(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel only
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cc := d.config("b")
	cc.Transport = TCP
	client := d.client(cc)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = client.Dial(ctx, blocktree.Runtime{Principal: d.root, Endpoints: []string{l.Addr().String()}})
	if blocktree.KindOf(err) != blocktree.Canceled {
		t.Fatal(err)
	}
	_ = client.Close() // ends the attempt
	if err := d.dialErr(client, blocktree.Runtime{Principal: d.root, Endpoints: []string{"x"}}); blocktree.KindOf(err) != blocktree.Closed {
		t.Fatal(err)
	}
}

// TestForeignLane shows that a lane joins only a connection of its own key, only where one was announced, only once.
func TestForeignLane(t *testing.T) {
	d := newDomain(t)
	e, r := d.listen(d.config("a"))
	owner, thief := d.config("b"), d.config("thief")
	id := newConnID()
	open := func(config Config, lane, lanes int, chain cred.Credentials) error {
		p := rawDial(t, d, TCP, config, r, false)
		body := (&hello{conn: id, lane: lane, lanes: lanes, chain: chain}).encode()
		p.send(append(frame{kind: frameHello, bodyBytes: len(body)}.append(nil), body...))
		_, err := readHello(p.r)
		return err
	}
	for _, x := range []struct {
		name        string
		config      Config
		lane, lanes int
		chain       cred.Credentials
		ok          bool
	}{
		{"open", owner, 0, 3, owner.Credentials, true},
		{"another's lane", thief, 1, 3, nil, false},
		{"its own", owner, 1, 3, nil, true},
		{"twice", owner, 1, 3, nil, false},
		{"not announced", owner, 3, 4, nil, false},
		{"with credentials", owner, 2, 3, owner.Credentials, false},
		{"the same connection again", owner, 0, 3, owner.Credentials, false},
	} {
		if err := open(x.config, x.lane, x.lanes, x.chain); (err == nil) != x.ok {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.conns); n > 1 {
		t.Errorf("%d connections", n)
	}
}

// TestSilentClientsAreBounded: strangers who say nothing take a part of the handshakes from one address, where others are
// still served, and all of them from several, where nobody is until they go.
func TestSilentClientsAreBounded(t *testing.T) {
	d := newDomain(t)
	e, r := d.listen(d.config("a"))
	from := func(ip string) net.Conn {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).Dial("tcp", r.Endpoints[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	refused := func(c net.Conn) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("one more stranger is let wait: %v", err)
		}
	}
	held := func(ok func(n int) bool) {
		for !ok(len(e.admission)) {
			time.Sleep(time.Millisecond)
		}
	}
	silent := func(ip string, n int) (conns []net.Conn) {
		for range n {
			conns = append(conns, from(ip))
		}
		return conns
	}
	first := silent("127.0.0.2", handshakesPerNetworkMax)
	held(func(n int) bool { return n == handshakesPerNetworkMax })
	refused(from("127.0.0.2"))
	second := silent("127.0.0.3", handshakesMax-handshakesPerNetworkMax)
	held(func(n int) bool { return n == handshakesMax })
	refused(from("127.0.0.4"))
	for _, c := range second {
		_ = c.Close()
	}
	held(func(n int) bool { return n <= handshakesPerNetworkMax })
	d.dial(d.client(d.config("b")), r) // from 127.0.0.1
	for _, c := range first {
		_ = c.Close()
	}
	held(func(n int) bool { return n == 0 })
	e.mu.Lock()
	left := len(e.strangers)
	e.mu.Unlock()
	if left != 0 {
		t.Fatalf("%d networks are remembered", left)
	}
}

func TestNetworkOf(t *testing.T) {
	for _, x := range [][2]string{{"192.0.2.7:1", "192.0.2.7/32"}, {"[::ffff:192.0.2.7]:1", "192.0.2.7/32"},
		{"[2001:db8:1:2:3::4]:1", "2001:db8:1:2::/64"}, {"[fe80::1%eth0]:1", "fe80::/64"}} {
		at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(x[0]))
		if got := networkOf(at).String(); got != x[1] {
			t.Errorf("%s is in %s, want %s", x[0], got, x[1])
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	carriersAndMemory(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		sc, cc := d.pair(transport)
		held := make(chan *Request, 1)
		sc.Handler = HandlerFunc(func(r *Request) { held <- r })
		e, r := d.listen(sc)
		client := d.client(cc)
		conn := d.dial(client, r)
		failed := make(chan error, 1)
		if err := conn.Call(1, nil, nil, func(_ Reply, err error) { failed <- err }); err != nil {
			t.Fatal(err)
		}
		req := <-held
		_ = client.Close()
		if err := <-failed; blocktree.KindOf(err) != blocktree.Closed {
			t.Fatal(err)
		}
		_ = e.Close()
		released := false
		req.ReplyThen(func() { released = true }, nil, make([]byte, 100000)) // to nobody
		if !released {
			t.Fatal("the body of an answer to nobody was not released")
		}
		sc.Addrs = r.Endpoints
		d.listen(sc) // the address is free again
	})
}

// TestAutoFindsTCPOfAPeerThatStarts dials a peer that is not there yet: TCP fails at once, QUIC goes on asking. When the
// peer starts, QUIC is answered first, and TCP is used all the same.
func TestAutoFindsTCPOfAPeerThatStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a busy machine may take longer for TCP than QUIC waits for it
		d, net := newDomain(t), simnet.New(1)
		ac, bc := d.config("a"), d.config("b")
		ac.Addrs = []string{"10.0.0.1:7000"}
		ac.Network, bc.Network = net.Host(netip.MustParseAddr("10.0.0.1")), net.Host(netip.MustParseAddr("10.0.0.2"))
		e, r := d.listen(ac)
		_ = e.Close()
		client := d.client(bc)
		got := make(chan *Conn, 1)
		go func() {
			for { // the attempt may end before the peer has started
				c, err := client.Dial(context.Background(), r)
				if err == nil || blocktree.KindOf(err) != blocktree.Unavailable {
					got <- c
					return
				}
			}
		}()
		for asking := false; !asking; time.Sleep(time.Millisecond) {
			client.mu.Lock()
			asking = client.dialQUIC != nil
			client.mu.Unlock()
		}
		d.listen(ac)
		if c := <-got; c == nil || c.Transport() != TCP {
			t.Fatal("TCP is not used")
		}
	})
}

// TestTokensOfStrangersComeBack makes more connections, good and refused, one after the other, than may be strangers at a time.
func TestTokensOfStrangersComeBack(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		e, r := d.listen(d.config("a"))
		good := d.config("b")
		good.Transport = transport
		bad := Config{Root: d.root, Transport: transport, Log: good.Log}
		for range handshakesMax/2 + 1 {
			client := d.client(good)
			d.dial(client, r)
			_ = client.Close()
			client = d.client(bad)
			if err := d.dialErr(client, r); blocktree.KindOf(err) != blocktree.Unauthenticated {
				t.Fatal(err)
			}
			_ = client.Close()
		}
		for len(e.admission) > 0 {
			time.Sleep(time.Millisecond)
		}
	})
}
