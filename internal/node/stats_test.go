package node_test

import (
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/node"
	"blocktree/internal/testenv"
)

// TestStats: a node may be asked for its numbers at any time, while it starts, works and stops; once it has stopped it has none.
func TestStats(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 1)
	d.StartAll()
	n := d.Node(0)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			n.Stats()
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	d.Await("it serves", func() bool {
		s, ok := n.Stats()
		return ok && s.Serving && s.Meta.Leader == s.Meta.Node && len(s.Links) == 1 && s.Links[0].Serving
	})
	c := d.Client()
	d.Create(c, "/f", 1<<20, blocktree.Code{Data: 1})
	f := d.Open(c, "/f")
	ctx := patience(t)
	if err := f.WriteSectors(ctx, 3, make([]byte, 5*4096)); err != nil {
		t.Fatal(err)
	}
	s, ok := n.Stats()
	if !ok || s.Member.WrittenSectors != 5 || s.Store.Syncs == 0 || s.Store.SyncTimes.Count() != s.Store.Syncs || len(s.Links) != 1 || !s.Links[0].Serving ||
		s.Carried.QUIC+s.Carried.TCP == 0 || s.FreeBytes <= 0 || s.MetaFailed {
		t.Errorf("%t, %+v", ok, s)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	d.Stop(0)
	if _, ok := n.Stats(); ok {
		t.Error("a node that has stopped has numbers")
	}
	close(stop)
	asking.Wait()
}

// TestNodeReachesItselfInMemory: the connections of a node with itself, of its member and of its filesystem service, take no carrier of the network.
func TestNodeReachesItselfInMemory(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 1)
	d.Filesystems = map[int]*node.Filesystem{0: {Reader: d.Reader}}
	d.StartAll()
	const own = 3 // both ends of the member's are its endpoint's, one of the service's
	d.Await("its connections with itself, and no others", func() bool {
		s, ok := d.Node(0).Stats()
		return ok && s.Carried.Memory == own && s.Carried.TCP+s.Carried.QUIC == 0
	})
}
