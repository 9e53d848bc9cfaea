package store

import (
	"slices"
	"testing"

	"blocktree"
)

// zerosIndex is an index of one file with pages in memory, every other sector of each of them data, and nothing behind it.
func zerosIndex(file blocktree.FileID, pages ...uint64) *index {
	ix := newIndex(identity{}, nil, 1<<30)
	for _, n := range pages {
		p := &page{key: pageKey{file, n}, dirty: true}
		for i := uint16(0); i < PageSectors; i += 2 {
			p.runs = append(p.runs, run{first: i, count: 1, content: Data, recCount: 1, version: blocktree.Version{Epoch: 1, Sequence: 1}})
		}
		ix.cache[p.key] = p
	}
	return ix
}

// TestZerosOfADamagedPage: nobody knows what it held, so that nothing of it is a hole, also where zeros were laid over all; what lies beside it
// is told of as ever.
func TestZerosOfADamagedPage(t *testing.T) {
	var file blocktree.FileID
	for _, covered := range []bool{false, true} {
		ix := zerosIndex(file)
		if covered {
			ix.coverZero(zeroRange{file: file, from: 0, to: 10, version: blocktree.Version{Epoch: 9}})
		}
		ix.condemn(pageKey{file, 2})
		w := zeroWalk{at: 100, extentsMax: 9}
		if err := ix.walkZeros(&w, file, 9*PageSectors, 64); err != nil {
			t.Fatal(err)
		}
		want := []Extent{{First: 100, Count: 2*PageSectors - 100, Content: Zero}, {First: 2 * PageSectors, Count: PageSectors, Content: Data},
			{First: 3 * PageSectors, Count: 6 * PageSectors, Content: Zero}}
		if !slices.Equal(w.out, want) || w.at != 9*PageSectors {
			t.Errorf("covered %v: %+v to %d", covered, w.out, w.at)
		}
	}
}

// TestZerosTakesParts: an answer that looks at one page does not go through all that a long run has, and one that looks at a page far
// away finds it.
func TestZerosTakesParts(t *testing.T) {
	var file blocktree.FileID
	const last = 1<<13 - 1
	ix := zerosIndex(file)
	for n := range uint64(last + 1) {
		ix.table.ReplaceOrInsert(tableEntry{key: pageKey{file, n}, bytes: pageFixedBytes})
	}
	first := zerosIndex(file, 0)
	ix.cache = first.cache
	allocated := testing.AllocsPerRun(1, func() {
		w := zeroWalk{extentsMax: 128}
		if err := ix.walkZeros(&w, file, (last+1)*PageSectors, 64); err != nil || w.at != 128 {
			t.Errorf("to %d: %v", w.at, err)
		}
	})
	if allocated > 20 {
		t.Errorf("%v allocations for one page of %d", allocated, last+1)
	}
	for _, pages := range []int{1, 2, 64} {
		ix = zerosIndex(file, 70, last)
		w := zeroWalk{at: 70*PageSectors + 255, extentsMax: 128}
		err := ix.walkZeros(&w, file, (last+1)*PageSectors, pages)
		want := blocktree.SectorIndex(last * PageSectors)
		if pages > 1 {
			want += 127
		}
		if err != nil || w.at != want || w.out[0] != (Extent{First: 70*PageSectors + 255, Count: (last-71)*PageSectors + 1, Content: Zero}) {
			t.Errorf("%d pages: %+v to %d: %v", pages, w.out[0], w.at, err)
		}
	}
}
