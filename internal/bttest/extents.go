package bttest

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"blocktree"
)

// extents compares what a file says of its holes, where it can, with a flat slice: zero only what reads as zeros, and, when nothing
// is in flight, every sector that was never written or was zeroed last.
func extents(t *testing.T, f blocktree.File) {
	x, ok := f.(blocktree.Extenter)
	if !ok {
		return
	}
	info := f.Info()
	const sectors = 600
	written := make([]bool, sectors)
	r := rand.New(rand.NewPCG(3, 9))
	if got, err := x.Extents(t.Context(), 0, info.Sectors(), 10); err != nil || len(got) != 1 || !got[0].Zero {
		t.Fatalf("a fresh file is not one hole: %v, %v", got, err)
	}
	for range 80 {
		count := 1 + r.IntN(12)
		if r.IntN(8) == 0 {
			count = 1 + r.IntN(sectors)
		}
		first := r.IntN(sectors - count + 1)
		zero := r.IntN(3) == 0
		var err error
		if zero {
			err = f.ZeroSectors(t.Context(), blocktree.SectorIndex(first), uint64(count))
		} else {
			err = f.WriteSectors(t.Context(), blocktree.SectorIndex(first), bytes.Repeat([]byte{7}, count*info.SectorBytes))
		}
		if err == nil {
			err = f.Flush(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range count {
			written[first+i] = !zero
		}
		at, most := r.IntN(sectors), 1+r.IntN(30)
		checkExtents(t, x, written, at, 1+r.IntN(sectors-at), most)
	}
	checkExtents(t, x, written, 0, sectors, sectors)
	for _, q := range []struct {
		first blocktree.SectorIndex
		count uint64
		most  int
		kind  blocktree.Kind
	}{{0, 0, 1, blocktree.Invalid}, {0, 1, 0, blocktree.Invalid}, {1, info.Sectors(), 1, blocktree.OutOfRange}, {1, 1<<64 - 1, 1, blocktree.OutOfRange}} {
		if _, err := x.Extents(t.Context(), q.first, q.count, q.most); blocktree.KindOf(err) != q.kind {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func checkExtents(t *testing.T, x blocktree.Extenter, written []bool, first, count, most int) {
	t.Helper()
	for at, end := first, first+count; at < end; {
		got, err := x.Extents(t.Context(), blocktree.SectorIndex(at), uint64(end-at), most)
		if err != nil || len(got) == 0 || len(got) > most {
			t.Fatalf("%d extents of at most %d, %v", len(got), most, err)
		}
		for i, e := range got {
			if e.Count == 0 || e.Count > uint64(end-at) || i > 0 && got[i-1].Zero == e.Zero {
				t.Fatalf("extent %d of %v, from %d to %d", i, got, at, end)
			}
			for range e.Count {
				if written[at] == e.Zero {
					t.Fatalf("sector %d: written %v, said to be zero %v", at, written[at], e.Zero)
				}
				at++
			}
		}
	}
}
