package meta

import (
	"testing"

	"blocktree"
)

// TestOnTheWay: a directory beneath another is on its way from when its cluster is founded until what it has is dropped, or it is taken back.
func TestOnTheWay(t *testing.T) {
	deep := with(below(1), func(r *blocktree.Runtime) { r.Path, r.Node = path("/rack/sub/node1"), 31 })
	deepCaller := hostCaller(deep)
	for _, ends := range []string{"dropped", "taken back"} {
		m := racked(t)
		is := func(when string, want blocktree.Path) {
			t.Helper()
			if got := m.view().onTheWay(path("/rack")); got != want {
				t.Errorf("%s: %q", when, got)
			}
		}
		m.must(PutBelow{deep})
		is("a record", "")
		g := m.mustAs(deepCaller, AssignGeneration{path("/rack/sub"), deep.Node}).Generation
		m.mustAs(deepCaller, Delegate{path("/rack/sub"), g, deep.Node})
		is("founded", path("/rack/sub"))
		if m.view().onTheWay(path("/rack/sub")) != "" || m.view().onTheWay(path("/vm")) != "" {
			t.Error("it is in its own way, or in another's")
		}
		sum := m.view().entriesSum(fileID(2).Inode, path("/rack/sub"))
		m.mustAs(deepCaller, HandOverSum{path("/rack/sub"), g, sum, false, true})
		is("handed over", path("/rack/sub"))
		if ends == "dropped" {
			m.mustAs(deepCaller, DropMoved{path("/rack/sub"), g})
		} else {
			m.mustAs(admin(), TakeBack{path("/rack/sub"), g, false})
		}
		is(ends, "")
	}
}
