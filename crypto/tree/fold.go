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
	return t.FoldInto(t.Shape, w, changes, pages, keep)
}

// FoldInto is Fold into the tree of a file that has grown to a shape: a tree that gets higher has pages above its root, and what is beneath that stays as it is.
func (t *Tree) FoldInto(s *Shape, w Which, changes []Change, pages Pages, keep Keep) (Ref, error) {
	if s.sectors < t.Shape.sectors {
		return Ref{}, blocktree.E("tree.Fold", blocktree.Invalid, errors.New("a smaller file"))
	}
	for i, c := range changes {
		if c.Key >= s.entries(w) || i > 0 && c.Key <= changes[i-1].Key {
			return Ref{}, blocktree.E("tree.Fold", blocktree.Invalid, errors.New("keys that do not ascend, or are none of the tree"))
		}
	}
	f := folding{t, w, t.Shape.levels[w], pages, keep}
	if len(changes) == 0 && (s.levels[w] == f.levels || t.Roots[w] == Ref{}) {
		return t.Roots[w], nil
	}
	return f.at(s.levels[w]-1, 0, Ref{}, changes)
}

type folding struct {
	tree   *Tree
	which  Which
	levels int // that the tree has
	pages  Pages
	keep   Keep
}

// at makes a page anew, which old refers to now; the first of its level may be the root of the tree, or lie above that.
func (f *folding) at(level int, index uint64, old Ref, changes []Change) (Ref, error) {
	switch root := f.tree.Roots[f.which]; {
	case index > 0 || level < f.levels-1 || root == Ref{}:
		return f.page(level, index, old, changes)
	case level >= f.levels:
		return f.above(level, changes)
	case len(changes) == 0:
		return root, nil
	default:
		return f.page(level, 0, root, changes)
	}
}

// above makes the first page of a level that the tree has not had.
func (f *folding) above(level int, changes []Change) (Ref, error) {
	p := new(Page)
	first := 0 // changes beneath the first child, which has the root in it
	for first < len(changes) && changes[first].Key/beneath(level) == 0 {
		first++
	}
	ref, err := f.at(level-1, 0, Ref{}, changes[:first])
	if err != nil {
		return Ref{}, err
	}
	copy(p.entry(0), ref[:])
	if err := f.children(p, level, changes[first:]); err != nil {
		return Ref{}, err
	}
	return f.kept(level, 0, Ref{}, p)
}

// kept keeps a page in the other place than old has.
func (f *folding) kept(level int, index uint64, old Ref, p *Page) (Ref, error) {
	id, place := PageID{f.which, uint8(level), index}, uint8(1)
	if old.Place() == 1 {
		place = 2
	}
	ref := refOf(f.tree.File, id, place, p)
	return ref, f.keep(id, ref, p)
}

// beneath is how many keys one child of a page of a level has.
func beneath(level int) uint64 {
	n := uint64(1)
	for range level {
		n *= Fanout
	}
	return n
}

// Cut returns the root of the floors when the file ends at a shape that is smaller: of what lies behind its end there are none. It keeps a page of each level at most, as Fold does. Kinds as Fold.
func (t *Tree) Cut(s *Shape, pages Pages, keep Keep) (Ref, error) {
	f := folding{t, Floors, t.Shape.levels[Floors], pages, keep}
	root := t.Roots[Floors]
	for level := f.levels - 1; level >= s.levels[Floors] && root != (Ref{}); level-- {
		p, err := t.fetch(PageID{Floors, uint8(level), 0}, root, pages)
		if err != nil {
			return Ref{}, err
		}
		if root = Ref(p.entry(0)); !root.valid() {
			return Ref{}, impossible()
		}
	}
	return f.cut(s.levels[Floors]-1, root, s.sectors-1)
}

// cut makes the page of a level which has the last key that there is, without what follows that.
func (f *folding) cut(level int, old Ref, last uint64) (Ref, error) {
	if old == (Ref{}) {
		return old, nil
	}
	index := last / beneath(level)
	was, err := f.tree.fetch(PageID{f.which, uint8(level), index / Fanout}, old, f.pages)
	if err != nil {
		return Ref{}, err
	}
	p := *was
	for i := index%Fanout + 1; i < Fanout; i++ {
		clear(p.entry(i))
	}
	if level > 0 {
		e := p.entry(index % Fanout)
		child := Ref(e)
		if !child.valid() {
			return Ref{}, impossible()
		}
		if child, err = f.cut(level-1, child, last); err != nil {
			return Ref{}, err
		}
		copy(e, child[:])
	}
	if p == *was {
		return old, nil
	}
	return f.kept(level, index/Fanout, old, &p)
}

func impossible() error {
	return blocktree.E("tree", blocktree.Corrupt, errors.New("an impossible reference"))
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
	return f.kept(level, index, old, p)
}

// children has the pages beneath p made that change, and notes them in it.
func (f *folding) children(p *Page, level int, changes []Change) error {
	keys := beneath(level)
	for len(changes) > 0 {
		child := changes[0].Key / keys
		n := 1
		for n < len(changes) && changes[n].Key/keys == child {
			n++
		}
		e := p.entry(child % Fanout)
		old := Ref(e)
		if !old.valid() {
			return impossible()
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
