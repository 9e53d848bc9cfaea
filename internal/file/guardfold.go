package file

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/tree"
)

const (
	// foldRetry is how long after a fold that failed the next is tried.
	foldRetry = time.Second
	// foldTimeout bounds one try: longer than writes may wait.
	foldTimeout = 2 * blocktree.WriteStallTimeout
	// closeFoldTimeout bounds the last fold, so that a server can be stopped while there is no majority.
	closeFoldTimeout = 15 * time.Second
	// pagesAtOnce is how many pages a fold fetches at a time.
	pagesAtOnce = 64
)

// proposal is a record on its way to be anchored, and the state that there is if it arrives.
type proposal struct {
	anchoring *cluster.Anchoring
	next      *anchored
}

// run folds when it is due, until close.
func (g *guard) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-g.stop
		cancel()
	}()
	var timer <-chan time.Time
	failed := false
	for {
		select {
		case <-g.stop:
			return
		case <-g.soon:
			if timer == nil {
				timer = time.After(foldDelay)
			}
			continue
		case <-timer:
		case <-g.due:
			if failed && timer != nil { // it has just failed
				continue
			}
		}
		timer = nil
		err := g.foldOnce(ctx, foldTimeout)
		if err != nil && ctx.Err() == nil {
			if !failed {
				g.client.Logger().Warn("the integrity tree could not be brought up to date; it is tried again", "path", g.path.Short(), "err", err)
			}
			timer = time.After(foldRetry)
		}
		failed = err != nil
	}
}

// close folds what is left, while the leases are there, and gives the companion back; it does so once.
func (g *guard) close() error {
	g.closing.Do(func() { g.closed = g.end() })
	return g.closed
}

func (g *guard) end() error {
	close(g.stop)
	g.wg.Wait()
	var err error
	if g.handle != nil {
		err = g.foldOnce(context.Background(), closeFoldTimeout)
	}
	g.cancel()
	if e := g.pages.Close(); err == nil {
		err = e
	}
	return err
}

// foldOnce has a record anchored of all that was acknowledged before, unless nothing was written since the last. The order is that of docs/design/0028.
func (g *guard) foldOnce(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := g.fold.take(ctx); err != nil {
		return err
	}
	defer g.fold.give()
	return g.foldHeld(ctx)
}

// foldHeld is foldOnce of who has the turn.
func (g *guard) foldHeld(ctx context.Context) error {
	if err := g.of.keys.Load().refused; err != nil {
		return err // a record of ours would be under a key of before
	}
	if g.unsettled != nil {
		if err := g.settle(ctx); err != nil {
			return err
		}
	}
	if !g.take() && !g.behind() {
		return g.keepSeen(g.state()) // which may have failed before
	}
	p, err := g.prepare(ctx)
	if err != nil {
		g.putBack()
		return err
	}
	g.unsettled = p
	return g.settle(ctx)
}

// behind reports whether the newest record is under a key before the newest: of the first there need not be any.
func (g *guard) behind() bool {
	return g.state().before(g.of.keys.Load().generation)
}

// rekeyed returns when there is a record under the newest key; or, where that is not ours to know, when nothing will be anchored under another any more.
func (g *guard) rekeyed(ctx context.Context) error {
	err := g.foldOnce(ctx, foldTimeout)
	if g.of.keys.Load().refused != nil && ctx.Err() == nil {
		return nil // whoever folded had its turn before us
	}
	return err
}

// take begins a fold of what is fresh, and says whether there is anything.
func (g *guard) take() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.fresh) == 0 {
		return false
	}
	g.folding, g.fresh = g.fresh, map[blocktree.SectorIndex]tree.Floor{}
	return true
}

// putBack ends a fold that came to nothing.
func (g *guard) putBack() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for at, f := range g.folding {
		if g.fresh[at].Version.Less(f.Version) {
			g.fresh[at] = f
		}
	}
	g.folding = nil
	g.wake()
}

// wake tells writes that wait for a fold; mu is held.
func (g *guard) wake() {
	if g.room != nil {
		close(g.room)
		g.room = nil
	}
}

// prepare makes what is being folded durable, then the pages, and then the record. Nobody else changes g.folding or g.anchored meanwhile.
func (g *guard) prepare(ctx context.Context) (*proposal, error) {
	if err := either(g.step("flush"), g.handle.Flush(ctx)); err != nil {
		return nil, err
	}
	was := g.state()
	sectors := g.of.kept()
	if was.record != nil { // the file may be larger than this holder has heard
		sectors = max(sectors, was.tree.Shape.Sectors())
	}
	if cut := g.cutTo.Load(); cut != 0 { // behind that nothing has a floor, and the file may be no larger by now
		sectors = cut
	}
	next, err := g.foldPages(ctx, was, sectors)
	if err != nil {
		return nil, err
	}
	if err := either(g.step("flush pages"), g.pages.Flush(ctx)); err != nil {
		return nil, err
	}
	return g.propose(ctx, was, next)
}

// propose makes the record of a state, the next after was.
func (g *guard) propose(ctx context.Context, was, next *anchored) (*proposal, error) {
	next.record = g.recordAfter(was, &next.tree)
	anchoring, err := g.handle.NewAnchoring(ctx, next.record.Number, next.record.Append(nil))
	return &proposal{anchoring, next}, err
}

// foldPages writes the pages of a state that follows was, of a file that has so many sectors, no fewer than the record of was has.
func (g *guard) foldPages(ctx context.Context, was *anchored, sectors uint64) (*anchored, error) {
	shape := was.tree.Shape.Resized(sectors)
	if was.record == nil {
		first := tree.NewShape(max(g.of.kept(), sectors)) // whatever becomes of a cut, there is room for that
		shape = first.Resized(sectors)
		was = &anchored{tree: tree.Tree{File: g.file, Shape: &shape}}
	}
	if err := g.roomFor(ctx, shape.Bytes()/tree.PageBytes); err != nil {
		return nil, err
	}
	next := &anchored{tree: was.tree}
	next.tree.Shape = &shape
	changes := make([]tree.Change, 0, len(g.folding))
	changed := slices.Sorted(maps.Keys(g.folding))
	for _, at := range changed {
		changes = append(changes, tree.FloorChange(at, g.folding[at]))
	}
	out := newPageWriter(ctx, g, &shape)
	ahead := &pagesAhead{guard: g, tree: &was.tree, sectors: changed}
	source := g.source(ctx, was.tree.Shape)
	source.Fetch = ahead.fetch(ctx, source.Fetch)
	var err error
	if next.tree.Roots[tree.Floors], err = was.tree.FoldInto(&shape, tree.Floors, changes, source, out.keep); err == nil {
		next.tree.Roots[tree.History], err = g.foldHistory(ctx, was, out)
	}
	return next, either(err, out.finish())
}

// foldHistory notes where the line before this one ended, with the first record of this one.
func (g *guard) foldHistory(ctx context.Context, was *anchored, out *pageWriter) (tree.Ref, error) {
	var changes []tree.Change
	if r := was.record; r != nil && !g.began {
		changes = append(changes, tree.EndChange(r.Line, tree.End{Random: r.Random, Number: r.Number}))
	}
	return was.tree.Fold(tree.History, changes, g.source(ctx, was.tree.Shape), out.keep)
}

// recordAfter is the record of a tree, the next after that of was.
func (g *guard) recordAfter(was *anchored, t *tree.Tree) *tree.Record {
	keys := g.of.keys.Load()
	r := &tree.Record{File: g.file, Number: 1, Random: g.random, Epoch: g.handle.Epoch(), Generation: keys.generation, Sectors: t.Shape.Sectors(), Base: t.Shape.Base(), Roots: t.Roots}
	if before := was.record; before != nil {
		r.Number, r.Line, r.Before = before.Number+1, before.Line, before.Hash()
		if !g.began {
			r.Line++
		}
	}
	copy(r.Signer[:], g.client.SigningKey())
	r.Seal(keys.integrity[keys.generation], g.client.Sign)
	return r
}

// settle finds out what became of the record on its way, and goes by it.
func (g *guard) settle(ctx context.Context) error {
	p := g.unsettled
	if err := g.step("anchor"); err != nil {
		return err
	}
	err := p.anchoring.Ask(ctx)
	if blocktree.KindOf(err) == blocktree.Unavailable {
		return err // it may still be anchored
	}
	if e := g.step("adopt"); e != nil {
		return e
	}
	g.unsettled = nil
	if err != nil {
		g.putBack()
		return err
	}
	g.began = true
	g.mu.Lock()
	g.anchored, g.folding = p.next, nil
	g.wake()
	g.mu.Unlock()
	return g.keepSeen(p.next)
}

// pagesAhead fetches the leaf pages that a fold will want next, many at a time: it wants them one after the other.
type pagesAhead struct {
	guard   *guard
	tree    *tree.Tree
	sectors []blocktree.SectorIndex // ascending, of those pages that were not asked for yet
}

// fetch wraps fetch for a fold.
func (a *pagesAhead) fetch(ctx context.Context, fetch func(tree.PageID, tree.Ref) (*tree.Page, error)) func(tree.PageID, tree.Ref) (*tree.Page, error) {
	return func(id tree.PageID, ref tree.Ref) (*tree.Page, error) {
		if id.Tree == tree.Floors && id.Level == 0 {
			a.load(ctx, id.Index)
			if p := a.guard.cache.Get(id, ref); p != nil {
				return p, nil
			}
		}
		return fetch(id, ref)
	}
}

// load has the next pages from index on verified and cached; what fails will be met again.
func (a *pagesAhead) load(ctx context.Context, index uint64) {
	var wg sync.WaitGroup
	last := uint64(0)
	for n := 0; n < pagesAtOnce && len(a.sectors) > 0; {
		at := a.sectors[0]
		a.sectors = a.sectors[1:]
		page := uint64(at) / tree.Fanout
		if page < index || n > 0 && page == last {
			continue
		}
		last, n = page, n+1
		wg.Go(func() { _, _ = a.tree.Leaf(tree.Floors, uint64(at), a.guard.source(ctx, a.tree.Shape)) })
	}
	wg.Wait()
}
