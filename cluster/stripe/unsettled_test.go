package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestUnsettled: where a take-over reached some members and ended there, nobody can read; every member in sync tells of that, also
// one that it did not reach.
func TestUnsettled(t *testing.T) {
	w := calm(blocktree.Code{Data: 2, Parity: 1})
	w.writeAt(w.hid, w.h, 0, 0, 2)
	w.turns(20, 20*time.Millisecond)
	tell := func() (n int) {
		for _, x := range w.nodes {
			if recovering, _ := x.m.Unsettled(w.truth); recovering {
				n++
			}
		}
		return n
	}
	if n := tell(); n != 0 {
		t.Fatalf("%d members tell of a take-over that is complete", n)
	}
	w.now = w.leaseTo
	w.lease = false
	w.acquire()
	deaf := map[blocktree.NodeID]bool{w.nodes[0].id: true}
	w.carry(deaf)
	w.h, w.old, w.metas = nil, nil, nil // it is dead
	for range 3 {
		w.carry(deaf)
	}
	failed := w.fails[blocktree.Recovering] + w.fails[blocktree.Unavailable]
	w.nextOp++
	w.ops[w.nextOp] = &testOp{read: true, count: 1, reader: true, floor: []blocktree.Version{{}}}
	w.rd.Read(w.nextOp, w.truth, 0, 0, 1)
	for range 100 {
		w.runReader()
		w.carry(nil)
		w.now += 50 * time.Millisecond
		w.rd.Tick(w.now)
	}
	if now := w.fails[blocktree.Recovering] + w.fails[blocktree.Unavailable]; now != failed+1 {
		t.Fatalf("the file can be read: %v", w.fails)
	}
	if n := tell(); n != 3 {
		t.Errorf("%d members of 3 tell that nobody can read", n)
	}
}
