package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestReadOfThoseThatLeave: two of four members do not get a write and are removed, which the holder does not hear of. A leaseless
// reader returns the write, as all that remain hold it. The holder's next read must not be answered by those two alone.
func TestReadOfThoseThatLeave(t *testing.T) {
	for _, lease := range []bool{true, false} {
		for mutant, want := range map[string]int{"": 0, "readleaving": 1} {
			w := newWorld(blocktree.Code{Data: 2, Parity: 2}, 1, mutant)
			w.drop, w.quiet, w.lease = 0, true, true
			w.heal()
			var nodes [4]*testNode
			for i, m := range w.truth.View(0).Members {
				nodes[i] = w.node(m.Node)
			}
			w.block = func(m *Message) bool {
				return m.Kind == KindPrepare && (m.Node == nodes[2].id || m.Node == nodes[3].id)
			}
			w.writeAt(w.hid, w.h, 0, 0, 1)
			w.carry(nil)
			w.carry(nil)
			w.tick(time.Second) // the two are late
			w.removeUnheard(t)
			w.catchUp(nodes[0])
			w.catchUp(nodes[1])

			w.nextOp++
			w.ops[w.nextOp] = &testOp{read: true, count: 1, reader: true, floor: []blocktree.Version{w.floor[0]}}
			w.rd.Read(w.nextOp, w.truth, 0, 0, 1)
			w.runReader()
			for range 5 {
				w.carry(nil)
			}
			if w.readsOK != 1 || w.floor[0].IsZero() {
				t.Fatalf("%d leaseless reads were done, of %v", w.readsOK, w.floor[0])
			}

			w.nodeDown(nodes[0])
			w.nodeDown(nodes[1])
			w.nodeUp(nodes[2])
			w.nodeUp(nodes[3])
			if w.lease = lease; !lease {
				w.tick(time.Second)
			}
			w.nextOp++
			w.ops[w.nextOp] = &testOp{read: true, count: 1, floor: []blocktree.Version{w.floor[0]}, holder: w.hid}
			w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 1) })
			w.carry(nil)
			w.nodeUp(nodes[0])
			w.nodeUp(nodes[1])
			w.silence(10)
			if len(w.errs) != want || w.readsOK != 1+want {
				t.Errorf("%q, lease %v: %d reads were done: %v", mutant, lease, w.readsOK, w.errs)
			}
			w.block = nil
			w.heal()
			if len(w.errs) != want || w.readsOK != 2 {
				t.Errorf("%q, lease %v: %d reads were done in the end: %v", mutant, lease, w.readsOK, w.errs)
			}
		}
	}
}

// removeUnheard makes the removal that Raft is asked for; the holder does not hear of it.
func (w *world) removeUnheard(t *testing.T) {
	e := w.metas[0]
	w.metas = w.metas[1:]
	l, err := w.truth.Apply(*e.req.Change, nil)
	if err != nil || l.View(0).Count(Out) != 2 {
		t.Fatalf("%+v: %v", e.req.Change, err)
	}
	w.change(l)
	w.with(e.holder, func(h *Holder) { h.MetaDone(e.req.ID, nil, blocktree.Timeout) })
}
