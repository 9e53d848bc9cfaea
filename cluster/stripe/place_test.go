package stripe

import (
	"slices"
	"testing"
	"time"

	"blocktree"
)

// placedLayout is a layout of 4 hosts and 5 regions of 3 members each.
func placedLayout(t *testing.T) *Layout {
	t.Helper()
	l := &Layout{File: blocktree.FileID{Generation: 1, Inode: 7}, Code: blocktree.Code{Data: 2, Parity: 1}, SectorBytes: 4096, RegionSectors: 8,
		Sectors: 40, Hosts: []blocktree.NodeID{1, 2, 3, 4}, Epoch: 1, Seq: 1, BaseID: 1, Incarnations: map[blocktree.NodeID]blocktree.Incarnation{}}
	for _, h := range l.Hosts {
		l.Incarnations[h] = blocktree.Incarnation{byte(h)}
	}
	return l
}

// TestReplace: the new store has the places of the old one and no others, out in all; nobody else moves; a round trip keeps it.
func TestReplace(t *testing.T) {
	l := placedLayout(t)
	n, err := l.Replace(3, 9)
	if err != nil {
		t.Fatal(err)
	}
	for r := range l.Regions() {
		was, is := l.View(r), n.View(r)
		for i, m := range was.Members {
			want := m
			if m.Node == 3 {
				want = ViewMember{9, Out}
			}
			if is.Members[i] != want {
				t.Errorf("region %d place %d: %v, want %v", r, i, is.Members[i], want)
			}
		}
		if is.ID != n.Seq {
			t.Errorf("region %d keeps its view", r)
		}
	}
	if slices.Contains(n.Hosts, 3) || n.HasPlace(3) || !n.HasPlace(9) || n.active()[3] || n.active()[9] {
		t.Errorf("hosts %v, active %v", n.Hosts, n.active())
	}
	twice, err := n.Replace(9, 10) // lost before it was copied up
	if err != nil || twice.hashedAs(10) != 3 || len(twice.HashedAs) != 1 {
		t.Errorf("replaced again: %v, %v", twice, err)
	}
}

// TestReplaceIsRefused where too few members would remain, and for stores that are hosts or are none.
func TestReplaceIsRefused(t *testing.T) {
	l := placedLayout(t)
	for _, x := range []struct{ from, to blocktree.NodeID }{{8, 9}, {1, 2}, {1, 1}, {1, 0}} {
		if _, err := l.Replace(x.from, x.to); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%v by %v: %v", x.from, x.to, err)
		}
	}
	one, err := l.Replace(1, 9)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Replace(2, 10); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Errorf("the second of a 2+1 code: %v", err)
	}
	if _, err := l.Mark(2).Replace(1, 9); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Errorf("beside a marked one: %v", err)
	}
}

// TestPlace moves the place of a lost member to a spare, has that promoted, and the lost one come back: the place stays moved.
func TestPlace(t *testing.T) {
	l := placedLayout(t).clone()
	v := l.View(0)
	lost := v.Members[1].Node
	spare := l.Hosts[slices.IndexFunc(l.Hosts, func(n blocktree.NodeID) bool { _, ok := v.Shard(n); return !ok })]
	current := func(n blocktree.NodeID) blocktree.Incarnation { return blocktree.Incarnation{byte(n)} }
	apply := func(kind ChangeKind, r blocktree.RegionIndex, inc byte, nodes ...blocktree.NodeID) error {
		n, err := l.Apply(Change{File: l.File, Epoch: l.Epoch, Seq: l.Seq, Kind: kind, Nodes: nodes, Region: r, Incarnation: blocktree.Incarnation{inc}}, current)
		if err == nil {
			l = n
		}
		return err
	}
	if err := apply(ChangePlace, 0, byte(spare), lost, spare); blocktree.KindOf(err) != blocktree.Invalid {
		t.Fatalf("over a member in sync: %v", err)
	}
	if err := apply(ChangeRemove, 0, 0, lost); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"by a member":          apply(ChangePlace, 0, byte(v.Members[0].Node), lost, v.Members[0].Node),
		"one node":             apply(ChangePlace, 0, byte(spare), lost),
		"a region that is not": apply(ChangePlace, 99, byte(spare), lost, spare),
		"another incarnation":  apply(ChangePlace, 0, 77, lost, spare),
	} {
		if err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if err := apply(ChangePlace, 0, byte(spare), lost, spare); err != nil {
		t.Fatal(err)
	}
	if m := l.View(0).Members[1]; m != (ViewMember{spare, Out}) || !slices.Equal(l.Hosts, []blocktree.NodeID{1, 2, 3, 4}) {
		t.Fatalf("the place has %v", m)
	}
	for _, k := range []ChangeKind{ChangeJoin, ChangePromote} {
		if err := apply(k, 0, byte(spare), spare); err != nil {
			t.Fatal(err)
		}
	}
	for r := range l.Regions() {
		if _, ok := l.View(r).Shard(lost); ok {
			for _, k := range []ChangeKind{ChangeJoin, ChangePromote} {
				if err := apply(k, r, byte(lost), lost); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if m := l.View(0).Members[1]; m != (ViewMember{spare, InSync}) || len(l.Own) != 1 || len(l.BaseOut) != 0 {
		t.Errorf("at the end %v, own %v, out %v", m, l.Own, l.BaseOut)
	}
	if err := apply(ChangeRemove, 0, 0, spare); err != nil {
		t.Fatal(err)
	}
	if err := apply(ChangePlace, 0, 9, spare, 9); err != nil || l.hashedAs(9) != 0 || !slices.Contains(l.Hosts, 9) {
		t.Errorf("a node that is no host: %v, %v", l.Hosts, err)
	}
	if r := l.View(1); r.Count(InSync)+r.Count(Out) != 3 {
		t.Errorf("the hash places the new one: %v", r)
	}
}

// TestOnePlaceAtATime: a spare is in sync in one region before it is given the lost member's place in the next.
func TestOnePlaceAtATime(t *testing.T) {
	w := calm(blocktree.Code{Data: 1, Parity: 1})
	spare := &testNode{w: w, id: 3, inc: 1, learnt: w.truth}
	if err := spare.restart(); err != nil {
		t.Fatal(err)
	}
	w.nodes = append(w.nodes, spare)
	w.nodeUp(spare)
	w.writeAt(w.hid, w.h, 0, 0, 2)
	w.writeAt(w.hid, w.h, 1, testRegion, 2)
	w.turns(20, 20*time.Millisecond)
	lost := w.node(2)
	w.with(w.hid, func(h *Holder) { h.NodeDown(lost.id); h.NodeGone(lost.id) })
	lost.up = false
	w.writeAt(w.hid, w.h, 0, 0, 2)
	w.turns(400, 25*time.Millisecond)
	for _, l := range w.past {
		waiting := 0
		for r := range l.Regions() {
			v := l.View(r)
			if i, ok := v.Shard(spare.id); ok && v.Members[i].State != InSync {
				waiting++
			}
		}
		if waiting > 1 {
			t.Errorf("under view %d the spare waits in %d regions", l.Seq, waiting)
		}
	}
	for r := range w.truth.Regions() {
		if v := w.truth.View(r); v.Count(InSync) != 2 {
			t.Errorf("region %d at the end: %+v", r, v)
		}
	}
	if len(w.errs) > 0 {
		t.Error(w.errs)
	}
}
