package file

import (
	"context"
	"errors"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/tree"
)

// Resize is cluster.Client.Resize for any file. One of integrity tree is made smaller by who reads it (docs/design/0028): o says how it is opened, for as long as that takes.
func Resize(ctx context.Context, c *cluster.Client, path blocktree.Path, r cluster.ResizeOptions, o OpenOptions) (was, is uint64, err error) {
	r.ShrinkTree = func(ctx context.Context, to uint64, cut func(context.Context, *cluster.Handle) error) error {
		return shrinkTree(ctx, c, path, to, o, cut)
	}
	return c.Resize(ctx, path, r)
}

// shrinkWait is how long the lease is waited for: as long as a node takes to let go of a file that it heals.
const shrinkWait = 2 * time.Second

// shrinkTree opens the file, and does in this order: 1. nothing else is written through it; 2. a record is anchored by which sectors behind the end have no floor; 3. cut.
func shrinkTree(ctx context.Context, c *cluster.Client, path blocktree.Path, to uint64, o OpenOptions, cut func(context.Context, *cluster.Handle) error) (err error) {
	o.ReadOnly, o.OpenOptions = false, cluster.OpenOptions{Wait: shrinkWait}
	opened, err := Open(ctx, c, path, o)
	if err != nil {
		if inode, e := c.Stat(ctx, path); e == nil {
			err = c.NotToShrink(ctx, inode.ID, err)
		}
		return err
	}
	f := opened.(*File)
	defer func() { err = either(err, f.Close()) }()
	if f.guard == nil {
		return blocktree.E("resize", blocktree.Corrupt, errors.New("it was a file of integrity tree, and is none"))
	}
	if f.keeper != nil { // which may be re-sealing what is to go
		f.keeper.end()
		f.keeper = nil
	}
	if err := f.guard.endAt(ctx, to/uint64(f.info.SectorBytes)); err != nil {
		return err
	}
	return cut(ctx, f.handle)
}

// endAt has a record anchored by which no sector from a place on has a floor, and no later one has more sectors, until cutTo is put back. Nothing may be written behind that meanwhile, and what was has ended.
func (g *guard) endAt(ctx context.Context, sectors uint64) error {
	ctx, cancel := context.WithTimeout(ctx, foldTimeout)
	defer cancel()
	if err := g.fold.take(ctx); err != nil {
		return err
	}
	defer g.fold.give()
	if err := g.foldHeld(ctx); err != nil { // what there is, behind the end too: from then on no floor comes from there
		return err
	}
	g.cutTo.Store(sectors)
	was := g.state()
	if was.record == nil || was.tree.Shape.Sectors() <= sectors {
		return nil
	}
	shape := was.tree.Shape.Resized(sectors)
	next := &anchored{tree: was.tree}
	next.tree.Shape = &shape
	out := newPageWriter(ctx, g, &shape)
	var err error
	if next.tree.Roots[tree.Floors], err = was.tree.Cut(&shape, g.source(ctx, was.tree.Shape), out.keep); err == nil {
		next.tree.Roots[tree.History], err = g.foldHistory(ctx, was, out)
	}
	if err = either(err, out.finish()); err != nil {
		return err
	}
	if err := either(g.step("flush pages"), g.pages.Flush(ctx)); err != nil {
		return err
	}
	p, err := g.propose(ctx, was, next)
	if err != nil {
		return err
	}
	g.unsettled = p
	return g.settle(ctx)
}
