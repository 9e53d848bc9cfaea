package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestCommitIsNeverAnswered: whatever becomes of a Commit, nobody waits for an answer to it, and its id is nobody's.
func TestCommitIsNeverAnswered(t *testing.T) {
	const id = 77
	for _, x := range []struct {
		name  string
		spoil func(n *testNode, m *Message)
	}{
		{"good", func(*testNode, *Message) {}},
		{"older epoch", func(_ *testNode, m *Message) { m.Epoch-- }},
		{"other incarnation", func(_ *testNode, m *Message) { m.Incarnation = blocktree.Incarnation{9} }},
		{"a view that Raft never had", func(_ *testNode, m *Message) { m.View += 9 }},
		{"an epoch that Raft never had", func(_ *testNode, m *Message) { m.Epoch += 9 }},
		{"a file that nobody knows", func(_ *testNode, m *Message) { m.File.Inode += 9 }},
		{"too many that wait", func(n *testNode, m *Message) {
			m.View += 9
			for range ParkedMax {
				c := *m
				n.m.Step(&c)
			}
		}},
	} {
		for _, end := range []struct {
			name string
			do   func(n *testNode, f blocktree.FileID)
		}{
			{"caught up", func(n *testNode, f blocktree.FileID) { n.m.CaughtUp(f) }},
			{"forgotten", func(n *testNode, f blocktree.FileID) { n.m.Forget(f) }},
		} {
			t.Run(x.name+", "+end.name, func(t *testing.T) {
				n, l := one(t, "")
				m := &Message{Kind: KindCommit, ID: id, Node: n.id, File: l.File, Epoch: l.Epoch, View: l.View(0).ID,
					Incarnation: incarnation(n.id, n.inc), Watermark: blocktree.Version{Epoch: l.Epoch, Sequence: 1}}
				x.spoil(n, m)
				n.w.net = nil
				n.m.Step(m)
				for range 3 {
					n.drain()
					n.sync(len(n.log))
					end.do(n, m.File)
				}
				n.drain()
				for _, e := range n.w.net {
					if e.msg.Kind == KindCommit {
						t.Fatalf("answered %v under id %d", e.msg.Err, e.msg.ID)
					}
				}
			})
		}
	}
}

// TestWatermarkIsToldAgain: a Commit that a view change overtakes is refused, and nobody hears of that. Whoever holds the file tells the watermark under the newer view, and is
// not idle before.
func TestWatermarkIsToldAgain(t *testing.T) {
	w := calm(blocktree.Code{Data: 2, Parity: 1})
	w.turns(20, 10*time.Millisecond)
	acked := w.acked
	w.writeAt(w.hid, w.h, 0, 0, 1)
	w.turns(4, time.Millisecond)
	told := func(r blocktree.RegionIndex) (n int) {
		for _, e := range w.net {
			if e.msg.Kind == KindCommit && e.msg.Region == r {
				n++
			}
		}
		return n
	}
	waits := func() (n int) {
		for _, x := range w.nodes {
			if _, pending := x.m.Unsettled(w.truth); pending {
				n++
			}
		}
		return n
	}
	w.tick(idleCommit)
	if w.acked != acked+1 || told(0) != 3 || waits() != 3 {
		t.Fatalf("%d writes acknowledged, %d members told, %d wait for it", w.acked-acked, told(0), waits())
	}
	next := w.truth.clone() // as where the copy-up of another region was the last (0001, decision 16)
	next.Seq++
	next.BaseID = next.Seq
	w.change(next)
	for _, n := range w.nodes {
		w.catchUp(n)
	}
	w.carry(nil)
	if waits() != 3 {
		t.Fatalf("%d members go by a Commit of the view before", 3-waits())
	}
	w.h.region(1) // known, and never told of
	w.with(w.hid, func(h *Holder) { h.Refresh() })
	w.meta(0, false)
	if w.h.Idle() || len(w.h.dirty) != 1 {
		t.Errorf("the holder owes %d regions a watermark, and is idle: %v", len(w.h.dirty), w.h.Idle())
	}
	w.tick(idleCommit)
	if told(0) != 3 || told(1) != 0 {
		t.Errorf("%d members are told the watermark again, %d that of a region without writes", told(0), told(1))
	}
	w.turns(3, time.Millisecond)
	if n := waits(); n > 0 || !w.h.Idle() {
		t.Errorf("%d of 3 members do not know that a write is acknowledged, the holder is idle: %v", n, w.h.Idle())
	}
}
