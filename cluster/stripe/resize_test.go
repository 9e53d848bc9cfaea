package stripe

import (
	"slices"
	"testing"
	"time"

	"blocktree"
)

func byNode(n blocktree.NodeID) blocktree.Incarnation { return blocktree.Incarnation{byte(n)} }

func mustResize(t *testing.T, l *Layout, sectors uint64, hosts ...blocktree.NodeID) *Layout {
	t.Helper()
	return mustResizeAs(t, l, sectors, byNode, hosts...)
}

func mustResizeAs(t *testing.T, l *Layout, sectors uint64, current func(blocktree.NodeID) blocktree.Incarnation, hosts ...blocktree.NodeID) *Layout {
	t.Helper()
	n, err := l.Resize(sectors, hosts, current)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestGrowthInLayout: what was there keeps its members; views of regions that change, and of all that go by the common one, are new.
func TestGrowthInLayout(t *testing.T) {
	l := placedLayout(t)
	l.Sectors = 37 // the last region has five of eight sectors
	last := l.View(4)
	last.ID = 1
	l.Own = map[blocktree.RegionIndex]View{0: l.View(0), 4: last}
	n := mustResize(t, l, 60, 1, 2, 3, 4)
	if n.Size() != 60 || n.Beyond != 0 || n.Regions() != 8 || n.Born != 5 || n.Seq != l.Seq+1 || l.Sectors != 37 || l.Own[4].ID != 1 {
		t.Fatalf("%+v, was %+v", n, l)
	}
	for r := range n.Regions() {
		v := n.View(r)
		if r < 5 && !slices.Equal(v.Members, l.View(r).Members) {
			t.Errorf("region %d has other members: %v", r, v.Members)
		}
		if (v.ID == n.Seq) != (r != 0) {
			t.Errorf("region %d is in view %d of %d", r, v.ID, n.Seq)
		}
		if v.Count(InSync) != 3 {
			t.Errorf("region %d: %v", r, v.Members)
		}
	}
	if len(n.Own) != 2 {
		t.Errorf("regions with views of their own: %v", n.Own)
	}
	more := mustResize(t, n, 80, 1, 2, 3, 4)
	if more.Born != 5 {
		t.Errorf("a second growth under one epoch forgets the first: %d", more.Born)
	}
	if next := more.Acquire(); next.Born != 0 || next.bornUnder(9, next.Epoch) || !more.bornUnder(9, 1) || !more.bornUnder(4, 1) || more.bornUnder(9, 2) {
		t.Error("regions are born under one epoch only, all that there are under the first")
	}
	later := more.clone()
	if later.Epoch = 2; !later.bornUnder(9, 2) || later.bornUnder(4, 2) || later.bornUnder(9, 1) {
		t.Error("under a later one those that came to be under it")
	}
	if same := mustResize(t, l, 40, 1, 2, 3, 4); same.Born != 0 || same.Regions() != 5 {
		t.Errorf("no region is new: %+v", same)
	}
}

// TestShrinkInLayout: the end moves, and nothing else that a member goes by.
func TestShrinkInLayout(t *testing.T) {
	l := placedLayout(t)
	n := mustResize(t, l, 9)
	if n.Size() != 9 || n.Sectors != 40 || n.Beyond != 31 || n.Regions() != 5 || n.BaseID != l.BaseID || n.Seq != l.Seq+1 || n.Born != 0 {
		t.Fatalf("%+v", n)
	}
	if back := mustResize(t, n, 20); back.Size() != 20 || back.Sectors != 40 || back.BaseID != l.BaseID {
		t.Errorf("growth within what is kept: %+v", back)
	}
	if far := mustResize(t, n, 41, 1, 2, 3, 4); far.Size() != 41 || far.Sectors != 41 || far.Born != 5 || far.BaseID != far.Seq {
		t.Errorf("growth beyond what is kept: %+v", far)
	}
	for _, bad := range []uint64{0, blocktree.RegionsMax*8 + 1} {
		if _, err := l.Resize(bad, nil, byNode); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%d sectors: %v", bad, err)
		}
	}
}

// TestNewRegionsAvoid stores that may have no places: others of the file, or of the cluster, get them, in sync; where nobody is fit the place is out.
func TestNewRegionsAvoid(t *testing.T) {
	for _, x := range []struct {
		name  string
		hosts []blocktree.NodeID
		out   blocktree.NodeID // was removed from all views, and is still a host
		gets  blocktree.NodeID // who may get a place in stead of store 1; 0: nobody
	}{
		{"another host", []blocktree.NodeID{2, 3, 4}, 0, 0},
		{"a new store", []blocktree.NodeID{2, 3, 4, 9}, 4, 9},
		{"nobody", []blocktree.NodeID{2, 3, 4}, 4, 0},
	} {
		l := placedLayout(t)
		if x.out != 0 {
			l = mustApply(t, l, ChangeRemove, 0, x.out)
		}
		n := mustResize(t, l, 400, x.hosts...)
		for r := l.Regions(); r < n.Regions(); r++ {
			v, placed := n.View(r), n.placed(r)
			if !slices.Contains(placed, 1) || x.out != 0 && slices.Contains(placed, x.out) {
				continue
			}
			i := slices.Index(placed, 1)
			m := v.Members[i]
			if v.ID != n.Seq || n.Own[r].ID != n.Seq {
				t.Errorf("%s: region %d has no view of its own", x.name, r)
			}
			switch {
			case x.name == "nobody" && (m.State != Out || m.Node != 1), x.gets != 0 && (m.State != InSync || m.Node != x.gets),
				x.name == "another host" && (m.State != InSync || m.Node == 1):
				t.Errorf("%s: region %d: %v", x.name, r, v.Members)
			}
		}
		for r := range l.Regions() {
			if was, is := l.View(r), n.View(r); !slices.Equal(was.Members, is.Members) {
				t.Errorf("%s: region %d changes: %v", x.name, r, is.Members)
			}
		}
	}
	l := mustApply(t, placedLayout(t), ChangeRemove, 0, 4)
	if _, err := l.Resize(400, []blocktree.NodeID{2}, byNode); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Errorf("three of four stores are gone: %v", err)
	}
}

// TestNewRegionsForgive: hosts that started anew while they had no place in the file are in sync in what is new, as what they run under now: nobody would
// ever have copied them up. Whoever stands in a region, or is out of all that have no view of their own, stays as marked as it was.
func TestNewRegionsForgive(t *testing.T) {
	again := func(n blocktree.NodeID) blocktree.Incarnation { return blocktree.Incarnation{byte(n), 2} }
	for _, x := range []struct {
		durability Durability
		stands     bool // one that is in sync is marked, else one that is out
	}{{DurabilityAck, true}, {DurabilityAck, false}, {DurabilityFlush, true}, {DurabilityFlush, false}} {
		l := placedLayout(t)
		l.Sectors, l.Durability = 8, x.durability
		for n := blocktree.NodeID(5); n <= 8; n++ {
			l.Hosts = append(l.Hosts, n)
			l.Incarnations[n] = blocktree.Incarnation{byte(n)}
		}
		serving := l.placed(0)
		idle := slices.DeleteFunc(slices.Clone(l.Hosts), func(n blocktree.NodeID) bool { return slices.Contains(serving, n) })
		stays := serving[0]
		if !x.stands {
			stays = idle[0]
			l = mustApply(t, l, ChangeRemove, 0, stays)
		}
		anew := append(slices.Clone(idle), stays)
		for _, n := range anew {
			l = l.MarkBack(n, again(n))
		}
		n := mustResizeAs(t, l, 400, func(n blocktree.NodeID) blocktree.Incarnation {
			if slices.Contains(anew, n) {
				return again(n)
			}
			return byNode(n)
		}, l.Hosts...)
		for _, h := range l.Hosts {
			want := byNode(h)
			if slices.Contains(idle, h) && h != stays {
				want = again(h)
			}
			if _, back := n.Back[h]; n.Marked[h] != (h == stays) || back && h != stays || n.Incarnations[h] != want {
				t.Errorf("%+v: host %v, %v has to stay marked: %v, back %v, as %x", x, h, stays, n.Marked[h], back, n.Incarnations[h])
			}
		}
		if !l.Marked[idle[1]] || l.Incarnations[idle[1]] != byNode(idle[1]) {
			t.Error("the layout before has changed")
		}
	}
}

// resize gives the file of a world another size. A node that is not may have no place in new regions.
func (w *world) resize(t *testing.T, sectors uint64, not ...blocktree.NodeID) {
	t.Helper()
	var hosts []blocktree.NodeID
	for _, n := range w.nodes {
		if !slices.Contains(not, n.id) {
			hosts = append(hosts, n.id)
		}
	}
	l, err := w.truth.Resize(sectors, hosts, func(n blocktree.NodeID) blocktree.Incarnation { return incarnation(n, w.node(n).inc) })
	if err != nil {
		t.Fatal(err)
	}
	w.change(l)
	w.with(w.hid, func(h *Holder) { h.Refresh() })
}

// mustWrite writes all of a region, and reads it.
func (w *world) mustWrite(t *testing.T, r blocktree.RegionIndex) {
	t.Helper()
	first, n := w.truth.Run(r)
	acked, read := w.acked, w.readsOK
	w.writeAt(w.hid, w.h, r, first, uint32(n))
	w.turns(20, 20*time.Millisecond)
	w.nextOp++
	op := w.nextOp
	w.ops[op] = &testOp{read: true, first: first, count: uint32(n), holder: w.hid, floor: make([]blocktree.Version, n)}
	w.with(w.hid, func(h *Holder) { h.Read(op, r, first, uint32(n)) })
	w.turns(20, 20*time.Millisecond)
	if w.acked != acked+1 || w.readsOK != read+1 {
		t.Errorf("region %d: %d writes and %d reads of one, %v", r, w.acked-acked, w.readsOK-read, w.truth.View(r))
	}
}

// TestGrowsUnderItsHolder: a file grows while its holder works. A member that missed the take-over, and came back by copy-up, was not fenced by it, nor
// was one that had no place: both serve new regions all the same.
func TestGrowsUnderItsHolder(t *testing.T) {
	w, spare := withSpare(blocktree.Code{Data: 2, Parity: 1}, "")
	back := w.node(2)
	w.block = func(m *Message) bool { return m.Kind == KindRepair && m.Node == back.id } // it is left in the middle of one
	w.leaseTo = 0
	w.acquire()
	w.turns(5, time.Millisecond)
	w.block, back.up = nil, false
	w.nodeDown(back)
	w.leaseTo = 0
	w.acquire()
	w.turns(100, 20*time.Millisecond)
	w.mustWrite(t, 0)
	if err := back.restart(); err != nil {
		t.Fatal(err)
	}
	w.nodeUp(back)
	w.turns(200, 20*time.Millisecond)
	if n := w.truth.View(0).Count(InSync); n != 3 {
		t.Fatalf("%d in sync", n)
	}
	w.resize(t, testRegion*4)
	w.turns(20, 20*time.Millisecond)
	if size := w.h.Layout().Size(); size != testRegion*4 {
		t.Fatalf("the holder has %d sectors", size)
	}
	for r := range w.truth.Regions() {
		w.mustWrite(t, r)
	}
	w.resize(t, testRegion*5, 1)
	w.turns(20, 20*time.Millisecond)
	if _, ok := w.truth.View(4).Shard(spare.id); !ok {
		t.Fatalf("%v", w.truth.View(4))
	}
	w.mustWrite(t, 4)
	third := w.node(3)
	third.up = false
	w.nodeDown(third)
	w.turns(20, 20*time.Millisecond)
	w.mustWrite(t, 3) // nobody but back and store 1 has it
	if len(w.errs) > 0 || len(w.fails) > 0 {
		t.Error(w.errs, w.fails)
	}
}

// TestGrowsDuringTakeOver: who has places in new regions only is not waited for.
func TestGrowsDuringTakeOver(t *testing.T) {
	for turns := range 6 {
		w, spare := withSpare(blocktree.Code{Data: 2, Parity: 1}, "")
		w.mustWrite(t, 0)
		w.leaseTo = 0
		w.acquire()
		w.turns(turns, time.Millisecond)
		w.resize(t, testRegion*3, 1)
		w.turns(40, 20*time.Millisecond)
		if _, ok := w.truth.View(2).Shard(spare.id); !ok || !w.h.Recovered() {
			t.Fatalf("after %d turns: %v, recovered %v", turns, w.truth.View(2), w.h.Recovered())
		}
		w.mustWrite(t, 2)
		w.mustWrite(t, 0)
		w.leaseTo = 0
		w.acquire()
		w.turns(40, 20*time.Millisecond)
		w.mustWrite(t, 2)
		if len(w.errs) > 0 || len(w.fails) > 0 {
			t.Error(turns, w.errs, w.fails)
		}
	}
}

// TestGrowsDuringCopyUp: the region that is being copied up gets more sectors.
func TestGrowsDuringCopyUp(t *testing.T) {
	w := calm(blocktree.Code{Data: 2, Parity: 1})
	last := w.truth.Regions() - 1
	first, n := w.truth.Run(last)
	w.writeAt(w.hid, w.h, last, first, uint32(n))
	w.turns(20, 20*time.Millisecond)
	back := w.node(w.truth.View(last).Members[1].Node)
	w.with(w.hid, func(h *Holder) { h.NodeDown(back.id) })
	w.turns(5, 20*time.Millisecond)
	w.writeAt(w.hid, w.h, last, first, uint32(n))
	w.turns(20, 20*time.Millisecond)
	w.nodeUp(back)
	grown := false
	for i := 0; i < 4000 && !grown; i++ {
		w.turns(1, time.Millisecond)
		if j := w.h.job; j != nil && j.region == last && j.state == joinCopy && len(j.copies) > 0 {
			w.resize(t, testRegion*testRegions)
			grown = true
		}
	}
	w.turns(400, 20*time.Millisecond)
	if s := w.h.Stats(); !grown || w.truth.View(last).Count(InSync) != 3 || s.CopyUpsGivenUp != 0 || len(w.errs) > 0 || len(w.fails) > 0 {
		t.Errorf("grown %v, in sync %d, %+v, %v, %v", grown, w.truth.View(last).Count(InSync), s, w.errs, w.fails)
	}
}

// TestNoWriteBehindTheEnd: a holder writes to no sector that its file has no more.
func TestNoWriteBehindTheEnd(t *testing.T) {
	w := calm(blocktree.Code{Data: 2, Parity: 1})
	w.resize(t, 5)
	w.turns(20, 20*time.Millisecond)
	for first, good := range map[blocktree.SectorIndex]bool{3: true, 4: false, 5: false, 7: false} {
		write := w.codec.write(RecordZero, 0, first, 2, blocktree.Version{})
		if w.h.fits(write) != good {
			t.Errorf("a write of 2 sectors at %d of 5: %v", first, !good)
		}
	}
}
