package bttp

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

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

// What is kept with a connection is made once for each who keeps something, and nobody gets another's.
func TestKeep(t *testing.T) {
	c := newConn(nil, connID{}, cred.Identity{}, blocktree.Principal{}, 1)
	made := 0
	keepers := []*Keeper{{}, {}}
	for range 3 {
		for i, k := range keepers {
			if got := c.Keep(k, func() any { made++; return made }); got != i+1 {
				t.Errorf("keeper %d: got %v", i, got)
			}
		}
	}
}

// Whoever shows credentials again and again, with or without any, fills no log.
func TestShownTooOften(t *testing.T) {
	d := newDomain(t)
	var text bytes.Buffer
	var mu sync.Mutex
	sc := d.config("a")
	sc.Admit, sc.Handler = admitAll, echo
	sc.Log = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), nil))
	_, r := d.listen(sc)
	conn := d.dial(d.client(Config{Root: d.root, Log: d.config("b").Log}), r)
	begun := time.Now()
	for range 100 {
		_, err := conn.CallWait(t.Context(), codeCredentials, nil, []byte("garbage"))
		if k := blocktree.KindOf(err); k != blocktree.Busy && k != blocktree.Unauthenticated {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if n, most := strings.Count(text.String(), "refused"), 1+int(time.Since(begun)/shownEvery); n > most {
		t.Errorf("%d lines, at most %d in that time", n, most)
	}
}

// writerFunc is a function as a writer.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
