package tree

import (
	"encoding/binary"
	"errors"

	"blocktree"
)

// Pages is where pages come from.
type Pages struct {
	// Fetch returns a page that ref refers to. It may return any page: its hash is compared. The page is not changed by anybody from then on.
	Fetch func(id PageID, ref Ref) (*Page, error)
	// Cache, which may be nil, keeps pages whose hash was compared.
	Cache Cache
}

// Cache keeps pages by what refers to them, which has their hash: what was put under a reference once is right for ever.
type Cache interface {
	Get(id PageID, ref Ref) *Page // nil: not there
	Put(id PageID, ref Ref, p *Page)
}

// Tree is the trees of a file as a record says they are.
type Tree struct {
	File  blocktree.FileID // that they are of
	Shape *Shape
	Roots [2]Ref
}

// mismatch is what is wrong with a page that is not what its reference says. Its kind is Corrupt.
func mismatch() error {
	return blocktree.E("tree", blocktree.Corrupt, errors.New("a page of the integrity tree is not the one that the newest record is of"))
}

// fetch returns the page that ref refers to, after its hash was compared.
func (t *Tree) fetch(id PageID, ref Ref, pages Pages) (*Page, error) {
	if pages.Cache != nil {
		if p := pages.Cache.Get(id, ref); p != nil {
			return p, nil
		}
	}
	p, err := pages.Fetch(id, ref)
	if err != nil {
		return nil, err
	}
	if refOf(t.File, id, ref.Place(), p) != ref {
		return nil, mismatch()
	}
	if pages.Cache != nil {
		pages.Cache.Put(id, ref, p)
	}
	return p, nil
}

// Leaf returns the page with the entry of key, checked from the root down, and nil where there is none, as behind the end. Kind Corrupt: a page is not what its parent says, or makes no sense.
func (t *Tree) Leaf(w Which, key uint64, pages Pages) (*Page, error) {
	ref := t.Roots[w]
	if key >= t.Shape.entries(w) {
		return nil, nil
	}
	for level := t.Shape.levels[w] - 1; ; level-- {
		if ref == (Ref{}) {
			return nil, nil
		}
		index := key
		for range level {
			index /= Fanout
		}
		p, err := t.fetch(PageID{w, uint8(level), index / Fanout}, ref, pages)
		if err != nil || level == 0 {
			return p, err
		}
		if ref = Ref(p.entry(index % Fanout)); !ref.valid() {
			return nil, blocktree.E("tree", blocktree.Corrupt, errors.New("an impossible reference"))
		}
	}
}

// Floor returns the floor of a sector: none of one behind the end. Kinds as Leaf.
func (t *Tree) Floor(sector blocktree.SectorIndex, pages Pages) (Floor, error) {
	p, err := t.Leaf(Floors, uint64(sector), pages)
	if err != nil || p == nil {
		return Floor{}, err
	}
	return p.Floor(sector), nil
}

// Floor is that of a sector whose leaf page this is.
func (p *Page) Floor(sector blocktree.SectorIndex) Floor {
	return floorFrom(p.entry(uint64(sector) % Fanout))
}

// End is where a line ended: the number of its last record, and the random bytes that tell it from lines of other histories.
type End struct {
	Random [16]byte
	Number uint64
}

func (e End) put(b []byte) {
	copy(b, e.Random[:])
	binary.BigEndian.PutUint64(b[16:], e.Number)
}

// LineEnd returns where a line ended, and the zero End if the history does not say.
func (t *Tree) LineEnd(line uint64, pages Pages) (End, error) {
	if line >= LinesMax {
		return End{}, nil
	}
	p, err := t.Leaf(History, line, pages)
	if err != nil || p == nil {
		return End{}, err
	}
	b := p.entry(line % Fanout)
	return End{[16]byte(b), binary.BigEndian.Uint64(b[16:])}, nil
}
