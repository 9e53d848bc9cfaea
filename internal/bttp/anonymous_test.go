package bttp

import (
	"net/netip"
	"testing"

	"blocktree"
	"blocktree/crypto/cred"
)

// admitAll lets everybody in.
func admitAll(cred.Identity) error { return nil }

// Anonymous callers of one address get so many connections, with few lanes, however many keys they have; whoever has credentials is not counted
// among them. A connection that ends makes room.
func TestAnonymousConnectionsAreBounded(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		sc := d.config("a")
		sc.Admit, sc.Handler = admitAll, echo
		server, r := d.listen(sc)
		anonymous := Config{Root: d.root, Transport: transport, Log: sc.Log}
		many := anonymous
		many.Lanes = blocktree.AnonymousLanesMax + 1
		if err := d.dialErr(d.client(many), r); blocktree.KindOf(err) != blocktree.TooLarge {
			t.Errorf("many lanes: %v", err)
		}
		var first *Conn
		for i := range blocktree.AnonymousConnectionsPerNetworkMax {
			conn := d.dial(d.client(anonymous), r)
			if i == 0 {
				first = conn
			}
		}
		if err := d.dialErr(d.client(anonymous), r); blocktree.KindOf(err) != blocktree.Unavailable {
			t.Errorf("one too many: %v", err)
		}
		cc := d.config("b")
		cc.Transport = transport
		d.dial(d.client(cc), r)
		_ = first.Close()
		for d.dialErr(d.client(anonymous), r) != nil { // until the server has noticed
		}
		if n := server.strangersOpen(); n != blocktree.AnonymousConnectionsPerNetworkMax {
			t.Errorf("%d are counted", n)
		}
	})
}

// strangersOpen is how many connections of anonymous callers are counted.
func (e *Endpoint) strangersOpen() (all int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.anonymous {
		all += n
	}
	return all
}

// All networks together have their bound, too; what is refused is not counted.
func TestAnonymousConnectionsOfAllNetworks(t *testing.T) {
	d := newDomain(t)
	e := d.client(d.config("a"))
	e.mu.Lock()
	defer e.mu.Unlock()
	admitted := 0
	for i := range 2 * blocktree.AnonymousConnectionsMax {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 4), 1}), 7).String()
		if e.addAnonymous(&Conn{remote: at}) == nil {
			admitted++
		}
	}
	all := 0
	for _, n := range e.anonymous {
		all += n
	}
	if admitted != blocktree.AnonymousConnectionsMax || all != admitted {
		t.Errorf("%d admitted, %d counted", admitted, all)
	}
}

// What the handler keeps with a connection is made once.
func TestOwn(t *testing.T) {
	c := newConn(nil, connID{}, cred.Identity{}, blocktree.Principal{}, 1)
	made := 0
	for range 3 {
		if got := c.Own(func() any { made++; return made }); got != 1 {
			t.Errorf("got %v", got)
		}
	}
}
