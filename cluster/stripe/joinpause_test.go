package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestOneBadSector: a sector that cannot be rebuilt keeps its own region from being copied up, not the others, and is not
// tried at every tick; once it is overwritten its region is copied up too.
func TestOneBadSector(t *testing.T) {
	w := calm(blocktree.Code{Data: 2, Parity: 1})
	for r := range blocktree.RegionIndex(testRegions) {
		w.writeAt(w.hid, w.h, r, blocktree.SectorIndex(r)*testRegion, 2)
	}
	w.turns(20, 100*time.Millisecond)
	view := w.truth.View(0).Members
	joiner, bad := w.node(view[2].Node), w.node(view[0].Node)
	w.with(w.hid, func(h *Holder) { h.NodeDown(joiner.id) })
	w.turns(5, 20*time.Millisecond)
	e := bad.index[0]
	e.damaged = true
	bad.index[0] = e
	w.nodeUp(joiner)
	w.turns(2400, 25*time.Millisecond)
	states := [testRegions]int{w.truth.View(0).Count(InSync), w.truth.View(1).Count(InSync)}
	if states != [testRegions]int{2, 3} {
		t.Errorf("in sync after a minute: %v", states)
	}
	s := w.h.Stats()
	if s.CopyUpsGivenUp < 2 || s.CopyUpsGivenUp > 4 || s.CopyUpUnreadable > s.CopyUpsGivenUp*copyTriesMax {
		t.Errorf("given up %d times after %d tries", s.CopyUpsGivenUp, s.CopyUpUnreadable)
	}
	acked := w.acked
	w.writeAt(w.hid, w.h, 0, 0, 1)
	w.turns(20, 25*time.Millisecond)
	if w.acked != acked+1 {
		t.Error("a write waits for the copy-up")
	}
	w.turns(2400, 25*time.Millisecond)
	if n := w.truth.View(0).Count(InSync); n != 3 || len(w.h.joinPauses) > 0 || len(w.errs) > 0 {
		t.Errorf("overwritten: %d in sync, %d pauses, %v", n, len(w.h.joinPauses), w.errs)
	}
}
