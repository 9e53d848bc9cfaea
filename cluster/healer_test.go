package cluster

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// healBed has files that are to be healed, and a healer that heals them in steps.
type healBed struct {
	*healer
	t       *testing.T
	rng     *rand.Rand
	lengths []uint64 // by inode; the first is of none
	hurt    map[blocktree.FileID]bool
	begun   map[blocktree.FileID]int
	now     []wound // that are healed
	looks   int
}

func newHealBed(t *testing.T, lengths ...uint64) *healBed {
	b := &healBed{healer: newHealer(), t: t, rng: rand.New(rand.NewPCG(1, 2)), lengths: append([]uint64{0}, lengths...), hurt: map[blocktree.FileID]bool{},
		begun: map[blocktree.FileID]int{}}
	for i := range lengths {
		b.hurt[blocktree.FileID{Generation: 1, Inode: blocktree.Inode(i + 1)}] = true
	}
	return b
}

func (b *healBed) each(after blocktree.FileID, f func(wound) bool) {
	b.looks++
	for i := int(after.Inode) + 1; i < len(b.lengths); i++ {
		file := blocktree.FileID{Generation: 1, Inode: blocktree.Inode(i)}
		if b.hurt[file] && !f(wound{file, b.lengths[i]}) {
			return
		}
	}
}

// start begins what there is room for, and checks the bounds.
func (b *healBed) start() {
	share := uint64(1)
	for w, ok := b.next(); ok; w, ok = b.next() {
		if b.busy { // what began before goes on
			share = healYieldShare
		}
		b.now = append(b.now, w)
		b.begun[w.file]++
	}
	small, large, bytes, seen := 0, 0, uint64(0), map[blocktree.FileID]bool{}
	for _, w := range b.now {
		if seen[w.file] {
			b.t.Fatalf("%v is healed twice at a time", w.file)
		}
		seen[w.file] = true
		if w.bytes > healSmallBytes {
			large++
			continue
		}
		small++
		bytes += w.bytes
	}
	if large > 1 || small > healFilesMax/int(share) || bytes > healBytesMax/share && small > 1 {
		b.t.Fatalf("%d small files of %d bytes and %d large ones at a time", small, bytes, large)
	}
}

// finish ends one of those that are healed; unless whole it is to be healed yet.
func (b *healBed) finish(i int, whole bool) {
	w := b.now[i]
	b.now = append(b.now[:i], b.now[i+1:]...)
	if whole {
		delete(b.hurt, w.file)
	}
	b.end(w)
	if b.cutOff() {
		b.look(b.each)
	}
	b.start()
}

func repeated(n int, bytes uint64) (lengths []uint64) {
	for range n {
		lengths = append(lengths, bytes)
	}
	return lengths
}

// TestHealsSeveral: as many small files as there is room for by number and length are healed at a time, one beside clients that keep the
// node busy, and one large file beside them.
func TestHealsSeveral(t *testing.T) {
	const mib = 1 << 20
	for _, x := range []struct {
		name    string
		lengths []uint64
		served  uint64 // in a second
		want    int
	}{
		{"small", repeated(100, 64<<10), 0, healFilesMax},
		{"beside few requests", repeated(100, 64<<10), healBusy - 1, healFilesMax},
		{"beside many", repeated(100, 64<<10), healBusy, healFilesMax / healYieldShare},
		{"of some length", repeated(100, mib), 0, 8},
		{"beside many", repeated(100, mib), healBusy, 1},
		{"longer than what is left beside many", repeated(100, 4*mib), healBusy, 1},
		{"large", repeated(100, 64*mib), 0, 1},
		{"large, beside many", repeated(100, 64*mib), healBusy, 1},
		{"both", append(repeated(3, 64*mib), repeated(100, 0)...), 0, healFilesMax + 1},
	} {
		b := newHealBed(t, x.lengths...)
		b.noteLoad(x.served, time.Second)
		b.look(b.each)
		if b.start(); len(b.now) != x.want {
			t.Errorf("%s: %d at a time, want %d", x.name, len(b.now), x.want)
		}
	}
}

// TestHealsAll: each of many more files than a look notes has its turn before any has a second one, beside some that are never whole; a large one that
// takes long keeps nobody waiting.
func TestHealsAll(t *testing.T) {
	lengths := append(repeated(2, 1<<30), repeated(2*healListMax+100, 8<<10)...)
	b := newHealBed(t, lengths...)
	never := func(w wound) bool { return w.file.Inode%50 == 7 }
	b.look(b.each)
	b.start()
	for len(b.now) > 1 { // the large one stays
		b.noteLoad(b.rng.Uint64N(2)*healBusy, time.Second)
		if i := b.rng.IntN(len(b.now)); b.now[i].bytes <= healSmallBytes {
			b.finish(i, !never(b.now[i]))
		}
	}
	if b.looks > 3 {
		t.Errorf("%d looks", b.looks)
	}
	for i := range lengths {
		if f := (blocktree.FileID{Generation: 1, Inode: blocktree.Inode(i + 1)}); b.begun[f] != 1 && i != 1 {
			t.Fatalf("%v had %d turns", f, b.begun[f])
		}
	}
	b.look(b.each) // again, of those that are not whole
	b.start()
	if last := b.now[len(b.now)-1]; b.begun[last.file] != 2 {
		t.Errorf("of %d files that are not whole none has a second turn", len(b.hurt))
	}
}

// TestLooksAtWhatChanged: of many files all are looked at for a small share of the time only, but at once where something changes that concerns all; those between
// are the files of which something was heard.
func TestLooksAtWhatChanged(t *testing.T) {
	h := newHealer()
	o := outlook{leader: 1, serving: []blocktree.NodeID{1, 2, 3}}
	if h.pauses(time.Hour, &o) {
		t.Error("the first look waits")
	}
	h.lanes[0].looks, h.lanes[1].looks = true, true
	h.looked(time.Hour+time.Second, time.Hour, o) // it took a second
	for _, x := range []struct {
		after  time.Duration
		o      outlook
		pauses bool
	}{
		{2 * time.Second, o, true},
		{healLookShare * time.Second, o, false},
		{2 * time.Second, outlook{leader: 2, serving: o.serving}, false},
		{2 * time.Second, outlook{leader: 1, serving: []blocktree.NodeID{1, 2}}, false},
		{2 * time.Second, outlook{leader: 1, serving: o.serving, gone: []blocktree.NodeID{3}}, false},
		{2 * time.Second, outlook{leader: 1, serving: o.serving, draining: []blocktree.NodeID{3}}, false},
	} {
		if got := h.pauses(time.Hour+time.Second+x.after, &x.o); got != x.pauses {
			t.Errorf("%v after, with %+v: pauses %v", x.after, x.o, got)
		}
	}
	h.lanes[0].cut = true
	if h.pauses(time.Hour+2*time.Second, &o) {
		t.Error("it waits though there was more than it had room for")
	}
	h.lanes[0].todo = []wound{{file: blocktree.FileID{Inode: 1}}}
	if !h.pauses(time.Hour+2*time.Second, &o) {
		t.Error("it looks at all files again and again though it has some left")
	}
	h.lanes[0].cut, h.lanes[0].looks = false, false
	o.leader = 2
	h.looked(time.Hour+3*time.Second, time.Hour+2*time.Second, o) // the first lane looks at none
	h.lanes[0].todo = nil
	if h.pauses(time.Hour+4*time.Second, &o) {
		t.Error("what has something left when something changes waits when it has not")
	}
}

// TestNoticed: what is noted is what changed, once, in order; too much of it is all.
func TestNoticed(t *testing.T) {
	file := func(i int) blocktree.FileID { return blocktree.FileID{Generation: 1, Inode: blocktree.Inode(i)} }
	var n noticed
	n.applied(meta.Changes{Layouts: []*stripe.Layout{{File: file(7)}, {File: file(3)}}, Removed: []blocktree.FileID{file(9)},
		Leases: []meta.Lease{{File: file(5)}, {File: file(6), Session: meta.SessionID{1}}, {File: file(3)}}})
	if got, all := n.take(); all || !slices.Equal(got, []blocktree.FileID{file(3), file(5), file(7)}) {
		t.Errorf("noted %v, %v", got, all)
	}
	if got, all := n.take(); all || len(got) > 0 {
		t.Errorf("noted %v, %v again", got, all)
	}
	for i := range healNoticedMax + 1 {
		n.add(file(i))
	}
	if got, all := n.take(); !all || len(got) != healNoticedMax {
		t.Errorf("of too many %d are noted, all %v", len(got), all)
	}
	n.applied(meta.Changes{Reset: true})
	if _, all := n.take(); !all {
		t.Error("after a snapshot some are passed over")
	}
}
