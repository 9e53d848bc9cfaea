package stripe

import (
	"slices"
	"testing"
	"time"

	"blocktree"
)

// changer applies changes to a layout under the right epoch and view.
type changer struct{ l *Layout }

func (c *changer) do(kind ChangeKind, r blocktree.RegionIndex, inc byte, nodes ...blocktree.NodeID) error {
	n, err := c.l.Apply(Change{File: c.l.File, Epoch: c.l.Epoch, Seq: c.l.Seq, Kind: kind, Nodes: nodes, Region: r, Incarnation: blocktree.Incarnation{inc}},
		func(n blocktree.NodeID) blocktree.Incarnation { return blocktree.Incarnation{byte(n)} })
	if err == nil {
		c.l = n
	}
	return err
}

// spareOf is a host without a place in a region.
func spareOf(l *Layout, r blocktree.RegionIndex) blocktree.NodeID {
	v := l.View(r)
	return l.Hosts[slices.IndexFunc(l.Hosts, func(n blocktree.NodeID) bool { return !v.has(n) })]
}

// TestMoveInLayout: an heir joins beside the member that it follows, counts for nothing, and takes its place in one step.
func TestMoveInLayout(t *testing.T) {
	c := &changer{placedLayout(t)}
	v := c.l.View(0)
	old, to := v.Members[1].Node, spareOf(c.l, 0)
	for what, err := range map[string]error{
		"to a member":          c.do(ChangeMove, 0, byte(v.Members[0].Node), old, v.Members[0].Node),
		"from nobody":          c.do(ChangeMove, 0, byte(to), to, to),
		"another incarnation":  c.do(ChangeMove, 0, 77, old, to),
		"a region that is not": c.do(ChangeMove, 99, byte(to), old, to),
		"one node":             c.do(ChangeMove, 0, byte(to), old),
		"stay without an heir": c.do(ChangeStay, 0, 0, to),
		"promote without one":  c.do(ChangePromote, 0, byte(to), to),
	} {
		if err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if err := c.do(ChangeMove, 0, byte(to), old, to); err != nil {
		t.Fatal(err)
	}
	moving := c.l
	if w := moving.View(0); w.Heir != to || w.HeirPlace != 1 || w.Count(InSync) != 3 || w.ID != moving.Seq || !moving.active()[to] || !moving.touches(to, moving.Seq-1) || !moving.HasPlace(to) {
		t.Fatalf("the view is %+v", w)
	}
	if err := c.do(ChangeMove, 0, byte(to), v.Members[2].Node, to); err == nil {
		t.Error("a second heir")
	}
	for what, l := range map[string]*Layout{"acquire": moving.Acquire(), "remove heir": mustApply(t, moving, ChangeRemove, 0, to),
		"remove old": mustApply(t, moving, ChangeRemove, 0, old), "stay": mustApply(t, moving, ChangeStay, 0, to)} {
		w := l.View(0)
		if w.Heir != 0 || w.ID != l.Seq || w.Members[1].Node != old || (w.Members[1].State == Out) != (what == "remove old") {
			t.Errorf("%s: %+v", what, w)
		}
	}
	if n, err := moving.Replace(old, 9); err != nil || n.View(0).Heir != 0 || n.View(0).Members[1] != (ViewMember{9, Out}) {
		t.Errorf("replaced: %v", err)
	}
	if err := c.do(ChangePromote, 0, byte(to), to); err != nil {
		t.Fatal(err)
	}
	if w := c.l.View(0); w.Heir != 0 || w.Members[1] != (ViewMember{to, InSync}) || w.Count(InSync) != 3 || w.has(old) {
		t.Errorf("the view is %+v", w)
	}
	if err := c.do(ChangeMove, 0, byte(old), to, old); err != nil {
		t.Fatal(err)
	}
	if err := c.do(ChangePromote, 0, byte(old), old); err != nil {
		t.Fatal(err)
	}
	if len(c.l.Own) != 0 {
		t.Errorf("back where the hash has it, and %v remains", c.l.Own)
	}
}

func mustApply(t *testing.T, l *Layout, kind ChangeKind, r blocktree.RegionIndex, nodes ...blocktree.NodeID) *Layout {
	t.Helper()
	c := &changer{l}
	if err := c.do(kind, r, 0, nodes...); err != nil {
		t.Fatal(err)
	}
	return c.l
}

// withSpare is a calm world with one node more than places.
func withSpare(code blocktree.Code, mutant string) (*world, *testNode) {
	w := newWorld(code, 1, mutant)
	w.drop, w.quiet, w.lease = 0, true, true
	w.heal()
	spare := &testNode{w: w, id: blocktree.NodeID(len(w.nodes) + 1), inc: 1, learnt: w.truth}
	if err := spare.restart(); err != nil {
		panic(err)
	}
	w.nodes = append(w.nodes, spare)
	w.nodeUp(spare)
	return w, spare
}

func (w *world) draining(nodes ...blocktree.NodeID) {
	w.with(w.hid, func(h *Holder) { h.Draining(nodes) })
}

// TestDrain moves the places of a node while the file is written and read: nobody is missing at any time.
func TestDrain(t *testing.T) {
	for _, code := range []blocktree.Code{{Data: 2, Parity: 1}, {Data: 1}, {Data: 1, Parity: 2}} {
		w, spare := withSpare(code, "")
		for r := range blocktree.RegionIndex(testRegions) {
			first, n := w.truth.Run(r)
			w.writeAt(w.hid, w.h, r, first, uint32(n))
		}
		w.turns(20, 20*time.Millisecond)
		old := w.node(1)
		from := len(w.past)
		w.draining(old.id)
		for i := 0; i < 400 && w.truth.HasPlace(old.id); i++ {
			w.write()
			w.read(false)
			w.turns(1, 20*time.Millisecond)
		}
		w.turns(40, 20*time.Millisecond)
		for _, l := range w.past[from:] {
			for r := range l.Regions() {
				if n := l.View(r).Count(InSync); n != code.Shards() {
					t.Errorf("%v: under view %d %d members of region %d are in sync", code, l.Seq, n, r)
				}
			}
		}
		if w.truth.HasPlace(old.id) || !w.truth.HasPlace(spare.id) || w.h.Stats().Moved != testRegions || len(w.errs) > 0 || len(w.fails) > 0 {
			t.Errorf("%v: at the end %+v: %v, %v", code, w.truth.Own, w.errs, w.fails)
		}
		old.up = false
		w.nodeDown(old)
		for range 20 {
			w.read(false)
			w.read(true) // by the newest layout, which stands still
			w.turns(2, 20*time.Millisecond)
		}
		if len(w.errs) > 0 || len(w.fails) > 0 {
			t.Errorf("%v: without the node: %v, %v", code, w.errs, w.fails)
		}
	}
}

// TestHeirWithoutSpace: an heir that has no space is sent away from its region alone, and asked again later.
func TestHeirWithoutSpace(t *testing.T) {
	for _, how := range []string{"copy", "write"} {
		w, spare := withSpare(blocktree.Code{Data: 2, Parity: 1}, "")
		w.writeAt(w.hid, w.h, 0, 0, 2)
		if how == "copy" {
			w.writeAt(w.hid, w.h, 1, testRegion, 2)
		}
		w.turns(20, 20*time.Millisecond)
		w.draining(1)
		for i := 0; i < 400 && w.truth.View(0).standing(spare.id) != InSync; i++ {
			w.turns(1, 20*time.Millisecond)
		}
		spare.full = true
		from := len(w.past)
		for i := 0; i < 40 && w.truth.View(1).Heir == 0; i++ {
			w.turns(1, 20*time.Millisecond)
		}
		if how == "write" {
			for range 3 {
				w.writeAt(w.hid, w.h, 1, testRegion, 2)
			}
		}
		w.turns(100, 20*time.Millisecond)
		if v := w.truth.View(1); v.Heir != 0 || v.has(spare.id) || w.truth.View(0).standing(spare.id) != InSync || len(w.fails) > 0 || len(w.ops) > 0 {
			t.Errorf("%s: with a full heir: %+v, %v failed, %d left", how, w.truth.Own, w.fails, len(w.ops))
		}
		if len(w.past)-from > 6 {
			t.Errorf("%s: %d changes of the view in two seconds", how, len(w.past)-from)
		}
		spare.full = false
		w.turns(1200, 20*time.Millisecond)
		if w.truth.HasPlace(1) || len(w.errs) > 0 {
			t.Errorf("%s: at the end: %+v, %v", how, w.truth.Own, w.errs)
		}
	}
}

// TestDrainIsCancelled: an heir that is not wanted any more, or is to be drained itself, is sent away; one that is down, too, and the old member stays.
func TestDrainIsCancelled(t *testing.T) {
	for _, how := range []string{"cancelled", "drained", "down"} {
		w, spare := withSpare(blocktree.Code{Data: 2, Parity: 1}, "")
		w.writeAt(w.hid, w.h, 0, 0, 2)
		w.turns(20, 20*time.Millisecond)
		w.block = func(m *Message) bool { return m.Kind == KindInstall }
		w.draining(1)
		for i := 0; i < 40 && w.truth.View(0).Heir == 0; i++ {
			w.turns(1, 20*time.Millisecond)
		}
		if w.truth.View(0).Heir != spare.id {
			t.Fatalf("%s: nobody is copied up", how)
		}
		w.writeAt(w.hid, w.h, 0, 1, 2)
		w.turns(2, 20*time.Millisecond)
		switch how {
		case "cancelled":
			w.draining()
		case "drained":
			w.draining(1, spare.id)
		default:
			spare.up = false
			w.nodeDown(spare)
		}
		w.turns(20, 20*time.Millisecond)
		if v := w.truth.View(0); v.Heir != 0 || v.Count(InSync) != 3 || !v.has(1) || len(w.ops) > 0 || len(w.errs) > 0 {
			t.Errorf("%s: %+v, %d left, %v", how, v, len(w.ops), w.errs)
		}
	}
}

// TestReadOfWhoMadeRoom: an heir gets its place, which the holder does not hear of. A leaseless reader returns a write that the heir has and the
// old member does not. The holder's next read must not be answered by the old one alone.
func TestReadOfWhoMadeRoom(t *testing.T) {
	for mutant, want := range map[string]int{"": 0, "moveleaving": 1} {
		w, spare := withSpare(blocktree.Code{Data: 1}, mutant)
		w.writeAt(w.hid, w.h, 0, 0, 1)
		w.turns(20, 20*time.Millisecond)
		w.untilPromotion(t, 1)
		w.block = func(m *Message) bool { return m.Kind == KindPrepare && m.Node == 1 }
		w.writeAt(w.hid, w.h, 0, 0, 1)
		w.carry(nil)
		w.carry(nil)
		e := w.metas[0]
		w.metas = w.metas[1:]
		l, err := w.truth.Apply(*e.req.Change, func(n blocktree.NodeID) blocktree.Incarnation { return incarnation(n, 1) })
		if err != nil {
			t.Fatal(err)
		}
		w.change(l)
		w.with(e.holder, func(h *Holder) { h.MetaDone(e.req.ID, nil, blocktree.Timeout) })
		w.catchUp(spare)

		before := w.floor[0]
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 1, reader: true, floor: []blocktree.Version{before}}
		w.rd.Read(w.nextOp, w.truth, 0, 0, 1)
		w.runReader()
		for range 5 {
			w.carry(nil)
		}
		if w.readsOK != 1 || w.floor[0] == before {
			t.Fatalf("%d leaseless reads were done, of %v", w.readsOK, w.floor[0])
		}
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 1, floor: []blocktree.Version{w.floor[0]}, holder: w.hid}
		w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 1) })
		w.silence(10)
		if len(w.errs) != want || w.readsOK != 1+want {
			t.Errorf("%q: %d reads were done: %v", mutant, w.readsOK, w.errs)
		}
		w.block = nil
		w.turns(40, 20*time.Millisecond)
		if len(w.errs) != want || w.readsOK != 2 || len(w.ops) > 0 {
			t.Errorf("%q: %d reads were done in the end: %v", mutant, w.readsOK, w.errs)
		}
	}
}

// untilPromotion drains a node until Raft is asked to give an heir the place in region 0, and leaves that asked.
func (w *world) untilPromotion(t *testing.T, node blocktree.NodeID) metaEnv {
	t.Helper()
	w.draining(node)
	promotes := func() bool {
		return len(w.metas) > 0 && w.metas[0].req.Change != nil && w.metas[0].req.Change.Kind == ChangePromote
	}
	for range 200 {
		w.carry(nil)
		for len(w.metas) > 0 && !promotes() {
			w.meta(0, false)
		}
		if promotes() {
			return w.metas[0]
		}
		w.tick(20 * time.Millisecond)
	}
	t.Fatal("the heir is not promoted")
	return metaEnv{}
}

// TestHeirAnswersForItself: what the old member has answered is not the heir's answer, once that has the place; nor is what the heir
// answered before it was asked to refuse it.
func TestHeirAnswersForItself(t *testing.T) {
	for mutant, want := range map[string]int{"": 1, "moveanswers": 2} {
		w, spare := withSpare(blocktree.Code{Data: 2, Parity: 1}, mutant)
		w.writeAt(w.hid, w.h, 0, 0, 1)
		w.turns(20, 20*time.Millisecond)
		w.untilPromotion(t, w.truth.View(0).Members[1].Node) // not the one that gets a write last
		w.block = func(m *Message) bool { return m.Kind == KindPrepare && m.Node == spare.id }
		w.writeAt(w.hid, w.h, 0, 0, 1)
		w.carry(nil)
		w.carry(nil)
		w.meta(0, false)
		for range 20 {
			w.carry(nil)
		}
		if w.acked != want {
			t.Errorf("%q: %d writes are acknowledged", mutant, w.acked)
		}
		w.block = nil
		w.turns(60, 50*time.Millisecond)
		if mutant == "" && (w.acked != 2 || len(w.fails) > 0) {
			t.Errorf("in the end %d, %v", w.acked, w.fails)
		}
	}
}

// TestHeirMayRefuse: a write that a member had no space for is refused by all, when an heir that had it before gets the place of the one that
// refused first. What the heir answered before it was asked to refuse it does not count.
func TestHeirMayRefuse(t *testing.T) {
	w, spare := withSpare(blocktree.Code{Data: 2, Parity: 1}, "")
	w.writeAt(w.hid, w.h, 0, 0, 1)
	w.turns(20, 20*time.Millisecond)
	w.untilPromotion(t, 1)
	w.node(1).full = true
	aborted := 0
	w.block = func(m *Message) bool {
		if m.Kind == KindAbort && m.Node != 1 {
			aborted++
		}
		return m.Kind == KindAbort && m.Node != 1 && m.Node != spare.id // only the heir hears of it
	}
	w.writeAt(w.hid, w.h, 0, 0, 1)
	for range 2 {
		w.carry(nil)
	}
	for i := 0; i < 20 && aborted == 0; i++ {
		w.carry(nil)
	}
	if aborted == 0 {
		t.Fatal("nothing is undone")
	}
	w.meta(0, false)
	w.block = nil
	w.turns(60, 50*time.Millisecond)
	if n := len(w.ops); n > 0 || len(w.errs) > 0 {
		t.Errorf("%d operations left: %v", n, w.errs)
	}
	failed := len(w.fails)
	other := w.node(w.truth.View(0).Members[1].Node) // without it the heir's shard is needed
	other.up = false
	w.nodeDown(other)
	w.nextOp++
	w.ops[w.nextOp] = &testOp{read: true, count: 1, floor: []blocktree.Version{w.floor[0]}, holder: w.hid}
	w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 1) })
	w.turns(60, 50*time.Millisecond)
	if w.readsOK != 1 || len(w.fails) > failed || len(w.errs) > 0 {
		t.Errorf("%d reads were done: %v, %v", w.readsOK, w.fails, w.errs)
	}
}

// TestHeirLeavesBesideAnAbort: an abort that ends because a member left moves the watermark, and looks at the writes behind it: what the heir
// that left, too, had answered counts for none of them by then.
func TestHeirLeavesBesideAnAbort(t *testing.T) {
	w, _ := withSpare(blocktree.Code{Data: 1, Parity: 2}, "")
	w.writeAt(w.hid, w.h, 0, 0, 4)
	w.turns(20, 20*time.Millisecond)
	w.block = func(m *Message) bool { return m.Kind == KindReset } // it stays an heir
	w.draining(w.truth.View(0).Members[0].Node)
	for i := 0; i < 100 && w.truth.View(0).Heir == 0; i++ {
		w.turns(1, 20*time.Millisecond)
	}
	if w.truth.View(0).Heir == 0 {
		t.Fatal("nobody is to get a place")
	}
	w.with(w.hid, func(h *Holder) {
		for range 2 {
			w.nextOp++
			h.Write(w.nextOp, w.codec.write(RecordZero, 0, 0, 1, h.Begin(0)))
		}
	})
	r := w.h.regions[0]
	writes := slices.Clone(r.writes[r.head:])
	heir := 1 << len(r.view.Members)
	writes[0].abort = &abort{refuser: 1, final: true, acked: 0b110}
	writes[1].finished, writes[1].answered = true, uint32(heir)|0b110
	w.h.vol.on = true
	v := r.view
	v.ID, v.Members = v.ID+1, slices.Clone(v.Members)
	v.Heir, v.Members[0].State = 0, Out
	r.setView(v)
	if !writes[0].finished || !writes[0].aborted || writes[1].answered != 0b110 {
		t.Errorf("%+v %+v", writes[0], writes[1])
	}
}

// TestHeirSucceedsBesideAnAbort: the same where the heir gets its place: an abort that all have refused but whom it follows ends by that, and what
// is behind it is judged by the slots of the new view.
func TestHeirSucceedsBesideAnAbort(t *testing.T) {
	w, _ := withSpare(blocktree.Code{Data: 1, Parity: 2}, "")
	w.writeAt(w.hid, w.h, 0, 0, 4)
	w.turns(20, 20*time.Millisecond)
	w.untilPromotion(t, w.truth.View(0).Members[0].Node)
	w.with(w.hid, func(h *Holder) {
		for range 2 {
			w.nextOp++
			h.Write(w.nextOp, w.codec.write(RecordZero, 0, 0, 1, h.Begin(0)))
		}
	})
	r := w.h.regions[0]
	writes := slices.Clone(r.writes[r.head:])
	heir := uint32(1) << len(r.view.Members)
	writes[0].abort = &abort{refuser: 1, final: true, acked: heir | 0b110}
	writes[1].finished, writes[1].answered = true, heir|0b111
	writes[1].slots, writes[1].heir = make([]wslot, len(r.view.Members)), &wslot{stamp: 1}
	r.members[len(r.view.Members)].synced, r.members[1].synced, r.members[2].synced = 1, 1, 1 // but what the heir answered is not in it
	w.h.vol.on = true
	v := r.view
	v.ID, v.Members = v.ID+1, slices.Clone(v.Members)
	v.Members[v.HeirPlace] = ViewMember{v.Heir, InSync}
	v.Heir = 0
	r.setView(v)
	if !writes[0].finished || !writes[0].aborted || writes[1].answered != 0b111 || r.mark != writes[0].version.Sequence {
		t.Errorf("%+v %+v", writes[0], writes[1])
	}
}
