package file

import (
	"context"
	"fmt"
	"slices"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/seal"
	"blocktree/crypto/tree"
)

// found is what a read of a run found, by sector: version and leaf, and the generation of the key; nothing where it found no data.
type found struct {
	first       blocktree.SectorIndex
	what        []tree.Floor
	generations []uint32
}

// floors returns the floors of a run, as they are at some moment of the call.
func (g *guard) floors(ctx context.Context, first blocktree.SectorIndex, count uint64) ([]tree.Floor, error) {
	if g.handle == nil {
		if err := g.keepUp(ctx); err != nil {
			return nil, err
		}
	}
	out := make([]tree.Floor, count)
	for try := 0; ; try++ {
		a, missing := g.floorsInMemory(first, out, nil)
		err := floorsInTree(a, g.source(ctx, a.tree.Shape), first, out, missing)
		if blocktree.KindOf(err) != blocktree.Corrupt {
			return out, err
		}
		// A page of this state may have been written over since another one was anchored. If it was not, this is no page of the newest state.
		newer := g.state() != a
		if !newer && g.handle == nil {
			var e error
			if newer, e = g.refresh(ctx); e != nil {
				return nil, e
			}
		}
		if !newer || try == readAgainMax {
			return nil, &blocktree.Error{Op: "integrity", Kind: blocktree.Corrupt, Err: fmt.Errorf("rollback detected: %w", err), Hint: putBackHint}
		}
	}
}

// keepUp asks for the newest record once that is foldDelay ago.
func (g *guard) keepUp(ctx context.Context) error {
	g.mu.Lock()
	old := g.now().Sub(g.asked) >= foldDelay
	g.mu.Unlock()
	if !old {
		return nil
	}
	_, err := g.refresh(ctx)
	return err
}

// floorsAtHand is floors of what is in memory and in cached pages. It does not wait: false where that is not all, or not right.
func (g *guard) floorsAtHand(first blocktree.SectorIndex, out []tree.Floor) bool {
	var room [startSectorsMax]int
	a, missing := g.floorsInMemory(first, out, room[:0])
	return floorsInTree(a, tree.Pages{Cache: &g.cache, Fetch: noPage}, first, out, missing) == nil
}

// noPage fetches nothing.
func noPage(tree.PageID, tree.Ref) (*tree.Page, error) { return nil, errNoPage }

var errNoPage = blocktree.E("integrity", blocktree.NotFound, nil)

// floorsInMemory fills in the floors that are above the tree's, and returns which are not, appended to missing, and the tree that they are in.
func (g *guard) floorsInMemory(first blocktree.SectorIndex, out []tree.Floor, missing []int) (*anchored, []int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range out {
		at := first + blocktree.SectorIndex(i)
		f, ok := g.fresh[at]
		if !ok {
			f, ok = g.folding[at]
		}
		if out[i] = f; !ok {
			missing = append(missing, i)
		}
	}
	return g.anchored, missing
}

func floorsInTree(a *anchored, source tree.Pages, first blocktree.SectorIndex, out []tree.Floor, missing []int) error {
	var page *tree.Page
	of := uint64(1<<64 - 1) // whose page it is
	for _, i := range missing {
		at := first + blocktree.SectorIndex(i)
		if index := uint64(at) / tree.Fanout; index != of {
			var err error
			if page, err = a.tree.Leaf(tree.Floors, uint64(at), source); err != nil {
				return err
			}
			of = index
		}
		if page != nil {
			out[i] = page.Floor(at)
		}
	}
	return nil
}

// judge says which sector of what was found is below its floor, if any.
func judge(what found, floors []tree.Floor) error {
	for i, is := range what.what {
		verdict := floors[i].JudgeAbsent()
		if !is.Version.IsZero() {
			verdict = floors[i].JudgeFloor(is)
		}
		if verdict != tree.Fresh {
			return rollback(putBackHint, "sector %d is %v: version %v, recorded is %v", what.first+blocktree.SectorIndex(i), verdict, is.Version, floors[i].Version)
		}
	}
	return nil
}

// readGuarded fills dst with a run that was asked for as read.
func (f *File) readGuarded(ctx context.Context, r run, read *cluster.Read, dst []byte) error {
	_, err := f.readJudged(ctx, r, read, dst)
	return err
}

// readJudged fills dst with a run that was asked for as read, and says what it is. What is below its floor may have been overtaken: then it is read once more, against the floors of before. Without a lease
// they may also be those from before the file was made smaller, which only a newer record says: so that is asked for first.
func (f *File) readJudged(ctx context.Context, r run, read *cluster.Read, dst []byte) (found, error) {
	what, err := f.readFound(ctx, r, read, dst)
	if err != nil {
		return what, err
	}
	floors, err := f.guard.floors(ctx, r.first, r.count)
	if err != nil {
		return what, f.guard.told(err)
	}
	if judge(what, floors) == nil {
		return what, nil
	}
	return f.readAgain(ctx, r, floors, dst)
}

// readAgain is the second read of readJudged, of what was below floors. Where those are others by then, as the file was made smaller beside it, and maybe larger again, it is read against them.
func (f *File) readAgain(ctx context.Context, r run, floors []tree.Floor, dst []byte) (what found, err error) {
	for try := 0; ; try++ {
		if f.handle == nil {
			newer, err := f.guard.refresh(ctx)
			if err == nil && newer {
				floors, err = f.guard.floors(ctx, r.first, r.count)
			}
			if err != nil {
				return what, f.guard.told(err)
			}
		}
		if what, err = f.readFound(ctx, r, f.ask(ctx, r), dst); err != nil {
			return what, err
		}
		below := judge(what, floors)
		if below == nil {
			return what, nil
		}
		now, err := f.guard.floors(ctx, r.first, r.count)
		if err != nil {
			return what, f.guard.told(err)
		}
		if slices.Equal(now, floors) || try == readAgainMax {
			return what, f.guard.told(below)
		}
		floors = now
	}
}

// told has a rollback logged.
func (g *guard) told(err error) error {
	if blocktree.KindOf(err) == blocktree.Corrupt {
		g.alarm(err)
	}
	return err
}

// readFound waits for a run, opens its sectors into dst, and returns what they are.
func (f *File) readFound(ctx context.Context, r run, read *cluster.Read, dst []byte) (found, error) {
	n := noting{f: f, what: found{r.first, make([]tree.Floor, r.count), make([]uint32, r.count)}}
	pieces, err := read.Wait(ctx)
	if err != nil {
		return n.what, err
	}
	defer read.Release()
	return n.what, f.openPieces(r, pieces, dst, func(p *cluster.Piece, part []byte) error { return f.openPiece(ctx, r, p, part, n.open) })
}

// noting opens sectors as File.open does, has their leaves checked, which a floor is compared with, and notes what they are.
type noting struct {
	f      *File
	what   found
	sealed []byte // room for a sealed sector
}

func (n *noting) open(p *cluster.Piece, dst []byte) error {
	f, at := n.f, p.First-n.what.first
	noted, generations := n.what.what[at:][:p.Count], n.what.generations[at:][:p.Count]
	clear(noted) // of this piece, or a look before: what is not data here is absent
	clear(generations)
	if !p.Data() {
		return nil
	}
	shards, err := f.openUnder(p, dst, generations)
	if err != nil {
		return err
	}
	if n.sealed == nil {
		n.sealed = make([]byte, 0, f.info.SectorBytes+blocktree.DataShardsMax) // with padding
	}
	var room [blocktree.DataShardsMax][]byte
	for i := range int(p.Count) {
		at, sealed := p.First+blocktree.SectorIndex(i), n.sealed[:0]
		for _, part := range p.Parts(i, shards, room[:0]) {
			sealed = append(sealed, part...)
		}
		if err := seal.VerifyLeaf(sealed[:f.info.SectorBytes], f.info.ID, at, p.Version, p.Seal(i)); err != nil {
			clear(noted)
			return fmt.Errorf("sector %d: %w", at, err)
		}
		noted[i] = tree.FloorOf(p.Version, seal.HeaderLeaf(p.Seal(i)))
	}
	return nil
}
