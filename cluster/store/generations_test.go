package store

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestPowerLossGenerations cuts the power again and again while dead segments become new ones and the compactor copies: each start
// goes on with the directory that the one before left, and with it with the stale content of all before. Nothing that was answered is
// gone, and nothing stale is taken for damage.
func TestPowerLossGenerations(t *testing.T) {
	const sectors, generations = 24, 40
	rng := rand.New(rand.NewPCG(7, 9))
	opts := Options{SegmentBytes: 16 << 10, CheckpointBytes: 1 << 20, compactEager: true}
	fs := vfs.NewCrash()
	if err := Create(fs, testDir, testID, opts); err != nil {
		t.Fatal(err)
	}
	var acked [sectors]uint64
	last, recycled, copied := uint64(0), uint64(0), uint64(0)
	for generation := range generations {
		var syncs atomic.Int64
		var crashed atomic.Pointer[vfs.Crash]
		at, seed := int64(1+rng.IntN(200)), rng.Uint64()
		fs.OnSync = func(vfs.SyncPoint) {
			if syncs.Add(1) == at {
				crashed.Store(fs.Clone(seed))
			}
		}
		s, err := Open(fs, testDir, testID, opts, &indexer{})
		if err != nil {
			t.Fatalf("generation %d: %v", generation, err)
		}
		if d := s.Damaged(); len(d) > 0 {
			t.Fatalf("generation %d: damage %+v", generation, d)
		}
		for i := range acked {
			x := lookup(t, s, blocktree.SectorIndex(i), 1)[0]
			if uint64(x.Version.Sequence) < acked[i] || uint64(x.Version.Sequence) > last {
				t.Fatalf("generation %d, sector %d: %+v, answered was %d", generation, i, x, acked[i])
			}
			if x.Content == Data {
				if err := checkExtent(s, testFile, x); err != nil {
					t.Fatalf("generation %d, sector %d: %v", generation, i, err)
				}
			}
		}
		for crashed.Load() == nil {
			n := 1 + rng.IntN(4)
			first := rng.IntN(sectors - n)
			last++
			r := dataRecord(testFile, blocktree.SectorIndex(first), uint32(n), 512, version(last))
			put(t, s, r)
			for i := first; i < first+n && syncs.Load() < at; i++ {
				acked[i] = last
			}
			if rng.IntN(30) == 0 {
				checkpointNow(t, s)
			}
		}
		st := s.Stats()
		recycled, copied = recycled+st.Recycled, copied+st.CompactedSegments
		if err := s.Close(nil); err != nil {
			t.Fatal(err)
		}
		fs = crashed.Load()
	}
	t.Logf("%d segments recycled, %d compacted", recycled, copied)
	if recycled == 0 || copied == 0 {
		t.Error("nothing happened")
	}
}
