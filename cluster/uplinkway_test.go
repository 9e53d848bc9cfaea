package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
)

// apart is threeLevels with the grandchild's cluster in a network of its own: nobody there can dial the child's, and nobody the grandchild's.
// It also returns the configuration of a runtime beside the child's members.
func apart(t *testing.T, carrier bttp.Transport) (b *wayBed, root, child, grand []*wayMember, inside bttp.Config) {
	b = newWayBed(t)
	b.carrier = carrier
	root = b.cluster("/", 2)
	child = b.cluster("/lab", 2, root...)
	inside, addr := b.config("/inside")
	b.net.Wall(append(addrs(child), addr)...)
	b.await("the child's uplink", 20*time.Second, func() bool { return len(uplinkHolders(child)) == 1 })
	b.above = root
	grand = b.cluster("/lab/deep", 2, child...)
	b.net.Wall(addrs(grand)...)
	b.await("the grandchild's uplink", 20*time.Second, func() bool { return len(uplinkHolders(grand)) == 1 })
	return b, root, child, grand, inside
}

// holderOf is the member of a cluster that has the uplink, and that.
func holderOf(t *testing.T, all []*wayMember) (*wayMember, *bttp.Conn) {
	t.Helper()
	for _, m := range all {
		if m.service != nil {
			if up := m.service.Uplink(); up != nil {
				return m, up
			}
		}
	}
	t.Fatal("nobody has the uplink")
	return nil, nil
}

// TestUplinkByAsking: W10. A cluster whose parent it cannot dial has its uplink by a relay of whoever is above, and its line there: it is reached along that as any other, also from the parent, and by
// both ends of a relay that runs through one connection of each. Both are back after who has them has ended.
func TestUplinkByAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, root, child, grand, inside := apart(t, bttp.TCP)
		lab := blocktree.RootPath(b.root).Join("lab")
		_, up := holderOf(t, grand)
		if up.Way() != bttp.Relayed || up.Peer().Path.Parent() != lab {
			t.Fatalf("%s, to %s", up.Way(), up.Peer().Path.Short())
		}
		if r, err := up.CallWait(t.Context(), 7, nil, []byte{3}); err != nil || r.Body[0] != 3 {
			t.Fatalf("the parent says %v", err)
		} else {
			r.Release()
		}
		e, err := bttp.New(inside)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		for _, p := range child { // who has no line to it leads up
			first, err := e.Dial(t.Context(), p.runtime)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := askBy(e)(t.Context(), bttp.AskRelay, first, grand[0].runtime)
			if err != nil {
				t.Fatalf("asked of the parent: %v", err)
			}
			_ = conn.Close()
		}
		client := b.dials("/client", grand, root[1])
		b.awaitWays(grand, 10*time.Second, bttp.DialedBack, bttp.DialedBack)
		b.net.Wall(client)
		for _, m := range grand {
			_ = b.client.conn(m.runtime.Node).Close()
		}
		b.awaitWays(grand, 10*time.Second, bttp.Relayed, bttp.Relayed)

		m, _ := holderOf(t, grand)
		m.stop()
		b.await("an uplink of another member", 20*time.Second, func() bool { return len(uplinkHolders(grand)) == 1 })
		m.start()
		_, up = holderOf(t, grand)
		for _, x := range child { // the parent's member that it leads to
			if x.runtime.Principal == up.Peer().Principal {
				x.stop()
				b.await("an uplink to another parent", time.Minute, func() bool {
					h := uplinkHolders(grand)
					return len(h) == 1 && up.Err() != nil
				})
				x.start()
			}
		}
		for i, r := range root { // the line's end, and with it the relay
			r.stop()
			b.await("uplinks over the other", time.Minute, func() bool {
				if len(uplinkHolders(grand)) != 1 || len(uplinkHolders(child)) != 1 {
					return false
				}
				_, up := holderOf(t, grand)
				m, _ := holderOf(t, grand)
				line := m.service.Line()
				return up.Err() == nil && line != nil && line.Err() == nil && line.Peer().Principal == root[1-i].runtime.Principal
			})
			r.start()
		}
		b.awaitWays(grand, time.Minute, bttp.Relayed, bttp.Relayed)
	})
}

// TestUplinkImproves: an uplink that others pass on is left for a hole, and that for nothing else; and for the parent's own address once that can be dialled. What is being said is answered.
func TestUplinkImproves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, child, grand, _ := apart(t, bttp.Auto)
		m, relay := holderOf(t, grand)
		for _, x := range child {
			x.hold.Store(true)
		}
		answered := make(chan error, 1)
		if err := relay.Call(7, nil, [][]byte{{1}}, func(r bttp.Reply, err error) { r.Release(); answered <- err }); err != nil {
			t.Fatal(err)
		}
		b.await("a hole", time.Minute, func() bool { up := m.service.Uplink(); return up != nil && up.Way() == bttp.Punched })
		for _, x := range child {
			x.hold.Store(false)
			close(x.released)
		}
		if err := <-answered; err != nil {
			t.Errorf("what was being said: %v", err)
		}
		_, up := holderOf(t, grand)
		b.await("the relay's end", 5*time.Second, func() bool { return relay.Err() != nil })
		time.Sleep(5 * time.Minute)
		if _, now := holderOf(t, grand); now != up || up.Err() != nil {
			t.Errorf("the hole was left: %v", up.Err())
		}
		b.net.Open(addrs(child)...)
		_ = up.Close()
		b.await("an uplink", time.Minute, func() bool { return len(uplinkHolders(grand)) == 1 && m.service.Uplink() != up })
		m, up = holderOf(t, grand)
		if up.Way() != bttp.Direct || m.service.Line() != up {
			t.Errorf("%s, and a line beside it: %v", up.Way(), m.service.Line() != up)
		}
	})
}

// TestLineNeedsTheNearest: whoever has let the nearest cluster's line go, or says that it has it, is passed by: the way over the cluster above that is tried, too.
func TestLineNeedsTheNearest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, root, _, grand := threeLevels(t)
		c, _ := b.config("/lab/deep/liar", blocktree.ServiceSector) // no member, and nobody above has a record that says so
		e, err := bttp.New(c)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		for _, r := range root {
			conn, err := e.Dial(t.Context(), r.runtime)
			if err == nil {
				err = says(t.Context(), conn, 1)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		b.dials("/client", grand, root[0])
		b.awaitWays(grand, 10*time.Second, bttp.DialedBack, bttp.DialedBack, bttp.DialedBack)
	})
}
