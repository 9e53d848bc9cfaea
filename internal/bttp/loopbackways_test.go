package bttp

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"blocktree"
)

// TestSelfAddr: a listener on all addresses is seen at the one at which it is dialled, as over the network, and else at one of loopback.
func TestSelfAddr(t *testing.T) {
	for _, x := range []struct {
		listens string
		dialled []string
		want    string
	}{
		{"0.0.0.0:7", nil, "127.0.0.1:7"},
		{"[::]:7", nil, "127.0.0.1:7"},
		{":7", []string{"0.0.0.0:7", "no address"}, "127.0.0.1:7"},
		{"localhost:7", nil, "127.0.0.1:7"},
		{"0.0.0.0:7", []string{"192.0.2.1:7", "192.0.2.2:7"}, "192.0.2.1:7"},
		{"[::]:7", []string{"[2001:db8::1]:7"}, "[2001:db8::1]:7"},
		{"192.0.2.1:7", []string{"192.0.2.2:7"}, "192.0.2.1:7"},
		{"[2001:db8::1]:7", nil, "[2001:db8::1]:7"},
	} {
		if got := (&Endpoint{addrs: []string{x.listens}}).selfAddr(t.Context(), x.dialled); got != x.want {
			t.Errorf("%s, dialled at %q: %s, want %s", x.listens, x.dialled, got, x.want)
		}
	}
}

// TestSelfIsDialledBack: who asks for a way by a runtime's own listener, which listens on all addresses, is seen at an address that others may dial.
func TestSelfIsDialledBack(t *testing.T) {
	d := newDomain(t)
	sc, cc := d.pair(Memory)
	asked := make(chan *Conn, 1)
	sc.Handler = HandlerFunc(func(r *Request) { asked <- r.Conn; echo(r) })
	sc.Addrs = []string{"0.0.0.0:0"}
	_, r := d.listen(sc)
	_, port, err := net.SplitHostPort(r.Endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	r.Endpoints = []string{net.JoinHostPort("192.0.2.1", port)}
	conn := d.dial(d.client(cc), r)
	reply, err := conn.CallWait(t.Context(), 1, nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	reply.Release()
	for _, c := range []*Conn{conn, <-asked} {
		if c.RemoteAddr() != r.Endpoints[0] {
			t.Errorf("seen at %s", c.RemoteAddr())
		}
	}
}

// TestNoOtherWayToOneself: a runtime with a loopback has nobody pass its bytes to itself on, or dial it for itself: it would stay on what comes of that.
func TestNoOtherWayToOneself(t *testing.T) {
	d := newDomain(t)
	sc, cc := d.pair(Memory)
	sc.Handler = echo
	_, r := d.listen(sc)
	gc := d.config("gateway")
	var standing atomic.Pointer[Conn]
	gc.Relay = func(blocktree.Principal) *Conn { return standing.Load() }
	gateway, at := d.listen(gc)
	standing.Store(d.dial(gateway, r))
	client := d.client(cc)
	first := d.dial(client, at)
	if _, err := client.DialVia(t.Context(), first, r); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Errorf("through another: %v", err)
	}
	for _, mode := range []Mode{AskBack, AskRelay} {
		_, err := client.AskWay(t.Context(), mode, first, r, func(context.Context, []byte) ([]byte, error) {
			t.Error("another is asked")
			return nil, errors.New("no")
		})
		if blocktree.KindOf(err) != blocktree.Unavailable {
			t.Errorf("asked for, %d: %v", mode, err)
		}
	}
}
