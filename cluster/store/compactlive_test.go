package store

import (
	"bytes"
	"slices"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestLiveStretches: of a record is live what nothing newer, data or zeros, lies over, in stretches as long as they can be, also across pages; and to find that out
// costs no memory.
func TestLiveStretches(t *testing.T) {
	s, _ := openTest(t, vfs.NewCrash(), Options{SegmentBytes: 1 << 20, compactNever: true})
	var l liveRecords
	write := func(first blocktree.SectorIndex, count uint32, v uint64) {
		rec := dataRecord(testFile, first, count, 512, version(v))
		ref := put(t, s, rec)
		l.records = append(l.records, header{Record: rec, segment: ref.Segment, offset: ref.Offset})
	}
	write(250, 12, 1)
	write(252, 2, 2)
	write(300, 5, 3)
	write(298, 10, 4)
	zero := Record{Kind: KindZero, File: testFile, First: 260, Count: 1, Version: version(5)}
	refs := appendWait(t, s, zero)
	if err := s.Index(testFile, Extent{First: 260, Count: 1, Version: version(5), Content: Zero, Ref: refs[0]}); err != nil {
		t.Fatal(err)
	}
	want := [][]stretch{{{0, 2}, {4, 10}, {11, 12}}, {{0, 2}}, nil, {{0, 10}}}
	s.findLive(&l)
	for i := range want {
		if got := l.of(i); !slices.Equal(got, want[i]) {
			t.Errorf("record %d: %v, want %v", i, got, want[i])
		}
	}
	if n := testing.AllocsPerRun(50, func() { s.findLive(&l) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestCopiesAreWhole: nothing of what was in the compactor's memory before is in a copy.
func TestCopiesAreWhole(t *testing.T) {
	s, _ := byHand(t, vfs.NewCrash(), forgetNothing)
	fillHalf(t, s)
	c := s.compactor
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.choose(lookup(t, s, 0, 1)[0].Ref.Segment); err != nil {
		t.Fatal(err)
	}
	c.buf = bytes.Repeat([]byte{0xff}, 1<<20)
	if err := c.newTarget(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.gather(); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.moves {
		b := c.buf[m.to.Offset:]
		h, err := decodeHeader(b, s.id)
		if err != nil {
			t.Fatal(err)
		}
		if rest := b[headerBytes+h.payloadBytes()+h.metaBytes() : h.bytes()]; slices.Max(rest) != 0 {
			t.Fatalf("behind the copy of sector %d there is something else: %x", m.first, rest)
		}
	}
	if len(c.moves) == 0 {
		t.Error("nothing was copied")
	}
	c.leaveVictim()
}
