package tree

import (
	"maps"

	"blocktree"
)

// memory holds pages by address, as a disk does: what is kept in a place is there until something else is.
type memory struct {
	shape *Shape
	pages map[blocktree.SectorIndex]Page
	kept  int
}

func newMemory(s *Shape) *memory {
	return &memory{shape: s, pages: map[blocktree.SectorIndex]Page{}}
}

func (m *memory) source() Pages { return Pages{Fetch: m.fetch} }

func (m *memory) fetch(id PageID, ref Ref) (*Page, error) {
	p := m.pages[m.shape.Address(id, ref.Place())]
	return &p, nil
}

func (m *memory) keep(id PageID, ref Ref, p *Page) error {
	m.kept++
	m.pages[m.shape.Address(id, ref.Place())] = *p
	return nil
}

func (m *memory) clone() *memory {
	return &memory{shape: m.shape, pages: maps.Clone(m.pages)}
}
