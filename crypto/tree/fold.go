package tree

import (
	"errors"

	"blocktree"
)

// Change is the new entry of a key.
type Change struct {
	Key   uint64
	entry [EntryBytes]byte
}

// FloorChange gives a sector a floor.
func FloorChange(sector blocktree.SectorIndex, f Floor) Change {
	c := Change{Key: uint64(sector)}
	f.put(c.entry[:])
	return c
}

// EndChange notes where a line ended.
func EndChange(line uint64, e End) Change {
	c := Change{Key: line}
	e.put(c.entry[:])
	return c
}

// Keep takes a new page for the place that ref names. The page is the callee's from then on. What is beneath a page is kept before it.
type Keep func(id PageID, ref Ref, p *Page) error

// Fold returns the root of a tree with changes, whose keys ascend and are the tree's. It fetches each page that changes once, and keeps a new one in the other place than the old
// root uses; it holds one path of pages at a time. The tree itself stays as it is, and valid, whatever comes of it. Kinds: Corrupt (as Leaf), Invalid (keys), and those of pages and keep.
func (t *Tree) Fold(w Which, changes []Change, pages Pages, keep Keep) (Ref, error) {
	for i, c := range changes {
		if c.Key >= t.Shape.entries(w) || i > 0 && c.Key <= changes[i-1].Key {
			return Ref{}, blocktree.E("tree.Fold", blocktree.Invalid, errors.New("keys that do not ascend, or are none of the tree"))
		}
	}
	if len(changes) == 0 {
		return t.Roots[w], nil
	}
	f := folding{t, w, pages, keep}
	return f.page(t.Shape.trees[w].levels-1, 0, t.Roots[w], changes)
}

type folding struct {
	tree  *Tree
	which Which
	pages Pages
	keep  Keep
}

// page makes the new page of a level and index, which old refers to now, and what changes beneath it.
func (f *folding) page(level int, index uint64, old Ref, changes []Change) (Ref, error) {
	id := PageID{f.which, uint8(level), index}
	p := new(Page)
	if old != (Ref{}) {
		was, err := f.tree.fetch(id, old, f.pages)
		if err != nil {
			return Ref{}, err
		}
		*p = *was
	}
	if level == 0 {
		for _, c := range changes {
			copy(p.entry(c.Key%Fanout), c.entry[:])
		}
	} else if err := f.children(p, level, changes); err != nil {
		return Ref{}, err
	}
	place := uint8(1)
	if old.Place() == 1 {
		place = 2
	}
	ref := refOf(f.tree.File, id, place, p)
	return ref, f.keep(id, ref, p)
}

// children has the pages beneath p made that change, and notes them in it.
func (f *folding) children(p *Page, level int, changes []Change) error {
	beneath := uint64(1) // keys of one child
	for range level {
		beneath *= Fanout
	}
	for len(changes) > 0 {
		child := changes[0].Key / beneath
		n := 1
		for n < len(changes) && changes[n].Key/beneath == child {
			n++
		}
		e := p.entry(child % Fanout)
		old := Ref(e)
		if !old.valid() {
			return blocktree.E("tree", blocktree.Corrupt, errors.New("an impossible reference"))
		}
		ref, err := f.page(level-1, child, old, changes[:n])
		if err != nil {
			return err
		}
		copy(e, ref[:])
		changes = changes[n:]
	}
	return nil
}
