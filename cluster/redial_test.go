package cluster

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/simnet"
)

// TestRedial: a way to a node that comes up and is cut, just after the handshake or once the node serves, is dialled anew after pauses, which
// are not those of everybody else. One that has lasted is dialled anew at once.
func TestRedial(t *testing.T) {
	for _, x := range []struct {
		name   string
		lasts  time.Duration // a connection, before it is cut; 0: until the node serves
		serves bool          // it lives until the node has said hello
		most   int           // dials in a minute
		atOnce bool
	}{
		{"cut after the handshake", 0, false, 300, false},
		{"cut once it serves", 0, true, 600, false},
		{"cut a second later", time.Second, true, 60, false},
		{"cut when it has lasted", lastedAfter, true, 60 / int(lastedAfter/time.Second), true},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newRedialBed(t)
				var pauses []time.Duration
				var ended time.Time
				dials := 0
				b.client.dialOwn = func(ctx context.Context, r blocktree.Runtime) (*bttp.Conn, error) { // by one goroutine
					if dials++; dials > 1 {
						pauses = append(pauses, time.Since(ended))
					}
					conn, err := b.endpoint.Dial(ctx, r)
					if err != nil {
						return nil, err
					}
					cut := func() { ended = time.Now(); _ = conn.Close() }
					if !x.serves {
						cut()
					} else {
						b.served(func() { time.AfterFunc(x.lasts, cut) })
					}
					return conn, err
				}
				b.client.ensure([]blocktree.Runtime{b.node})
				time.Sleep(time.Minute)
				b.client.close()
				if dials > x.most || dials < 10 {
					t.Errorf("%d dials in a minute, want 10 to %d", dials, x.most)
				}
				same := 0
				for i, d := range pauses {
					if x.atOnce != (d < redialMin/2) {
						t.Errorf("pause %d is %v", i, d)
					}
					if i > 0 && d == pauses[i-1] {
						same++
					}
				}
				if !x.atOnce && same > 0 {
					t.Errorf("%d pauses are like the one before", same)
				}
			})
		})
	}
}

// redialBed is a node that says hello, and a client of it, on a network in memory.
type redialBed struct {
	node     blocktree.Runtime
	endpoint *bttp.Endpoint // of the client
	client   *peers

	mu   sync.Mutex
	onUp func()
}

func newRedialBed(t *testing.T) *redialBed {
	b := &redialBed{}
	net := simnet.New(1)
	root := testKey(t)
	identity := func(name string, services ...string) (cred.Key, cred.Credentials) {
		key := testKey(t)
		chain, err := cred.Issue(root, nil, root.Principal(), cred.Grant{Subject: key.Public(), Path: blocktree.RootPath(root.Principal()).Join(name),
			Services: services, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return key, chain
	}
	key, chain := identity("node1", blocktree.ServiceSector)
	s := &Service{serving: incarnations{blocktree.Incarnation{1}, blocktree.Incarnation{1}}}
	s.cfg.Node = 1
	host := netip.MustParseAddr("10.0.0.1")
	node, err := bttp.Listen(t.Context(), bttp.Config{Key: key, Credentials: chain, Root: root.Principal(), Addrs: []string{"10.0.0.1:7001"}, Transport: bttp.TCP,
		Network: net.Host(host), Log: slog.New(slog.DiscardHandler), Handler: bttp.HandlerFunc(func(req *bttp.Request) {
			s.hello(req)
			req.Release()
		})})
	if err != nil {
		t.Fatal(err)
	}
	b.node = blocktree.Runtime{Path: blocktree.RootPath(root.Principal()).Join("node1"), Principal: key.Principal(), Node: 1,
		Endpoints: []string{"10.0.0.1:7001"}, Services: []string{blocktree.ServiceSector}}
	key, chain = identity("client")
	b.endpoint, err = bttp.New(bttp.Config{Key: key, Credentials: chain, Root: root.Principal(), Transport: bttp.TCP,
		Network: net.Host(netip.MustParseAddr("10.0.0.2")), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b.client = newPeers(b.endpoint, slog.New(slog.DiscardHandler))
	b.client.watch(b)
	t.Cleanup(func() {
		b.client.close()
		_ = b.endpoint.Close()
		_ = node.Close()
	})
	return b
}

// served has f called when the node serves next.
func (b *redialBed) served(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onUp = f
}

func (b *redialBed) nodeUp(blocktree.NodeID, incarnations) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.onUp != nil {
		b.onUp()
		b.onUp = nil
	}
}

func (b *redialBed) nodeSilent(blocktree.NodeID) {}

func (b *redialBed) nodeDown(blocktree.NodeID) {}
