package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestHeirWithoutSpaceIsPromoted: an heir that Raft was asked to promote has no space for a write. Until it is known that it was not promoted, the
// others do not all get that write: a leaseless reader would return it, and a take-over under the view with the heir would void it.
func TestHeirWithoutSpaceIsPromoted(t *testing.T) {
	for _, outcome := range []string{"open", "unknown", "unknown, and the view confirmed"} {
		w, spare := withSpare(blocktree.Code{Data: 2, Parity: 1}, "")
		w.writeAt(w.hid, w.h, 0, 0, 1)
		w.turns(20, 20*time.Millisecond)
		e := w.untilPromotion(t, w.truth.View(0).Members[1].Node)
		w.metas = w.metas[1:]
		confirms := outcome == "unknown, and the view confirmed"
		timeout := func(e metaEnv) { w.with(e.holder, func(h *Holder) { h.MetaDone(e.req.ID, nil, blocktree.Timeout) }) }
		slow := func() { // Raft changes nothing yet, and reads only if it is to
			for range len(w.metas) {
				if m := w.metas[0]; confirms && m.req.Change == nil {
					w.meta(0, false)
				} else if w.metas = w.metas[1:]; confirms {
					timeout(m)
				}
			}
		}
		if outcome == "unknown" {
			timeout(e)
			slow()
		}
		spare.full = true
		w.writeAt(w.hid, w.h, 0, 0, 1)
		for i := range 6 {
			if w.carry(nil); confirms && i == 2 {
				timeout(e)
			}
			for range 3 {
				slow()
				if confirms {
					w.tick(time.Millisecond)
				}
			}
		}
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 1, reader: true, floor: []blocktree.Version{w.floor[0]}}
		w.rd.Read(w.nextOp, w.truth, 0, 0, 1)
		w.runReader()
		for range 6 {
			w.carry(nil)
			slow()
		}
		if w.readsOK != 1 {
			t.Fatalf("%d leaseless reads were done", w.readsOK)
		}
		l, err := w.truth.Apply(*e.req.Change, func(n blocktree.NodeID) blocktree.Incarnation { return incarnation(n, 1) })
		if err != nil || !l.View(0).has(spare.id) || l.View(0).Heir != 0 {
			t.Fatalf("not promoted: %v", err)
		}
		w.change(l)
		w.now = w.leaseTo
		w.net, w.lease = nil, false
		w.acquire()
		w.lease, spare.full = true, false
		w.turns(20, 20*time.Millisecond)
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 1, floor: []blocktree.Version{w.floor[0]}, holder: w.hid}
		w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 1) })
		w.turns(20, 20*time.Millisecond)
		if w.readsOK != 2 || len(w.errs) > 0 {
			t.Errorf("%s: %d reads were done: %v", outcome, w.readsOK, w.errs)
		}
	}
}

// TestHeirGivenUpBeforeALatePromotion: Raft is asked to promote an heir, and does not say whether it did; asked again, it refuses, as it does while
// the heir is to be drained itself. The heir has no space for a write, so that the move is given up. The first question may be answered still: until
// the heir is out, the others do not all get that write: be it refused after, or before and not asked a third time, as Raft has to do with another
// member that was away for a moment.
func TestHeirGivenUpBeforeALatePromotion(t *testing.T) {
	for _, order := range []string{"no space, then refused", "refused, then no space"} {
		w, spare := withSpare(blocktree.Code{Data: 2, Parity: 1}, "")
		w.writeAt(w.hid, w.h, 0, 0, 1)
		w.turns(20, 20*time.Millisecond)
		late := w.untilPromotion(t, w.truth.View(0).Members[1].Node)
		w.metas = w.metas[1:]
		w.with(late.holder, func(h *Holder) { h.MetaDone(late.req.ID, nil, blocktree.Timeout) })
		again := w.promotionAgain(t)
		noSpace := func() {
			spare.full = true
			w.writeAt(w.hid, w.h, 0, 0, 1)
			w.carry(nil)
			w.carry(nil)
		}
		refuse := func() { w.with(again.holder, func(h *Holder) { h.MetaDone(again.req.ID, w.truth, blocktree.Busy) }) }
		if order == "no space, then refused" {
			noSpace()
			refuse()
		} else {
			third := w.node(w.truth.View(0).Members[2].Node)
			w.with(w.hid, func(h *Holder) { h.NodeDown(third.id) })
			refuse()
			w.nodeUp(third)
			noSpace()
		}
		for range 10 { // Raft is slow, and tells nothing more
			w.carry(nil)
			w.metas = nil
			w.tick(time.Millisecond)
		}
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 1, reader: true, floor: []blocktree.Version{w.floor[0]}}
		w.rd.Read(w.nextOp, w.truth, 0, 0, 1)
		w.runReader()
		for range 6 {
			w.carry(nil)
		}
		if w.readsOK != 1 {
			t.Fatalf("%s: %d leaseless reads were done", order, w.readsOK)
		}
		l, err := w.truth.Apply(*late.req.Change, func(n blocktree.NodeID) blocktree.Incarnation { return incarnation(n, 1) })
		if err != nil || !l.View(0).has(spare.id) || l.View(0).Heir != 0 {
			t.Fatalf("%s: not promoted: %v", order, err)
		}
		w.change(l)
		w.now = w.leaseTo
		w.net, w.metas, w.lease = nil, nil, false
		w.acquire()
		w.lease, spare.full = true, false
		w.turns(20, 20*time.Millisecond)
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 1, floor: []blocktree.Version{w.floor[0]}, holder: w.hid}
		w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 1) })
		w.turns(20, 20*time.Millisecond)
		if w.readsOK != 2 || len(w.errs) > 0 {
			t.Errorf("%s: %d reads were done: %v", order, w.readsOK, w.errs)
		}
	}
}

// promotionAgain lets Raft answer what it is asked of the layout, until it is asked for the promotion once more, and leaves that asked.
func (w *world) promotionAgain(t *testing.T) metaEnv {
	t.Helper()
	for range 20 {
		for len(w.metas) > 0 {
			if e := w.metas[0]; e.req.Change != nil && e.req.Change.Kind == ChangePromote {
				w.metas = w.metas[1:]
				return e
			}
			w.meta(0, false)
		}
		w.tick(time.Millisecond)
	}
	t.Fatal("the promotion is not asked for again")
	return metaEnv{}
}
