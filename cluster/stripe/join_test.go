package stripe

import (
	"bytes"
	"testing"
	"time"

	"blocktree"
)

// mustChange makes a change of the views and has a node learn it.
func (w *world) mustChange(t *testing.T, n *testNode, c Change) {
	t.Helper()
	c.File, c.Epoch, c.Seq, c.Incarnation = w.truth.File, w.truth.Epoch, w.truth.Seq, incarnation(n.id, n.inc)
	c.Nodes = []blocktree.NodeID{n.id}
	l, err := w.truth.Apply(c, func(blocktree.NodeID) blocktree.Incarnation { return incarnation(n.id, n.inc) })
	if err != nil {
		t.Fatal(err)
	}
	w.change(l)
	w.catchUp(n)
}

// rejoin takes a node out of the views and lets it join region 0; it returns the answer to the reset.
func (n *testNode) rejoin(t *testing.T) *Message {
	t.Helper()
	n.w.mustChange(t, n, Change{Kind: ChangeRemove})
	n.w.mustChange(t, n, Change{Kind: ChangeJoin})
	m := n.about(KindReset)
	m.Seq, m.Watermark = n.w.truth.Seq, blocktree.Version{Epoch: n.w.truth.Epoch}
	a := n.ask(t, m)
	if a.Err != blocktree.Other {
		t.Fatal(a.Err)
	}
	return a
}

// about is a request about region 0 under its newest view.
func (n *testNode) about(k MessageKind) *Message {
	l := n.w.truth
	_, count := l.Run(0)
	n.w.nextOp++
	return &Message{Kind: k, ID: 1000 + n.w.nextOp, Node: n.id, File: l.File, Epoch: l.Epoch, View: l.View(0).ID, Seq: l.Seq,
		Incarnation: incarnation(n.id, n.inc), Count: count}
}

// install is sector 0 at version 1.1, as a copy-up sends it.
func (n *testNode) install() *Message {
	m := n.prepare(n.w.truth, 1, 1)
	n.w.nextOp++
	m.Kind, m.ID, m.Record.Installed = KindInstall, 1000+n.w.nextOp, true
	m.Record.Watermark = blocktree.Version{}
	return m
}

// A joiner forgets once per join: a request that comes again must not undo what was copied since.
func TestForgetOnce(t *testing.T) {
	for mutant, left := range map[string]int{"": 1, "forgettwice": 0} {
		n, _ := one(t, mutant)
		n.rejoin(t)
		n.ask(t, n.install())
		forget := n.about(KindForget)
		n.ask(t, forget)
		if a := n.ask(t, n.about(KindList)); len(a.Extents) != 0 {
			t.Fatalf("%q: has not forgotten %v", mutant, a.Extents)
		}
		n.ask(t, n.install())
		n.ask(t, forget)
		if a := n.ask(t, n.about(KindList)); len(a.Extents) != left {
			t.Errorf("%q: lists %v", mutant, a.Extents)
		}
		n.w.checkReplay()
		if len(n.w.errs) > 0 {
			t.Error(n.w.errs)
		}
	}
}

// A joiner tells of an install once it is durable.
func TestListIsDurable(t *testing.T) {
	for mutant, early := range map[string]bool{"": false, "listvolatile": true} {
		n, _ := one(t, mutant)
		n.rejoin(t)
		n.m.Step(n.install())
		n.drain()
		n.w.net = nil
		n.m.Step(n.about(KindList))
		n.drain()
		if told := len(n.w.net) > 0; told != early {
			t.Errorf("%q: told before it was durable: %v", mutant, told)
		}
		n.sync(len(n.log))
		listed := 0
		for _, e := range n.w.net {
			if e.msg.Kind == KindList {
				listed += len(e.msg.Extents)
			}
		}
		if listed != 1 {
			t.Errorf("%q: lists %d extents in the end", mutant, listed)
		}
	}
}

// A repair of a region that the node is out of commits nothing there, nor does it move the watermark.
func TestRepairOut(t *testing.T) {
	for mutant, commits := range map[string]bool{"": false, "repairout": true} {
		n, l := one(t, mutant)
		n.ask(t, n.prepare(l, 10, 51))
		n.w.mustChange(t, n, Change{Kind: ChangeRemove})
		n.w.mustChange(t, n, Change{Kind: ChangeJoin, Region: 1}) // for which it is asked at all
		n.w.change(n.w.truth.Acquire())
		n.w.catchUp(n)
		n.ask(t, n.about(KindFence))
		repair := n.about(KindRepair)
		repair.Last = true
		repair.Repairs = []Repair{{Floor: blocktree.Version{Epoch: l.Epoch, Sequence: 51}}}
		n.ask(t, repair)
		if got := n.index[0].kind == Data; got != commits {
			t.Errorf("%q: committed %v", mutant, got)
		}
	}
}

// A region is as it was only if the node was in sync there, and no repair has decided above its watermark.
func TestUnbroken(t *testing.T) {
	for _, x := range []struct {
		name, mutant             string
		whole, decided, unbroken bool
		moved                    bool // to another place of the region, by way of a spare that was there before
	}{
		{"in sync, all committed", "", true, false, true, false},
		{"in sync in another place", "", true, false, false, true},
		{"in sync in another place", "wholeanywhere", true, false, true, true},
		{"never in sync since", "", false, false, false, false},
		{"never in sync since", "skipunwhole", false, false, true, false},
		{"decided above the watermark", "", true, true, false, false},
		{"decided above the watermark", "skipdecided", true, true, true, false},
	} {
		n, l := one(t, x.mutant)
		for seq := range blocktree.Sequence(2) {
			n.ask(t, n.prepare(l, 10+uint64(seq), 50+seq))
		}
		commit := n.about(KindCommit)
		commit.Watermark = blocktree.Version{Epoch: l.Epoch, Sequence: 50}
		n.m.Step(commit)
		n.drain()
		if x.whole {
			n.m.Step(n.about(KindCommit)) // now that something is committed, it writes down that it is in sync
			n.drain()
		}
		if x.decided {
			n.w.change(l.Acquire())
			n.w.catchUp(n)
			n.ask(t, n.about(KindFence))
			repair := n.about(KindRepair)
			repair.Last = true
			repair.Repairs = []Repair{{Floor: commit.Watermark, Winners: []blocktree.Version{{Epoch: l.Epoch, Sequence: 51}}}}
			n.ask(t, repair)
		}
		if x.moved {
			n.w.mustChange(t, n, Change{Kind: ChangeRemove})
			moved := n.w.truth.clone()
			moved.Seq++
			v := moved.View(0).with(moved.Seq, func(*ViewMember) {})
			at, _ := v.Shard(n.id)
			other := (int(at) + 1) % len(v.Members)
			v.Members[at], v.Members[other] = v.Members[other], v.Members[at]
			moved.Own[0] = v
			n.w.change(moved)
			n.w.catchUp(n)
		}
		if a := n.rejoin(t); a.Held != x.unbroken {
			t.Errorf("%s, mutant %q: unbroken %v", x.name, x.mutant, a.Held)
		}
		if a := n.rejoin(t); a.Held && x.mutant != "skipunwhole" {
			t.Errorf("%s: unbroken after a copy-up that never ended", x.name)
		}
	}
}

// TestDigester: however extents are cut, the digests are the same; whatever differs of a block changes its digest alone.
func TestDigester(t *testing.T) {
	task := &ReadTask{Request: &Message{Kind: KindDigest, First: 16, Count: 8}, Shard: 1}
	digests := func(xs ...Extent) []byte {
		d := task.Digester()
		for _, x := range xs {
			d.Add(x)
		}
		return d.Finish(36)
	}
	v := func(s blocktree.Sequence) blocktree.Version { return blocktree.Version{Epoch: 3, Sequence: s} }
	data := func(first blocktree.SectorIndex, count uint32, s blocktree.Sequence) Extent {
		return Extent{First: first, Count: count, Version: v(s), Kind: Data}
	}
	want := digests(data(17, 10, 1), data(30, 2, 2))
	if len(want) != 3*DigestBytes {
		t.Fatalf("%d bytes for 20 sectors in blocks of 8", len(want))
	}
	if got := digests(Extent{First: 16, Count: 1}, data(17, 1, 1), data(18, 9, 1), Extent{First: 27, Count: 3}, data(30, 1, 2), data(31, 1, 2)); !bytes.Equal(got, want) {
		t.Error("cut otherwise, the digests are others")
	}
	if empty := emptyDigest(); !bytes.Equal(want[2*DigestBytes:], empty[:]) {
		t.Error("a block without anything has not the digest of nothing")
	}
	for name, xs := range map[string][]Extent{
		"place":   {data(17, 10, 1), data(29, 2, 2)},
		"count":   {data(17, 10, 1), data(30, 1, 2)},
		"version": {data(17, 10, 1), data(30, 2, 3)},
		"kind":    {data(17, 10, 1), {First: 30, Count: 2, Version: v(2), Kind: Zero}},
		"shard":   {data(17, 10, 1), task.Place(data(30, 2, 2), 0)},
	} {
		got := digests(xs...)
		if !bytes.Equal(got[:DigestBytes], want[:DigestBytes]) || bytes.Equal(got[DigestBytes:], want[DigestBytes:]) {
			t.Errorf("another %s is not seen where it is", name)
		}
	}
}

// What a joiner forgets before it is indexed is given back to the store, which keeps it for as long as it may be indexed.
func TestForgottenIsDropped(t *testing.T) {
	n, _ := one(t, "")
	n.rejoin(t)
	n.m.Step(n.install())
	n.m.Step(n.about(KindForget)) // both had waited for the node to catch up
	rd := n.m.Ready()
	refs := make([]Ref, len(rd.Records))
	for i := range refs {
		n.log = append(n.log, rd.Records[i])
		refs[i] = n.ref(len(n.log) - 1)
	}
	n.m.Located(refs, nil)
	if len(rd.Records) != 2 || len(rd.Commits) != 0 || len(rd.Drops) != 1 || rd.Drops[0].Ref != refs[0] {
		t.Errorf("%d records, %d indexed, %d given back", len(rd.Records), len(rd.Commits), len(rd.Drops))
	}
}

// TestJoinerGetsWhatOneHas: of three copies two have silently lost a write, with their promises. The one that is copied up anew gets it from the
// third, though the other, which is in sync, looks as it does.
func TestJoinerGetsWhatOneHas(t *testing.T) {
	for mutant, want := range map[string]bool{"": true, "compareone": false} {
		w := newWorld(blocktree.Code{Data: 1, Parity: 2}, 1, mutant)
		w.drop, w.quiet, w.lease = 0, true, true
		w.heal()
		w.writeAt(w.hid, w.h, 0, 0, 1)
		w.turns(20, 20*time.Millisecond)
		view := w.truth.View(0).Members
		other, joiner := w.node(view[0].Node), w.node(view[1].Node) // whoever compares with one takes the first
		v := other.index[0].version
		if v.IsZero() {
			t.Fatal("nothing is committed")
		}
		delete(other.index, 0)
		w.nodeDown(joiner)
		joiner.crash()
		joiner.log, joiner.synced = nil, 0
		w.turns(10, 100*time.Millisecond)
		joiner.inc++
		w.restart(joiner)
		for i := 0; i < 200 && w.truth.View(0).Count(InSync) < 3; i++ {
			w.turns(1, 20*time.Millisecond)
		}
		if w.truth.View(0).Count(InSync) < 3 || (joiner.index[0].version == v) != want {
			t.Errorf("%q: the joiner has %v of %v in %+v", mutant, joiner.index[0].version, v, w.truth.View(0))
		}
	}
}
