package meta

import (
	"testing"

	"blocktree"
)

// TestTakeBack: Y1. A directory is taken back before it is handed over, and after that while nothing was dropped and its founder has said that it drops first; by user id 0 only, with all that is in it; and nothing of its cluster is of use to anybody any more.
func TestTakeBack(t *testing.T) {
	first := hostCaller(below(1))
	handOver := func(drops bool) func(p, c *machine) {
		return func(p, c *machine) {
			takeAll(t, p, c, path("/rack"), 1)
			p.mustAs(first, HandOverSum{path("/rack"), 2, c.view().entriesSum(RootInode, path("/rack")), false, drops})
		}
	}
	dropped := func(p, c *machine) {
		handOver(true)(p, c)
		p.mustAs(first, DropMoved{path("/rack"), 2})
	}
	for name, x := range map[string]struct {
		before func(p, c *machine)
		want   blocktree.Kind
	}{
		"founding":                {func(_, _ *machine) {}, blocktree.Other},
		"handed over":             {handOver(true), blocktree.Other},
		"by a version before":     {handOver(false), blocktree.Busy},
		"by one of long before":   {func(p, _ *machine) { p.mustAs(first, HandOver{path("/rack"), 2}) }, blocktree.Busy},
		"dropped":                 {dropped, blocktree.Busy},
		"handed over once more":   {func(p, c *machine) { dropped(p, c); handOver(true)(p, c) }, blocktree.Busy},
		"another's by its number": {func(_, _ *machine) {}, blocktree.Fenced},
	} {
		t.Run(name, func(t *testing.T) {
			parent := delegatedTo(t)
			child := childOf(t, parent)
			entries := parent.view().entriesSum(fileID(1).Inode, path("/rack"))
			x.before(parent, child)
			o := TakeBack{path("/rack"), 2, true}
			if x.want == blocktree.Fenced {
				o.Generation = 3
			}
			if r := parent.as(first, 2, o); r.Kind != x.want || x.want == blocktree.Busy && r.Hint == "" {
				t.Fatalf("tried: %v, want %v", r.Kind, x.want)
			}
			if r := parent.as(somebody(10, 10), 2, o); r.Kind != blocktree.Permission {
				t.Errorf("tried by a stranger: %v", r.Kind)
			}
			o.Try = false
			if r := parent.as(first, 2, o); r.Kind != blocktree.Permission {
				t.Errorf("by the founder: %v", r.Kind)
			}
			if r := parent.as(admin(), 2, o); r.Kind != x.want {
				t.Fatalf("%v, want %v", r.Kind, x.want)
			}
			if x.want != blocktree.Other {
				return
			}
			takenBack(t, parent, child, entries)
		})
	}
}

// takenBack checks what a directory is that was taken back, and that its old cluster is none.
func takenBack(t *testing.T, parent, child *machine, entries EntriesSum) {
	t.Helper()
	first := hostCaller(below(1))
	if a := parent.view().judged(Query{Kind: QueryStat, Path: path("/rack/sub/g"), Caller: admin()}); a.Kind != blocktree.Other || parent.view().entriesSum(fileID(1).Inode, path("/rack")) != entries {
		t.Errorf("what was in it: %v", a.Kind)
	}
	parent.mustAs(admin(), SetAttr{File: fileID(2), Mask: AttrMode, Mode: 0o700}) // it stands still no more
	for _, o := range []Op{HandOver{path("/rack"), 2}, HandOverSum{path("/rack"), 2, entries, false, true}, DropMoved{path("/rack"), 2}, Delegate{path("/rack"), 2, below(1).Node}} {
		if r := parent.as(first, 2, o); r.Kind != blocktree.Permission { // it has no record any more
			t.Errorf("%T by the old founder: %v", o, r.Kind)
		}
	}
	for i := 1; i <= 2; i++ {
		if r := parent.do(PutBelow{below(i)}); r.Kind != blocktree.Exists || r.Hint == "" {
			t.Errorf("store %v is used again: %v", below(i).Node, r.Kind)
		}
	}
	next := with(below(1), func(r *blocktree.Runtime) { r.Node = 77 })
	parent.must(PutBelow{next})
	for _, o := range []Op{HandOver{path("/rack"), 2}, HandOverSum{path("/rack"), 2, entries, false, true}, DropMoved{path("/rack"), 2}, Delegate{path("/rack"), 2, below(1).Node}, Delegate{path("/rack"), 2, 77}} {
		if r := parent.as(first, 2, o); r.Kind == blocktree.Other {
			t.Errorf("%T of the old cluster is done", o)
		}
	}
	g := parent.mustAs(first, AssignGeneration{path("/rack"), 77}).Generation
	parent.mustAs(first, Delegate{path("/rack"), g, 77})
	if r := parent.as(first, 2, DropMoved{path("/rack"), 2}); r.Kind != blocktree.Fenced {
		t.Errorf("the old cluster has things dropped: %v", r.Kind)
	}
	if g == 2 {
		t.Error("a number is used again")
	}
}

// TestMovedNotYet: a file is not removed by its id as a moved one before its entry has gone: taken back, the directory would have a name of nothing.
func TestMovedNotYet(t *testing.T) {
	parent := delegatedTo(t)
	child := childOf(t, parent)
	takeAll(t, parent, child, path("/rack"), 1)
	refused := func(when string) {
		t.Helper()
		if r := parent.as(admin(), 2, RemoveMoved{fileID(3)}); r.Kind != blocktree.Unavailable || r.Hint == "" {
			t.Errorf("%s: %v", when, r.Kind)
		}
	}
	refused("delegated")
	first := hostCaller(below(1))
	parent.mustAs(first, HandOverSum{path("/rack"), 2, child.view().entriesSum(RootInode, path("/rack")), false, true})
	refused("handed over")
	parent.mustAs(first, DropMoved{path("/rack"), 2})
	parent.mustAs(admin(), RemoveMoved{fileID(3)})
}

// TestSpentIsBounded: stores of directories that were taken back have a bound, beyond which none is taken back.
func TestSpentIsBounded(t *testing.T) {
	parent := delegatedTo(t)
	b := parent.db.NewIndexedBatch()
	s := openState(b, b, spaceA)
	for n := range SpentMax - 1 {
		s.set(kindSpent, u64(uint64(1<<32+n)), nil)
	}
	if err := b.Commit(nil); err != nil {
		t.Fatal(err)
	}
	for _, try := range []bool{true, false} {
		if r := parent.as(admin(), 2, TakeBack{path("/rack"), 2, try}); r.Kind != blocktree.TooLarge {
			t.Errorf("%v", r.Kind)
		}
	}
}
