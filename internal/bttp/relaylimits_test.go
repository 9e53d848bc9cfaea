package bttp

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// TestRelayOfSlowReaders: askers that take nothing of what a member answers them cost the gateway no connection of its own, neither that to the
// member nor that to an asker.
func TestRelayOfSlowReaders(t *testing.T) {
	legs(t, func(t *testing.T, near, far Transport) {
		const readers, calls = 6, 6
		large := make([]byte, 1<<20)
		b := newRelayBed(t, near, far, HandlerFunc(func(r *Request) {
			if r.Code == 2 {
				r.ReplyThen(r.Release, nil, large)
				return
			}
			echo(r)
		}))
		goOn := make(chan struct{})
		var answered sync.WaitGroup
		defer answered.Wait()
		defer close(goOn)
		for range readers {
			c := b.mustVia()
			for range calls {
				answered.Add(1)
				if err := c.CallBulk(2, nil, nil, func(r Reply, err error) { <-goOn; r.Release(); answered.Done() }); err != nil {
					answered.Done()
					t.Fatal(err)
				}
			}
		}
		for range 20 {
			for name, c := range map[string]*Conn{"gateway to member": b.standing.Load(), "asker to gateway": b.near} {
				ctx, cancel := context.WithTimeout(t.Context(), laneStallTimeout*3/4) // whoever takes nothing is gone after that, and holds up nobody any more
				r, err := c.CallWait(ctx, 1, nil)
				cancel()
				r.Release()
				if blocktree.KindOf(err) == blocktree.Timeout || c.Err() != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// TestRelayRefusedByTheMember: why a member refuses is told through a gateway as it is directly.
func TestRelayRefusedByTheMember(t *testing.T) {
	legs(t, func(t *testing.T, near, far Transport) {
		b := newRelayBed(t, near, far, echo)
		b.refuses.Store(true)
		for range 20 {
			if _, err := b.via(); blocktree.KindOf(err) != blocktree.Permission {
				t.Fatal(err)
			}
		}
	})
}

// TestRelayAsFirstStream: a QUIC connection whose first stream asks for a relay ends with that.
func TestRelayAsFirstStream(t *testing.T) {
	b := newRelayBed(t, QUIC, TCP, echo)
	standing := b.standing.Swap(nil) // so that it is refused
	config, err := cred.NewTLSConfig(cred.TLSOptions{Key: b.asker.config.Key, Expect: b.gateway.Identity().Principal, ALPN: []string{alpn}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() *quicCarrier {
		under, _, _, err := b.asker.openQUIC(b.near.remote, config).open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := &relayed{carrier: under, in: b.asker.newReader(under)}
		err = s.ask(&relayFrame{conn: b.near.id, target: b.target.Principal})
		if (err == nil) != (b.standing.Load() != nil) {
			t.Fatal(err)
		}
		return under.(*quicCarrier)
	}
	over := func(c *quicCarrier, what string) {
		t.Helper()
		select {
		case <-c.conn.Context().Done():
		case <-time.After(blocktree.IdleTimeout * 2 / 3): // it would end by itself then
			t.Errorf("%s: the QUIC connection is kept, and nobody counts it", what)
		}
		_ = c.conn.CloseWithError(0, "")
	}
	over(ask(), "refused")
	b.standing.Store(standing)
	c := ask()
	_ = b.near.Close()
	over(c, "ended")
}

// TestRelaysOfOnePrincipal: whoever has many connections to a gateway leaves relays for others.
func TestRelaysOfOnePrincipal(t *testing.T) {
	b := newRelayBed(t, TCP, TCP, echo)
	at := blocktree.Runtime{Path: b.gateway.Identity().Path, Principal: b.gateway.Identity().Principal, Endpoints: b.gateway.Addrs()}
	greedy := b.near
	b.gateway.mu.Lock()
	owner := b.gateway.accepted[greedy.id]
	b.gateway.mu.Unlock()
	near := func() *relayed {
		one, two := net.Pipe()
		_ = two.Close()
		raw := newRawConn(one, time.Second)
		return &relayed{carrier: &tlsCarrier{raw: raw, tls: tls.Client(raw, &tls.Config{})}}
	}
	var all []*relayed
	owners := []*Conn{owner}
	for range blocktree.RuntimeConnectionsPerPrincipalMax - 1 {
		owners = append(owners, newConn(b.gateway, newConnID(), owner.peer, owner.proven, 1))
	}
	for _, o := range owners {
		for i := range blocktree.RelaysPerConnectionMax {
			if n := near(); b.gateway.enterRelay(o, blocktree.Principal{byte(i)}, n) == nil {
				all = append(all, n)
			}
		}
	}
	ac := b.config("other")
	ac.Transport = TCP
	other := b.client(ac)
	b.asker, b.near = other, b.dial(other, at)
	if c, err := b.via(); err != nil {
		t.Errorf("one principal has %d relays, and another: %v", len(all), err)
	} else {
		_ = c.Close()
	}
	for _, n := range all {
		_ = n.Close()
	}
}

// TestRelayedHandshakes: whoever begins handshakes with a member through a gateway, and ends none, does not keep everybody else at the gateway's
// address out.
func TestRelayedHandshakes(t *testing.T) {
	b := newRelayBed(t, TCP, TCP, echo)
	at := blocktree.Runtime{Path: b.gateway.Identity().Path, Principal: b.gateway.Identity().Principal, Endpoints: b.gateway.Addrs()}
	begun := 0
	for range blocktree.RelaysPerConnectionMax {
		if s, err := b.near.openRelay(t.Context(), b.target.Principal); err == nil {
			begun++
			defer s.Close()
		}
	}
	ac := b.config("other")
	ac.Transport = TCP
	b.asker = b.client(ac)
	b.near = b.dial(b.asker, at)
	if _, err := b.via(); err != nil {
		t.Errorf("%d handshakes are kept open: %v", begun, err)
	}
}
