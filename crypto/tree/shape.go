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

// Shape is where the pages of the trees of a file lie, by how many sectors it has. There are two trees, and two places for each page.
type Shape struct {
	sectors uint64
	trees   [2]shape1
	pages   uint64 // of both trees, in one place each
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

// NewShape lays out the trees of a file of so many sectors, from 1 to those of the largest file.
func NewShape(sectors uint64) Shape {
	s := Shape{sectors: sectors}
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
	}
	return s
}

// Sectors is how many sectors the file has.
func (s *Shape) Sectors() uint64 { return s.sectors }

// Bytes is how large the file must be that holds all pages in both places.
func (s *Shape) Bytes() uint64 { return 2 * s.pages * PageBytes }

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
	return blocktree.SectorIndex(uint64(place-1)*s.pages + s.trees[id.Tree].at[id.Level] + id.Index)
}
