package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// pass delivers what match says, and what comes of it, until nothing moves; the rest stays on its way.
func (w *world) pass(match func(*Message) bool) {
	for idle := 0; idle < 4; {
		moved := false
		w.route()
		net := w.net
		w.net = nil
		for _, e := range net {
			if !match(e.msg) {
				w.net = append(w.net, e)
				continue
			}
			moved = true
			w.deliver(e)
		}
		for _, n := range w.nodes {
			if n.up {
				n.sync(len(n.log))
				if len(n.catchup) > 0 {
					moved = true
					w.catchUp(n)
				}
			}
		}
		w.route()
		if idle++; moved {
			idle = 0
		}
	}
}

func (w *world) leaseless() {
	w.nextOp++
	w.ops[w.nextOp] = &testOp{read: true, count: 1, floor: []blocktree.Version{w.floor[0]}, reader: true}
	w.rd.Read(w.nextOp, w.truth, 0, 0, 1)
	w.runReader()
}

func (w *world) finish() {
	for range 60 {
		w.pass(func(*Message) bool { return true })
		for len(w.metas) > 0 {
			w.meta(0, false)
		}
		w.tick(20 * time.Millisecond)
	}
}

func reviewWorld(code blocktree.Code) *world {
	w := newWorld(code, 1, "")
	w.drop, w.quiet, w.lease = 0, true, true
	w.heal()
	return w
}

// A pending version that every unmarked in-sync member holds is returned by a reader, though the marked one refused it
// durably: the abort goes on and undoes what was read.
func TestMarkedRefuser(t *testing.T) {
	w := reviewWorld(blocktree.Code{Data: 2, Parity: 2})
	r := w.node(w.truth.View(0).Members[3].Node)
	r.full = true
	w.writeAt(w.hid, w.h, 0, 0, 1)
	w.pass(func(m *Message) bool { return m.Kind != KindAbort || m.Node == r.id }) // the final aborts wait
	r.inc = 2
	w.change(w.truth.Mark(r.id)) // it has started anew
	w.leaseless()
	w.pass(func(m *Message) bool { return m.Kind != KindAbort })
	t.Logf("read so far: %v, ok %d, fails %v", w.floor[0], w.readsOK, w.fails)
	w.pass(func(*Message) bool { return true }) // now the aborts arrive, still in the same view
	w.finish()
	w.leaseless()
	w.finish()
	if len(w.errs) > 0 {
		t.Error(w.errs)
	}
	t.Logf("ok %d, fails %v", w.readsOK, w.fails)
}

// The same with the take-over: the marked member answered FENCE before it was marked and is counted as not holding.
func TestMarkedFenced(t *testing.T) {
	w := reviewWorld(blocktree.Code{Data: 2, Parity: 2})
	r := w.node(w.truth.View(0).Members[3].Node)
	w.writeAt(w.hid, w.h, 0, 0, 1)
	w.pass(func(m *Message) bool { return !m.Answer && m.Kind == KindPrepare && m.Node != r.id })
	w.net = nil
	w.tick(time.Second)
	w.leaseTo = 0
	w.acquire()
	w.pass(func(m *Message) bool { return m.Kind == KindFence && m.Node == r.id })
	r.inc = 2
	w.change(w.truth.Mark(r.id))
	w.leaseless()
	w.pass(func(m *Message) bool { return m.Kind == KindRead })
	t.Logf("read so far: %v, ok %d, fails %v", w.floor[0], w.readsOK, w.fails)
	w.finish()
	w.leaseless()
	w.finish()
	if len(w.errs) > 0 {
		t.Error(w.errs)
	}
	t.Logf("ok %d, fails %v", w.readsOK, w.fails)
}

// After the refuser left, a joiner's refusal keeps an abort final, though readers do not ask joiners.
func TestJoinerRefuses(t *testing.T) {
	w := reviewWorld(blocktree.Code{Data: 2, Parity: 2})
	x, r := w.node(w.truth.View(0).Members[2].Node), w.node(w.truth.View(0).Members[3].Node)
	w.with(w.hid, func(h *Holder) { h.NodeDown(x.id) })
	w.meta(0, false)
	w.pass(func(*Message) bool { return true })
	w.with(w.hid, func(h *Holder) { h.NodeUp(x.id, incarnation(x.id, x.inc)) })
	for range 60 { // region 0 is joined; its listing never ends
		w.pass(func(m *Message) bool { return m.Kind != KindDigest })
		for len(w.metas) > 0 {
			w.meta(0, false)
		}
		if w.truth.View(0).Count(Joining) == 1 && w.h.job != nil && w.h.job.state == joinCopy {
			break
		}
		w.tick(20 * time.Millisecond)
	}
	if w.truth.View(0).Count(Joining) != 1 {
		t.Fatal(w.truth.View(0), w.truth.View(1))
	}
	r.full = true
	w.writeAt(w.hid, w.h, 0, 0, 1)
	w.pass(func(m *Message) bool {
		return m.Kind != KindDigest && (m.Kind != KindAbort || m.Node == r.id || m.Node == x.id)
	})
	w.with(w.hid, func(h *Holder) { h.NodeDown(r.id) })
	for len(w.metas) > 0 {
		w.meta(0, false)
	}
	w.leaseless()
	w.pass(func(m *Message) bool { return m.Kind != KindDigest && m.Kind != KindAbort })
	t.Logf("read so far: %v, ok %d, fails %v; view %v", w.floor[0], w.readsOK, w.fails, w.truth.View(0))
	w.finish()
	w.leaseless()
	w.finish()
	if len(w.errs) > 0 {
		t.Error(w.errs)
	}
	t.Logf("ok %d, fails %v, acked %d", w.readsOK, w.fails, w.acked)
}

// A member that answers a read with a pending extent whose end overflows makes the reader give out pieces beyond the run.
func TestOverflowingExtent(t *testing.T) {
	for _, x := range []Extent{
		{First: ^blocktree.SectorIndex(0), Count: 1, Version: blocktree.Version{Epoch: 9}, Kind: Data, Pending: true},
		{First: ^blocktree.SectorIndex(0) - 9, Count: 10, Version: blocktree.Version{Epoch: 9}, Kind: Data, Pending: true},
	} {
		w := reviewWorld(blocktree.Code{Data: 2, Parity: 1})
		var got *Done
		w.rd.Read(77, w.truth, 0, 2, 1)
		for range 20 {
			rd := w.rd.Ready()
			for _, d := range rd.Done {
				got = &d
			}
			for _, m := range rd.Messages {
				a := &Message{Kind: KindRead, Answer: true, ID: m.ID, Node: m.Node, File: m.File, Epoch: m.Epoch, View: m.View,
					Extents: []Extent{{First: 2, Count: 1}, x}}
				w.rd.Step(a)
			}
		}
		if got == nil {
			continue
		}
		if got.Err == 0 {
			for _, p := range got.Read.Pieces {
				if p.First != 2 || p.Count != 1 {
					t.Errorf("a read of 2+1 gives %d+%d kind %d", p.First, p.Count, p.Kind)
				}
			}
		}
	}
}

// Fields of an authenticated holder's messages that no rule checks.
func TestUncheckedFields(t *testing.T) {
	max := blocktree.Version{Epoch: 1 << 60, Sequence: 1}
	t.Run("repair", func(t *testing.T) {
		n, _ := one(t, "")
		l := n.w.truth.Acquire()
		n.m.Learn(l)
		base := Message{Node: n.id, File: l.File, Epoch: l.Epoch, Seq: l.Seq, Incarnation: incarnation(n.id, n.inc)}
		f := base
		f.Kind, f.ID = KindFence, 1
		n.ask(t, &f)
		for _, r := range []Repair{{Region: 1 << 30, Floor: blocktree.Version{Epoch: 1}}, {Region: 0, Floor: max}} {
			g := base
			g.Kind, g.ID, g.Repairs = KindRepair, 2, []Repair{r}
			if a := n.ask(t, &g); a.Err == 0 {
				t.Errorf("repair %v is taken", r)
			}
		}
		g := base
		g.Kind, g.ID, g.Last = KindRepair, 3, true
		n.ask(t, &g)
		before := len(n.log)
		if a := n.ask(t, n.prepare(l, 9, 1)); a.Err == 0 && len(n.log) == before {
			t.Error("after it a write is answered and not stored")
		}
	})
	t.Run("abort", func(t *testing.T) {
		n, l := one(t, "")
		m := n.prepare(l, 1, 50)
		m.Kind, m.Record, m.Version = KindAbort, nil, max
		if a := n.ask(t, m); a.Err == 0 {
			t.Errorf("an abort of %v under epoch %d is kept", max, l.Epoch)
		}
	})
	t.Run("many", func(t *testing.T) {
		n, l := one(t, "")
		for i := range blocktree.Sequence(InFlightMax + 2) {
			n.m.Step(n.prepare(l, uint64(i)+1, i+50))
		}
		n.drain()
		n.sync(len(n.log))
		if k := len(n.m.find(l.File).regions[0].pending); k > InFlightMax {
			t.Errorf("%d pending records are kept; a take-over's lists have room for %d", k, InFlightMax)
		}
	})
}

// TestMarkedBesideGone: a member that is to leave but has to stay, as another member was lost, does not keep that one in the view.
func TestMarkedBesideGone(t *testing.T) {
	w := reviewWorld(blocktree.Code{Data: 1, Parity: 1})
	stays, lost := w.node(1), w.node(2)
	lost.inc = 2
	w.change(w.truth.Mark(lost.id))
	w.with(w.hid, func(h *Holder) {
		h.adopt(w.truth)
		h.peer(stays.id).gone = true
		h.peer(lost.id).gone = true
	})
	w.writeAt(w.hid, w.h, 0, 0, 1)
	w.finish()
	if w.acked != 1 || len(w.errs) > 0 {
		t.Errorf("%d acknowledged, %+v, %v", w.acked, w.truth.View(0), w.errs)
	}
}
