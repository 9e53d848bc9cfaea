package stripe

import (
	"testing"

	"blocktree"
)

// keepBed is a member of a file of one replica for each of some inodes.
type keepBed struct {
	t       *testing.T
	m       *Member
	layouts map[blocktree.FileID]*Layout
	id      uint64
	handed  int
	loaded  int // layouts that the machine has asked for
	answers []*Message
}

func newKeepBed(t *testing.T, files int) *keepBed {
	b := &keepBed{t: t, m: NewMember(1, blocktree.Incarnation{1}), layouts: map[blocktree.FileID]*Layout{}}
	b.m.KeepLayouts(1 << 30)
	for i := range files {
		l := &Layout{File: blocktree.FileID{Generation: 1, Inode: blocktree.Inode(i + 1)}, Code: blocktree.Code{Data: 1}, SectorBytes: 512, RegionSectors: 8, Sectors: 8,
			Hosts: []blocktree.NodeID{1}, Epoch: 2, Seq: 1, BaseID: 1, Incarnations: map[blocktree.NodeID]blocktree.Incarnation{1: {1}}}
		b.layouts[l.File] = l
		b.m.Learn(l)
	}
	return b
}

// step gives the machine a message and does what it wants done; what it hands out is durable at once, where durable says so.
func (b *keepBed) step(m *Message, durable bool) *Message {
	b.id++
	m.ID, m.Epoch, m.View, m.Seq, m.Incarnation = b.id, 2, 1, 1, blocktree.Incarnation{1}
	b.m.Step(m)
	for {
		r := b.m.Ready()
		b.m.Located(make([]Ref, len(r.Records)), nil)
		if b.handed += len(r.Records); durable {
			b.m.Durable(uint64(b.handed))
		}
		b.answers = append(b.answers, r.Answers...)
		for _, f := range r.CatchUp {
			b.loaded++
			b.m.Learn(b.layouts[f])
			if b.m.Waits(f) {
				b.t.Fatalf("messages of %v wait for more than there is", f)
			}
			b.m.CaughtUp(f)
		}
		if len(r.Records)+len(r.Answers)+len(r.CatchUp) == 0 {
			break
		}
	}
	if n := len(b.answers); n > 0 && b.answers[n-1].ID == b.id {
		return b.answers[n-1]
	}
	return nil
}

func (b *keepBed) fence(f blocktree.FileID, durable bool) *Message {
	return b.step(&Message{Kind: KindFence, File: f}, durable)
}

// TestKeptLayouts: layouts in memory have a bound, those that were used last stay, and of files that nothing was promised of nothing is kept; what was
// promised is as good as before, and in the checkpoint.
func TestKeptLayouts(t *testing.T) {
	const files = 100
	b := newKeepBed(t, files)
	of := func(i int) blocktree.FileID { return blocktree.FileID{Generation: 1, Inode: blocktree.Inode(i)} }
	for i := 1; i <= 3; i++ {
		if a := b.fence(of(i), true); a == nil || a.Err != blocktree.Other {
			t.Fatalf("a fence is answered %v", a)
		}
	}
	before := string(b.m.Snapshot())
	bytes := layoutBytes(b.layouts[of(1)])
	b.m.KeepLayouts(10 * bytes)
	kept := 0
	for i := 1; i <= files; i++ {
		if b.m.Layout(of(i)) != nil {
			kept++
		}
	}
	if kept != 10 || len(b.m.files) != 10 || b.m.Layout(of(3)) == nil || b.m.Layout(of(4)) != nil {
		t.Errorf("%d layouts are kept, of %d files, that used last %v", kept, len(b.m.files), b.m.Layout(of(3)) != nil)
	}
	for i := 10; i < 40; i++ { // nobody promises anything
		b.m.Learn(b.layouts[of(i)])
	}
	if len(b.m.files) != 10 || len(b.m.packed) != 3 || !b.m.Knows(of(1)) || b.m.Knows(of(99)) {
		t.Errorf("%d files are kept, %d packed", len(b.m.files), len(b.m.packed))
	}
	if after := string(b.m.Snapshot()); after != before {
		t.Error("the checkpoint is another")
	}
	if b.loaded > 0 {
		t.Errorf("%d layouts were asked for before", b.loaded)
	}
	late := b.step(&Message{Kind: KindRead, File: of(1), Count: 1, Want: WantShards}, true)
	if late == nil || late.Err != blocktree.Recovering || b.loaded != 1 {
		t.Errorf("what was fenced and not repaired is read: %v; %d layouts were asked for", late, b.loaded)
	}
	b.m.Forget(of(2))
	if b.m.Knows(of(2)) {
		t.Error("a removed file is known")
	}
}

// TestPackedWhenDurable: what is promised and not durable yet is not packed: its answers wait.
func TestPackedWhenDurable(t *testing.T) {
	b := newKeepBed(t, 2)
	f := blocktree.FileID{Generation: 1, Inode: 1}
	if a := b.fence(f, false); a != nil {
		t.Fatalf("answered before it was durable: %v", a)
	}
	b.m.KeepLayouts(1)
	if a := b.fence(f, false); a != nil || len(b.m.packed) > 0 {
		t.Errorf("answered %v, %d packed", a, len(b.m.packed))
	}
	b.m.Durable(uint64(b.handed))
	if r := b.m.Ready(); len(r.Answers) != 2 {
		t.Errorf("%d answers", len(r.Answers))
	}
}
