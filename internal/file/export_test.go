package file

import (
	"context"
	"time"

	"blocktree"
	"blocktree/crypto/tree"
)

// Bounds that tests go by.
const (
	FoldDelay  = foldDelay
	CachePages = cachePages
)

// SetStep has a test asked before each step of a fold.
func (o *OpenOptions) SetStep(step func(what string) error) { o.step = step }

// Fold has what was written anchored.
func Fold(ctx context.Context, f blocktree.File) error {
	return f.(*File).guard.foldOnce(ctx, time.Minute)
}

// Root is the root of the newest record that f goes by.
func Root(f blocktree.File) tree.Root {
	a := f.(*File).guard.state()
	if a.record == nil {
		return tree.Root{}
	}
	return a.record.Root()
}

// Floor is the floor of a sector.
func Floor(ctx context.Context, f blocktree.File, at blocktree.SectorIndex) (tree.Floor, error) {
	floors, err := f.(*File).guard.floors(ctx, at, 1)
	if err != nil {
		return tree.Floor{}, err
	}
	return floors[0], nil
}

// ReadAgain reads a sector once more, which a read that was judged by a floor has found below it.
func ReadAgain(ctx context.Context, f blocktree.File, at blocktree.SectorIndex, floor tree.Floor) error {
	x := f.(*File)
	_, err := x.readAgain(ctx, run{blocktree.RegionIndex(uint64(at) / x.regionSectors), at, 1}, []tree.Floor{floor}, make([]byte, x.info.SectorBytes))
	return err
}

// Raise has f believe that a sector has a floor.
func Raise(f blocktree.File, at blocktree.SectorIndex, floor tree.Floor) {
	f.(*File).guard.note(at, []tree.Floor{floor})
}

// Forge has a record anchored as whoever has the key of a generation could together with all members: the next after the newest, but for that.
func Forge(ctx context.Context, f blocktree.File, generation uint32) error {
	g := f.(*File).guard
	inode, err := g.client.StatID(ctx, g.file)
	if err != nil {
		return err
	}
	r, err := tree.DecodeRecord(inode.Anchor)
	if err != nil {
		return err
	}
	r.Before, r.Generation = r.Hash(), generation
	r.Number++
	r.Seal(g.of.keys.Load().integrity[generation], g.client.Sign)
	a, err := g.handle.NewAnchoring(ctx, r.Number, r.Append(nil))
	if err == nil {
		err = a.Ask(ctx)
	}
	return err
}

// Forget has f verify every page of the tree anew.
func Forget(f blocktree.File) {
	c := &f.(*File).guard.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.pages)
}

// Pages is the file that holds the pages of f's tree.
func Pages(f blocktree.File) blocktree.File { return f.(*File).guard.pages }

// Address is where the leaf page of a sector lies that is in a place of the pages.
func Address(f blocktree.File, at blocktree.SectorIndex, place uint8) blocktree.SectorIndex {
	return f.(*File).guard.state().tree.Shape.Address(tree.PageID{Index: uint64(at) / tree.Fanout}, place)
}

// Cached is how many pages f keeps.
func Cached(f blocktree.File) int {
	c := &f.(*File).guard.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pages)
}

// Within is how many writes are within the gate of f.
func Within(f blocktree.File) int64 {
	g := &f.(*File).gate
	return g.in[0].Load() + g.in[1].Load()
}
