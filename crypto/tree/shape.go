package tree

import "blocktree"

const (
	// PageBytes is the length of a page: the sector size of the file that holds them.
	PageBytes = 4096
	// Fanout is how many floors, or references, a page has.
	Fanout = PageBytes / EntryBytes
	// EntryBytes is the length of a floor, and of a reference to a page.
	EntryBytes = 32
	// LinesMax is how many lines a history has room for: one for each opening of the file that wrote something.
	LinesMax = Fanout * Fanout * Fanout
	// levelsMax is what the smallest sectors of the largest file need, and one more.
	levelsMax = 7
)

// Shape is where the pages of the trees of a file lie. There are two trees, and two places for each page. Where a page lies never changes, though the file has other sizes: it goes by the size that
// the file had at its first record, its base, and pages that a tree of that size does not have follow in the order in which a file that grows comes to need them.
type Shape struct {
	base, sectors uint64
	trees         [2]shape1 // as the base has them
	levels        [2]int    // that the trees have now
	pages         uint64    // of both trees of the base, in one place each
}

// shape1 is one tree: its levels begin, from the leaves up, at these pages.
type shape1 struct {
	levels int
	at     [levelsMax]uint64
	count  [levelsMax]uint64
}

// Which says which of the two trees of a file.
type Which uint8

// The trees.
const (
	Floors  Which = iota // sector → floor
	History              // line → its end
)

// SectorsMax is how many sectors the largest file has, if they are the smallest.
const SectorsMax = blocktree.FileBytesMax / blocktree.SectorBytesMin

// NewShape lays out the trees of a file of so many sectors, from 1 to SectorsMax, which is of no other size yet.
func NewShape(sectors uint64) Shape {
	s := Shape{base: sectors, sectors: sectors}
	for w, n := range [2]uint64{Floors: sectors, History: LinesMax} {
		t := &s.trees[w]
		for {
			n = (n + Fanout - 1) / Fanout
			t.at[t.levels], t.count[t.levels] = s.pages, n
			s.pages += n
			t.levels++
			if n == 1 {
				break
			}
		}
		s.levels[w] = t.levels
	}
	return s
}

// Resized is the shape when the file has so many sectors, from 1 to SectorsMax.
func (s *Shape) Resized(sectors uint64) Shape {
	n := *s
	n.sectors, n.levels[Floors] = sectors, 1
	for leaves := leavesOf(sectors); leaves > 1; leaves = leavesOf(leaves) {
		n.levels[Floors]++
	}
	return n
}

// leavesOf is how many pages so many entries take.
func leavesOf(entries uint64) uint64 { return (entries + Fanout - 1) / Fanout }

// Base is how many sectors the file had at its first record.
func (s *Shape) Base() uint64 { return s.base }

// Sectors is how many sectors the file has.
func (s *Shape) Sectors() uint64 { return s.sectors }

// Bytes is how large the file must be that holds all pages in both places.
func (s *Shape) Bytes() uint64 {
	pages := s.pages
	if have, want := leavesOf(s.base), leavesOf(s.sectors); want > have {
		pages += levelsMax + begun(want) - begun(have)
	}
	return 2 * pages * PageBytes
}

// GrownBytes is enough for the pages of a file that has so many sectors now, whatever its base, unless that was larger.
func GrownBytes(sectors uint64) uint64 {
	s := NewShape(sectors)
	return s.Bytes() + 2*levelsMax*PageBytes
}

// begun is how many pages, on all levels that there could be, have some of the first so many leaves beneath them.
func begun(leaves uint64) (n uint64) {
	for range levelsMax {
		n += leaves
		leaves = leavesOf(leaves)
	}
	return n
}

// entries is how many floors, or lines, a tree has.
func (s *Shape) entries(w Which) uint64 {
	if w == History {
		return LinesMax
	}
	return s.sectors
}

// PageID names a page of a file.
type PageID struct {
	Tree  Which
	Level uint8 // 0 is that of the leaves
	Index uint64
}

// Address is the page of the holding file in which a page lies, by its place, 1 or 2.
func (s *Shape) Address(id PageID, place uint8) blocktree.SectorIndex {
	t := &s.trees[id.Tree]
	if int(id.Level) < t.levels && id.Index < t.count[id.Level] {
		return blocktree.SectorIndex(uint64(place-1)*s.pages + t.at[id.Level] + id.Index)
	}
	at := uint64(id.Level) // a further level: the first page of each comes first
	if id.Index > 0 {
		leaf := id.Index // the first beneath it
		for range id.Level {
			leaf *= Fanout
		}
		at = levelsMax + begun(leaf) - begun(leavesOf(s.base)) + uint64(id.Level) // after those that begin before it, and those beneath it that begin with it
	}
	return blocktree.SectorIndex(2*s.pages + 2*at + uint64(place-1))
}
