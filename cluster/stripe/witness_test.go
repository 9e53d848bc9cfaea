package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// silence lets time pass while nobody hears anything of Raft.
func (w *world) silence(rounds int) {
	for range rounds {
		w.tick(50 * time.Millisecond)
		w.carry(nil)
		w.carry(nil)
		for len(w.metas) > 0 {
			e := w.metas[0]
			w.metas = w.metas[1:]
			w.with(e.holder, func(h *Holder) { h.MetaDone(e.req.ID, nil, blocktree.Timeout) })
		}
	}
}

// TestWitnesses: while Raft is silent a read without a lease completes with the word of every member, given after it was done.
func TestWitnesses(t *testing.T) {
	for mutant, want := range map[string][3]int{"": {1, 1, 2}, "witnesssome": {1, 2, 2}, "witnessearly": {1, 2, 3}} {
		w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, mutant)
		w.drop, w.quiet, w.lease = 0, true, true
		w.heal()
		w.lease = false
		w.tick(time.Second)
		member := w.truth.View(0).Members[2].Node
		for i, block := range []func(*Message) bool{
			nil,
			func(m *Message) bool { return m.Kind == KindLearn && m.Node == member },
			func(m *Message) bool { return m.Kind == KindLearn && m.Node != member },
		} {
			w.block = block
			w.read(false)
			for range 20 {
				w.carry(nil)
			}
			if i == 0 && w.readsOK != 0 {
				t.Errorf("%q: a read did not wait for Raft", mutant)
			}
			w.silence(30)
			if w.readsOK != want[i] {
				t.Errorf("%q: %d reads were done at step %d, not %d: %v", mutant, w.readsOK, i, want[i], w.fails)
			}
		}
	}
}

// TestWitnessesAfterTakeOver: a member that knows nothing of a later holder answers a read alone; another one does know.
func TestWitnessesAfterTakeOver(t *testing.T) {
	for mutant, want := range map[string]int{"": 0, "witnesssome": 1} {
		w := newWorld(blocktree.Code{Data: 1, Parity: 2}, 1, mutant)
		w.drop, w.quiet, w.lease = 0, true, true
		w.heal()
		view := w.truth.View(0).Members
		w.nodeDown(w.node(view[0].Node))
		w.finish() // two are left, and one of them is enough to read from
		w.lease = false
		w.tick(time.Second)
		w.change(w.truth.Acquire())
		w.catchUp(w.node(view[1].Node))
		w.block = func(m *Message) bool { return m.Kind == KindRead && m.Node == view[1].Node }
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 1, floor: []blocktree.Version{w.floor[0]}, holder: w.hid}
		w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 1) })
		w.block = func(m *Message) bool { return m.Node == view[1].Node } // what it says comes late
		w.silence(18)
		if w.readsOK != want {
			t.Errorf("%q: %d reads were done", mutant, w.readsOK)
		}
		w.block = nil
		w.nodeUp(w.node(view[1].Node)) // a new connection: it is asked again
		w.silence(40)
		if want == 0 && (w.readsOK != 0 || !w.h.Fenced()) {
			t.Errorf("%d reads were done; fenced: %v", w.readsOK, w.h.Fenced())
		}
	}
}

// TestWitnessLeaves: a member that says nothing is removed, the last that Raft does: those that have spoken are enough then.
func TestWitnessLeaves(t *testing.T) {
	w := newWorld(blocktree.Code{Data: 1, Parity: 2}, 1, "")
	w.drop, w.quiet, w.lease = 0, true, true
	w.heal()
	w.lease = false
	w.tick(time.Second)
	mute := w.truth.View(0).Members[2].Node
	w.block = func(m *Message) bool { return m.Kind == KindLearn && m.Node == mute }
	w.read(false)
	w.silence(18)
	if w.readsOK != 0 {
		t.Errorf("a read was done without the word of %v", mute)
	}
	for range 40 {
		w.tick(50 * time.Millisecond)
		w.carry(nil)
		for len(w.metas) > 0 {
			if e := w.metas[0]; e.req.Change == nil {
				w.metas = w.metas[1:]
				w.with(e.holder, func(h *Holder) { h.MetaDone(e.req.ID, nil, blocktree.Timeout) })
			} else {
				w.meta(0, false)
			}
		}
	}
	if w.readsOK != 1 {
		t.Errorf("%d reads were done with %v out: %v", w.readsOK, mute, w.truth.View(0))
	}
}
