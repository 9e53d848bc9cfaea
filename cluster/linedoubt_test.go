package cluster

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
)

// TestLineThatDrops: Y3. The lowest member of a cluster behind a firewall truly has the line, and passes no ask on: it says nothing, or refuses, or lets the line go and takes it again. The others are reached from outside all the same, and once more when it was trusted again.
func TestLineThatDrops(t *testing.T) {
	for _, name := range []string{"silent", "refuses", "retakes"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newWayBed(t)
				root := b.cluster("/", 3)
				child := b.cluster("/lab", 3, root...)
				b.net.Wall(addrs(child)...)
				b.await("an uplink", 20*time.Second, func() bool { return slices.Equal(uplinkHolders(child), []string{"n1"}) })
				child[0].drops = func(req *bttp.Request) {
					switch line := child[0].service.Line(); {
					case name == "refuses":
						req.Fail(errNoWay)
					case name == "retakes" && line != nil:
						child[0].service.requests.Go(func() {
							_ = says(child[0].service.ctx, line, 0)
							_ = says(child[0].service.ctx, line, 1)
						})
					}
				}
				for i := range 2 {
					b.dials([]string{"/client", "/another"}[i], child[1:], root[2])
					b.awaitWays(child[1:], uplinkProven+uplinkDoubted+30*time.Second, bttp.DialedBack, bttp.DialedBack)
					if holders := uplinkHolders(child); len(holders) > 2 {
						t.Errorf("%v have an uplink", holders)
					}
					b.client.close()
					_ = b.client.endpoint.Close()
					b.client = nil
					time.Sleep(2 * lineDoubtMin)
				}
			})
		})
	}
}

// TestDeadBehindALine: Y3. That one member of a cluster is dead costs whoever has the line nothing, however often it is asked for.
func TestDeadBehindALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWayBed(t)
		root := b.cluster("/", 3)
		child := b.cluster("/lab", 3, root...)
		b.net.Wall(addrs(child)...)
		b.await("an uplink", 20*time.Second, func() bool { return slices.Equal(uplinkHolders(child), []string{"n1"}) })
		child[2].stop()
		b.dials("/client", child, root[2])
		b.awaitWays(child[:2], 20*time.Second, bttp.DialedBack, bttp.DialedBack)
		b.stays(child, "n1", time.Minute)
	})
}

// TestRelayedBehindALine: Y3. A client behind a firewall of its own, which has relays and asks for dial-backs to it in vain for as long as it has them, costs whoever has the line nothing.
func TestRelayedBehindALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWayBed(t)
		root := b.cluster("/", 3)
		child := b.cluster("/lab", 3, root...)
		b.net.Wall(addrs(child)...)
		b.await("an uplink", 20*time.Second, func() bool { return slices.Equal(uplinkHolders(child), []string{"n1"}) })
		b.net.Wall(b.dials("/client", child, root[2]))
		b.awaitWays(child, 20*time.Second, bttp.Relayed, bttp.Relayed, bttp.Relayed)
		b.stays(child, "n1", 5*time.Minute)
	})
}

// TestLineDoubts: Y3. For how many targets, for how long, and of how many members.
func TestLineDoubts(t *testing.T) {
	var d lineDoubts
	now := time.Unix(1000, 0)
	who := func(i int) blocktree.Principal { return blocktree.PrincipalOf([]byte{byte(i >> 8), byte(i)}) }
	fail := func(targets ...int) {
		for _, x := range targets {
			d.note(who(0), who(x), false, now)
		}
	}
	is := func(what string, want bool) {
		t.Helper()
		if d.doubted(who(0), now) != want {
			t.Errorf("%s: doubted is %v", what, !want)
		}
	}
	fail(1, 1, 0, 1, 0)
	is("one target, and itself", false)
	d.note(who(0), who(3), true, now)
	fail(2)
	is("another one, after a third was reached", false)
	now = now.Add(lineFailed + 1)
	fail(1)
	is("another one, long after", false)
	for pause := lineDoubtMin; pause < 3*lineDoubtMax; pause *= 2 {
		fail(1, 2)
		d.note(who(0), who(1), true, now)
		now = now.Add(min(pause, lineDoubtMax) - 1)
		is("two targets", true)
		fail(1, 2)
		now = now.Add(1)
		is("the time is over", false)
	}
	now = now.Add(2 * lineDoubtMax)
	fail(1, 2)
	now = now.Add(lineDoubtMin)
	is("long after", false)
	for i := range 2 * blocktree.DownlinksMax {
		d.note(who(i+1000), who(1), false, now)
		d.note(who(i+1000), who(2), false, now)
	}
	if len(d.of) != blocktree.DownlinksMax {
		t.Errorf("%d members are remembered", len(d.of))
	}
	now = now.Add(2 * lineDoubtMax)
	d.note(who(4000), who(1), false, now)
	if d.of[who(4000)] == nil {
		t.Error("nothing makes room")
	}
}
