package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// calm is a world without trouble, whole and with a lease that is renewed.
func calm(code blocktree.Code) *world {
	w := newWorld(code, 1, "")
	w.drop, w.quiet, w.lease = 0, true, true
	w.heal()
	return w
}

// turns lets everything happen n times, d apart.
func (w *world) turns(n int, d time.Duration) {
	for range n {
		w.carry(nil)
		for len(w.metas) > 0 {
			w.meta(0, false)
		}
		w.tick(d)
	}
}

// TestAbortsAreBounded: a member refuses no more versions than a holder can have in flight, and goes on once the watermark
// has passed some.
func TestAbortsAreBounded(t *testing.T) {
	n, l := one(t, "")
	abort := func(seq, mark blocktree.Sequence) blocktree.Kind {
		n.w.net = nil
		n.m.Step(&Message{Kind: KindAbort, ID: uint64(seq), Node: n.id, File: l.File, Epoch: l.Epoch, View: l.View(0).ID,
			Incarnation: incarnation(n.id, n.inc), Version: blocktree.Version{Epoch: l.Epoch, Sequence: seq},
			Watermark: blocktree.Version{Epoch: l.Epoch, Sequence: mark}, Last: true})
		n.drain()
		n.sync(len(n.log))
		if len(n.w.net) != 1 {
			t.Fatalf("%d answers", len(n.w.net))
		}
		return n.w.net[0].msg.Err
	}
	const first = 1000
	for i := range blocktree.Sequence(InFlightMax) {
		if err := abort(first+i, 0); err != blocktree.Other {
			t.Fatalf("abort %d is answered %v", i, err)
		}
	}
	if err := abort(first+InFlightMax, 0); err != blocktree.Busy {
		t.Errorf("one more than can be in flight is answered %v", err)
	}
	if err := abort(first, 0); err != blocktree.Other {
		t.Errorf("one that is refused already is answered %v", err)
	}
	if err := abort(first+InFlightMax, first+InFlightMax+9); err != blocktree.Busy {
		t.Errorf("one that its own watermark has passed is answered %v", err)
	}
	if err := abort(first+InFlightMax, first+9); err != blocktree.Other {
		t.Errorf("after the watermark passed some, it is answered %v", err)
	}
	if k := len(n.m.find(l.File).regions[0].aborted); k > InFlightMax {
		t.Errorf("%d are kept", k)
	}
}

// TestHolderAbortsAreBounded: a holder that is never without a read keeps no more aborted versions than can be in flight.
func TestHolderAbortsAreBounded(t *testing.T) {
	w := calm(blocktree.Code{Data: 2, Parity: 1})
	w.block = func(m *Message) bool { return m.Kind == KindRead }
	w.nextOp++
	w.ops[w.nextOp] = &testOp{read: true, count: 1, floor: make([]blocktree.Version, 1), holder: w.hid}
	w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 1) })
	r := w.h.region(0)
	for i := range blocktree.Sequence(3 * InFlightMax) {
		r.noteAborted(i)
		if len(r.aborted) > InFlightMax {
			t.Fatalf("%d are kept", len(r.aborted))
		}
	}
	w.block = nil
	w.turns(10, 10*time.Millisecond)
	if w.readsOK == 0 || len(w.ops) > 0 || len(w.errs) > 0 {
		t.Errorf("%d reads done, %d operations wait, %v", w.readsOK, len(w.ops), w.errs)
	}
}

// TestReadWithoutRaftEnds: a read that nobody can confirm, neither Raft nor the members, fails when it has waited as long as a write
// would.
func TestReadWithoutRaftEnds(t *testing.T) {
	w := calm(blocktree.Code{Data: 2, Parity: 1})
	w.block = func(m *Message) bool { return m.Kind == KindLearn }
	w.lease = false
	w.tick(time.Second)
	w.read(false)
	for start := w.now; w.now-start < 11*time.Second; w.tick(100 * time.Millisecond) {
		w.carry(nil)
		for len(w.metas) > 0 { // Raft has no majority
			e := w.metas[0]
			w.metas = w.metas[1:]
			w.with(e.holder, func(h *Holder) { h.MetaDone(e.req.ID, nil, blocktree.Unavailable) })
		}
	}
	if len(w.ops) > 0 || w.fails[blocktree.Unavailable] != 1 {
		t.Errorf("after %v %d operations wait, failures %v", 11*time.Second, len(w.ops), w.fails)
	}
}

// TestFlushWithALostMemory: while a member that cannot be removed has lost its memory, FLUSH does not say that all is well,
// whether Raft has said so to the holder or the member itself, and it fails in the end.
func TestFlushWithALostMemory(t *testing.T) {
	for _, marked := range []bool{false, true} {
		w := calm(blocktree.Code{Data: 2, Parity: 0})
		n := w.nodes[0]
		n.crash()
		n.log, n.synced = nil, 0
		n.inc++
		if marked {
			w.change(w.truth.Mark(n.id))
		}
		if err := n.restart(); err != nil {
			t.Fatal(err)
		}
		w.nodeUp(n)
		flush := func() {
			w.nextOp++
			w.ops[w.nextOp] = &testOp{holder: w.hid}
			w.with(w.hid, func(h *Holder) { h.Flush(w.nextOp) })
		}
		acked := w.acked
		flush() // what is known is what the member said
		w.turns(40, 20*time.Millisecond)
		if marked && !w.h.layout.Marked[n.id] {
			t.Error("the holder does not ask Raft what became of the member")
		}
		flush()
		w.turns(20, 20*time.Millisecond)
		if w.acked != acked || len(w.ops) != 2 {
			t.Errorf("marked %v: FLUSH succeeds", marked)
		}
		w.turns(110, 100*time.Millisecond)
		if len(w.ops) > 0 || w.fails[blocktree.Unavailable] != 2 {
			t.Errorf("marked %v: %d FLUSHes wait, failures %v", marked, len(w.ops), w.fails)
		}
	}
}
