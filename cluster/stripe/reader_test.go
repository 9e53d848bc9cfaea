package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestReaderAsksAgain: a leaseless read of which one message was lost, or was answered Busy, ends well although there is
// nobody else to ask.
func TestReaderAsksAgain(t *testing.T) {
	for _, x := range []struct {
		name string
		lose func(w *world, m *Message)
		most time.Duration // the members' patience is 1 s, a read's 3 s
	}{
		{"lost", func(*world, *Message) {}, 1200 * time.Millisecond},
		{"busy", func(w *world, m *Message) {
			w.rd.Step(&Message{Kind: m.Kind, Answer: true, ID: m.ID, Node: m.Node, File: m.File, Epoch: m.Epoch, Err: blocktree.Busy})
			w.runReader()
		}, 200 * time.Millisecond},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := calm(blocktree.Code{Data: 2, Parity: 0})
			lost := false
			w.block = func(m *Message) bool {
				if m.Kind != KindRead || lost {
					return false
				}
				lost = true
				x.lose(w, m)
				return true
			}
			ok := w.readsOK
			w.leaseless()
			start := w.now
			for len(w.ops) > 0 && w.now-start < 10*time.Second {
				w.turns(1, 20*time.Millisecond)
			}
			if w.readsOK != ok+1 || w.now-start > x.most {
				t.Errorf("after %v: failures %v", w.now-start, w.fails)
			}
		})
	}
}

// TestReaderNeedsTheNewestLayout shows why the layout of a leaseless read must be one that Raft gave after the read was asked
// for (rule 6). A member that has left may not know it: restarted, it answers a reader under the view that both believe in.
// The quorum of a read meets that of every acknowledged write, but not what a read returned, pending, in a view of fewer than
// MinWrite members. So nobody but Raft can say that the view is old.
func TestReaderNeedsTheNewestLayout(t *testing.T) {
	for _, newest := range []bool{true, false} {
		w := calm(blocktree.Code{Data: 1, Parity: 2})
		view := w.truth.View(0).Members
		leaves := []*testNode{w.node(view[2].Node), w.node(view[0].Node)} // of two members the first is asked
		w.h.joinDelay = time.Hour
		var old *Layout // the last member to leave is in sync in it, and has learnt it
		for _, n := range leaves {
			old = w.truth
			n.crash()
			w.nodeDown(n)
			w.turns(10, 20*time.Millisecond)
		}
		last := leaves[1]
		if w.truth.View(0).Count(InSync) != 1 || old.View(0).Count(InSync) != 2 || last.learnt.Seq != old.Seq {
			t.Fatalf("not where the test wants it: %v after %v, node %d knows %d", w.truth.View(0), old.View(0), last.id, last.learnt.Seq)
		}
		w.writeAt(w.hid, w.h, 0, 0, 1) // is stored by the only member, which is too few to acknowledge it
		w.turns(10, 20*time.Millisecond)
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 1, floor: []blocktree.Version{{}}, holder: w.hid}
		w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 1) })
		w.turns(10, 20*time.Millisecond)
		if w.acked != 0 || w.floor[0].IsZero() || w.readsOK != 1 || len(w.errs) > 0 {
			t.Fatalf("%d writes acknowledged, %d reads, newest read %v, %v", w.acked, w.readsOK, w.floor[0], w.errs)
		}
		w.restart(last)
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 1, floor: []blocktree.Version{w.floor[0]}, reader: true}
		l := old
		if newest {
			l = w.truth
		}
		w.rd.Read(w.nextOp, l, 0, 0, 1)
		w.runReader()
		w.pass(func(m *Message) bool { return m.Kind == KindRead })
		if stale := len(w.errs) > 0; stale == newest || w.readsOK != 2 {
			t.Errorf("newest layout %v: %d reads, %v", newest, w.readsOK, w.errs)
		}
	}
}
