package store

import (
	"math/rand/v2"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestWindowOfACompactor: records that lie across the ends of what is read of a victim at a time, and such as are longer than that, are copied as they are; what is dead is not, and nothing is left
// of the victims.
func TestWindowOfACompactor(t *testing.T) {
	const sectors = 4096
	s, _ := openTest(t, vfs.NewCrash(), Options{SegmentBytes: 4 << 20, compactNever: true})
	rng := rand.New(rand.NewPCG(1, 2))
	want := make([]uint64, sectors)
	var victims []uint32
	note := func(ref Ref) {
		if len(victims) == 0 || victims[len(victims)-1] != ref.Segment {
			victims = append(victims, ref.Segment)
		}
	}
	for v := uint64(1); len(victims) < 5; v++ {
		count := uint32(1 + rng.IntN(8))
		switch rng.IntN(4) {
		case 0: // up to a mebibyte with its seals: several windows
			count = uint32(1 + rng.IntN(blocktree.RunSectorsMax))
		case 1:
			count = 1
		}
		first := blocktree.SectorIndex(rng.IntN(sectors - int(count) + 1))
		note(put(t, s, dataRecord(testFile, first, count, 4096, version(v))))
		for i := range count {
			want[int(first)+int(i)] = v
		}
	}
	checkpointNow(t, s)
	for _, n := range victims[:len(victims)-1] {
		compactOne(t, s, n)
		if left := s.pins.liveSectors(n); left != 0 {
			t.Errorf("%d live sectors are left in segment %d", left, n)
		}
	}
	seen := 0
	for _, x := range lookup(t, s, 0, sectors) {
		if x.Content != Data {
			continue
		}
		for i := range x.Count {
			if v := want[uint64(x.First)+uint64(i)]; x.Version != version(v) {
				t.Fatalf("sector %d has version %v, want %d", uint64(x.First)+uint64(i), x.Version, v)
			}
			seen++
		}
		if err := checkExtent(s, testFile, x); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range want {
		if v > 0 {
			seen--
		}
	}
	if seen != 0 {
		t.Errorf("%d sectors more than were written", seen)
	}
}
