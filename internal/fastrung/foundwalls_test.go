package fastrung

import (
	"testing"
	"testing/synctest"

	"blocktree"
)

// TestFoundBehindWalls: case 3 of DESIGN section 8 through firewalls. The only filesystem service is in a cluster that nobody can dial: it is found by asking above, dials who asks back, and where that is behind a firewall of its own what is
// said is relayed; rights are what they are without (F1 of 0042).
func TestFoundBehindWalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFoundWorld(t, "child")
		w.Net.Wall(w.child.NodeAddr(0))
		for _, walled := range []bool{false, true} {
			for _, x := range []struct {
				who  string
				uid  uint32
				want string
			}{{"owner", 1000, "rw /rack1"}, {"other", 1001, "-"}} {
				c := w.Finder(nil, x.who, x.uid, x.uid)
				all := w.Everybody()
				if walled {
					w.Net.Wall(all[len(all)-1])
				}
				if got := w.try(c, "/rack1/f", true); got != x.want {
					t.Errorf("%s, behind a wall %t: %s, want %s", x.who, walled, got, x.want)
				}
				if got := w.try(c, "/rack1/lab/open", false); got != "r /rack1" {
					t.Errorf("%s, of the grandchild, behind a wall %t: %s", x.who, walled, got)
				}
			}
		}
		nobody := w.Finder(nil, "", 0, 0)
		if _, err := nobody.Stat(t.Context(), w.Path("/rack1/lab/open")); blocktree.KindOf(err) == blocktree.Other {
			t.Error("nobody in particular has asked for a way")
		}
	})
}
