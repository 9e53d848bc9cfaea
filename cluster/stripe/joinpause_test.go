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
	for r := range blocktree.RegionIndex(testRegions) { // or nothing would have to be copied
		w.writeAt(w.hid, w.h, r, blocktree.SectorIndex(r)*testRegion, 2)
	}
	w.turns(20, 20*time.Millisecond)
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
	if s.CopyUpsGivenUp < 2 || s.CopyUpsGivenUp > 4 || s.CopyUpUnreadable > s.CopyUpsGivenUp*(copyTriesMax+testRegion) {
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

// TestJoinerWithoutJob: one member joins by a change whose outcome the holder never heard, another could join: the first is
// copied up before the second joins, or the two wait for each other.
func TestJoinerWithoutJob(t *testing.T) {
	w := calm(blocktree.Code{Data: 1, Parity: 2})
	w.writeAt(w.hid, w.h, 0, 0, 2)
	w.turns(20, 20*time.Millisecond)
	view := w.truth.View(0).Members
	early, late := w.node(view[1].Node), w.node(view[2].Node)
	w.with(w.hid, func(h *Holder) { h.NodeDown(early.id); h.NodeDown(late.id) })
	w.turns(5, 20*time.Millisecond)
	w.writeAt(w.hid, w.h, 0, 0, 2)
	w.turns(5, 20*time.Millisecond)
	w.mustChange(t, late, Change{Kind: ChangeJoin})
	w.nodeUp(early)
	w.nodeUp(late)
	w.turns(400, 25*time.Millisecond)
	for _, l := range w.past {
		if n := l.View(0).Count(Joining); n > 1 {
			t.Errorf("%d members join at once under view %d", n, l.View(0).ID)
		}
	}
	if n := w.truth.View(0).Count(InSync); n != 3 || len(w.errs) > 0 {
		t.Errorf("%d in sync, %v", n, w.errs)
	}
}

// TestBadIndexPages: nor does a region that nobody in sync can list keep the others waiting.
func TestBadIndexPages(t *testing.T) {
	w := calm(blocktree.Code{Data: 1, Parity: 2})
	w.turns(20, 20*time.Millisecond)
	view := w.truth.View(0).Members
	joiner := w.node(view[2].Node)
	w.with(w.hid, func(h *Holder) { h.NodeDown(joiner.id) })
	w.turns(5, 20*time.Millisecond)
	for r := range blocktree.RegionIndex(testRegions) {
		w.writeAt(w.hid, w.h, r, blocktree.SectorIndex(r)*testRegion, 2)
	}
	w.turns(20, 20*time.Millisecond)
	for _, m := range view[:2] {
		w.node(m.Node).badPage = true
	}
	w.nodeUp(joiner)
	w.turns(2400, 25*time.Millisecond)
	states := [testRegions]int{w.truth.View(0).Count(InSync), w.truth.View(1).Count(InSync)}
	if states != [testRegions]int{2, 3} || w.h.Stats().CopyUpsGivenUp < 2 {
		t.Errorf("in sync after a minute: %v; given up %d times", states, w.h.Stats().CopyUpsGivenUp)
	}
	for _, m := range view[:2] {
		w.node(m.Node).badPage = false
	}
	w.turns(2400, 25*time.Millisecond)
	if n := w.truth.View(0).Count(InSync); n != 3 || len(w.h.joinPauses) > 0 || len(w.errs) > 0 {
		t.Errorf("mended: %d in sync, %d pauses, %v", n, len(w.h.joinPauses), w.errs)
	}
}

// TestCopyUpPastABadPage: a member in sync that cannot read a page of its index keeps nobody from being copied up from the others, if they are
// enough.
func TestCopyUpPastABadPage(t *testing.T) {
	for _, code := range []blocktree.Code{{Data: 1, Parity: 2}, {Data: 2, Parity: 2}, {Data: 4, Parity: 2}} {
		w := calm(code)
		w.turns(20, 20*time.Millisecond)
		view := w.truth.View(0).Members
		joiner, bad := w.node(view[code.Shards()-1].Node), w.node(view[0].Node)
		w.with(w.hid, func(h *Holder) { h.NodeDown(joiner.id) })
		w.turns(5, 20*time.Millisecond)
		w.writeAt(w.hid, w.h, 0, 0, 2)
		w.turns(20, 20*time.Millisecond)
		bad.badPage, bad.noRead = true, true
		w.nodeUp(joiner)
		w.turns(100, 25*time.Millisecond)
		if n := w.truth.View(0).Count(InSync); n != code.Shards() || joiner.index[0].version.IsZero() || len(w.errs) > 0 {
			t.Errorf("%v: %d in sync, the joiner has %v, %v", code, n, joiner.index[0].version, w.errs)
		}
	}
}

// TestCopyUpBesideOneThatLeaves: a member in sync that goes away or starts anew while another is compared with it, and that cannot be removed before
// that one is in sync, is not waited for: a joiner that missed nothing comes in.
func TestCopyUpBesideOneThatLeaves(t *testing.T) {
	for _, comesBack := range []bool{false, true} {
		w := calm(blocktree.Code{Data: 2, Parity: 1})
		w.writeAt(w.hid, w.h, 0, 0, 2)
		w.turns(20, 100*time.Millisecond)
		view := w.truth.View(0).Members
		joiner, leaver := w.node(view[2].Node), w.node(view[1].Node)
		w.with(w.hid, func(h *Holder) { h.NodeDown(joiner.id) })
		w.turns(5, 20*time.Millisecond)
		w.block = func(m *Message) bool { return m.Kind == KindDigest && m.Node == leaver.id }
		w.nodeUp(joiner)
		for i := 0; i < 40 && (w.h.job == nil || w.h.job.state != joinCopy); i++ {
			w.turns(1, 20*time.Millisecond)
		}
		if w.h.job == nil || w.h.job.region != 0 || w.h.job.state != joinCopy {
			t.Fatal("nobody is compared in region 0")
		}
		leaver.crash()
		w.nodeDown(leaver)
		w.block = nil
		if comesBack {
			leaver.inc++
			w.change(w.truth.Mark(leaver.id))
			w.restart(leaver)
		}
		w.turns(200, 20*time.Millisecond)
		if v := w.truth.View(0); v.Members[2].State != InSync || len(w.errs) > 0 {
			t.Errorf("comes back %v: %+v, %v", comesBack, v, w.errs)
		}
	}
}

// TestPausedIsCompared: a member that had missed nothing up to its newest version when it joined is compared all the same after
// a pause, though by then it has committed, as any write, what is the newest everywhere.
func TestPausedIsCompared(t *testing.T) {
	for mutant, inSync := range map[string]int{"": 2, "skippaused": 3} {
		w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, mutant)
		w.drop, w.quiet, w.lease = 0, true, true
		w.heal()
		for range 2 {
			w.writeAt(w.hid, w.h, 0, 0, 2)
			w.turns(20, 100*time.Millisecond)
		}
		view := w.truth.View(0).Members
		joiner, bad := w.node(view[2].Node), w.node(view[0].Node)
		w.with(w.hid, func(h *Holder) { h.NodeDown(joiner.id) })
		w.turns(5, 20*time.Millisecond)
		w.writeAt(w.hid, w.h, 0, 0, 1)
		w.turns(20, 20*time.Millisecond)
		e := bad.index[0]
		e.damaged = true
		bad.index[0] = e
		w.h.joinAt = 1 // so that no view changes while region 0 is left alone
		w.nodeUp(joiner)
		w.turns(80, 25*time.Millisecond)
		if s := w.h.Stats(); w.truth.View(1).Count(InSync) != 3 || s.CopyUpsGivenUp != 1 || w.h.job != nil {
			t.Fatalf("not where the test wants it: %d in sync, given up %d times", w.truth.View(1).Count(InSync), s.CopyUpsGivenUp)
		}
		w.writeAt(w.hid, w.h, 0, 4, 1)
		w.turns(2400, 25*time.Millisecond)
		if n := w.truth.View(0).Count(InSync); n != inSync || len(w.errs) > 0 {
			t.Errorf("%q: %d in sync, of sector 0 the joiner has %v, acknowledged was %v, %v", mutant, n, joiner.index[0].version, w.floor[0], w.errs)
		}
	}
}

// TestPausedRefusesStill: what a joiner refused before a pause it refuses after it. A late copy of an aborted write that it took
// would be committed by the next watermark.
func TestPausedRefusesStill(t *testing.T) {
	for mutant, takes := range map[string]bool{"": false, "resetagain": true} {
		if took := takenAfterPause(t, mutant); took != takes {
			t.Errorf("%q: the joiner has committed what was undone: %v", mutant, took)
		}
	}
}

// takenAfterPause undoes a write while a joiner is left alone, has a late copy of it come after that, and reports whether the joiner
// commits it.
func takenAfterPause(t *testing.T, mutant string) bool {
	w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, mutant)
	w.drop, w.quiet, w.lease = 0, true, true
	w.heal()
	for r := range blocktree.RegionIndex(testRegions) {
		w.writeAt(w.hid, w.h, r, blocktree.SectorIndex(r)*testRegion, 8-2*uint32(r))
	}
	w.turns(20, 100*time.Millisecond)
	view := w.truth.View(0).Members
	bad, slow, joiner := w.node(view[0].Node), w.node(view[1].Node), w.node(view[2].Node)
	w.with(w.hid, func(h *Holder) { h.NodeDown(joiner.id) })
	w.turns(5, 20*time.Millisecond)
	w.writeAt(w.hid, w.h, 0, 0, 1)
	w.turns(20, 20*time.Millisecond)
	e := bad.index[0]
	e.damaged = true
	bad.index[0] = e
	w.nodeUp(joiner)
	w.turns(200, 25*time.Millisecond)
	if w.truth.View(1).Count(InSync) != 3 || w.h.Stats().CopyUpsGivenUp != 1 || w.h.job != nil {
		t.Fatal("region 0 is not left alone while region 1 is in sync")
	}
	r := w.h.region(0)
	held, aborted := r.seq+1, r.seq+2 // held is not acknowledged and keeps the watermark below both
	var late *Message
	w.block = func(m *Message) bool {
		if m.Kind == KindPrepare && m.Version.Sequence == aborted && m.Node == joiner.id && late == nil {
			late = m
		}
		return m.Kind == KindPrepare && m.Version.Sequence == held && m.Node == slow.id
	}
	w.writeAt(w.hid, w.h, 0, 4, 1)
	w.turns(2, 20*time.Millisecond)
	bad.full = true
	w.writeAt(w.hid, w.h, 0, 6, 1)
	w.turns(10, 20*time.Millisecond)
	bad.full = false
	if w.fails[blocktree.NoSpace] != 1 || late == nil || r.mark >= held {
		t.Fatalf("no write was undone above the watermark: %v", w.fails)
	}
	e.damaged = false
	bad.index[0] = e
	for range 600 { // it is there again before the copy-up is over
		w.turns(1, 25*time.Millisecond)
		if w.h.job != nil && w.h.job.state == joinCopy {
			w.net = append(w.net, &envelope{late, w.hid})
		}
	}
	w.block = nil
	w.turns(200, 25*time.Millisecond)
	// In the other run the members do not agree on what was undone, so that nobody more can join them; but the joiner has.
	if v := w.truth.View(0); v.standing(joiner.id) != InSync || mutant == "" && v.Count(InSync) != 3 {
		t.Fatal("region 0 is not in sync")
	}
	if len(w.errs) > 0 {
		t.Error(w.errs)
	}
	return joiner.index[6].version == blocktree.Version{Epoch: w.truth.Epoch, Sequence: aborted}
}

// TestForgetBeforePause: a region is not left while its joiner may have yet to forget it. What was found equal later would be lost
// by a late request.
func TestForgetBeforePause(t *testing.T) {
	w := calm(blocktree.Code{Data: 2, Parity: 1})
	w.turns(20, 20*time.Millisecond)
	view := w.truth.View(0).Members
	joiner := w.node(view[2].Node)
	w.with(w.hid, func(h *Holder) { h.NodeDown(joiner.id) })
	w.turns(5, 20*time.Millisecond)
	w.writeAt(w.hid, w.h, 0, 0, 1)
	w.turns(20, 20*time.Millisecond)
	joiner.badPage = true
	asked := 0
	w.block = func(m *Message) bool {
		if m.Kind == KindForget {
			asked++
		}
		return m.Kind == KindForget
	}
	w.nodeUp(joiner)
	for range 100 {
		if w.turns(1, 20*time.Millisecond); asked > 0 {
			break
		}
	}
	for range copyTriesMax { // copies that were in flight
		w.with(w.hid, func(h *Holder) {
			if h.job != nil {
				h.job.vain()
			}
		})
	}
	if asked == 0 || w.h.job == nil || w.h.job.state != joinForget {
		t.Fatal("the region is left with a request to forget on its way")
	}
	joiner.badPage, w.block = false, nil
	w.turns(400, 25*time.Millisecond)
	if n := w.truth.View(0).Count(InSync); n != 3 || len(w.errs) > 0 {
		t.Errorf("%d in sync, %v", n, w.errs)
	}
}
