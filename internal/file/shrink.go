package file

import (
	"context"
	"errors"

	"blocktree"
)

// FollowShrink implements blocktree.Shrinker.
func (f *File) FollowShrink(do func(ctx context.Context, bytes uint64) error) (stop func()) {
	if f.handle == nil {
		return nil
	}
	return f.handle.FollowShrink(do)
}

// Shrink implements blocktree.Shrinker. Order: 1. the file ends at the new end for whoever asks; 2. all writes that had begun have ended; 3. of integrity tree, a record by which nothing behind has a floor; 4. zeros, flush
// and size, in the coordinator; 5. the size is that of a layout which nothing that was asked for can change any more. One at a time.
func (f *File) Shrink(ctx context.Context, bytes uint64) error {
	if f.handle == nil {
		return f.fail(shrinkOp, blocktree.E("", blocktree.Unsupported, errors.New("it is open for reading only")))
	}
	by := f.handle.Shrink
	if f.guard != nil {
		by = f.guard.shrink
	}
	return f.fail(shrinkOp, f.shrinkBy(ctx, bytes, by))
}

// shrink does 3 to 5 of Shrink. Until the outcome is known no record has more sectors than the smaller size, which the file may have by then.
func (g *guard) shrink(ctx context.Context, bytes uint64) (settled bool, err error) {
	defer func() {
		if settled {
			g.cutTo.Store(0)
		}
	}()
	if err := g.endAt(ctx, bytes/uint64(g.of.info.SectorBytes)); err != nil {
		return true, err
	}
	if err := g.step("cut"); err != nil {
		return true, err
	}
	return g.handle.Shrink(ctx, bytes)
}

const shrinkOp = "file.Shrink"

// shrinkBy is Shrink; by does 3 and 4, as cluster.Handle.Shrink.
func (f *File) shrinkBy(ctx context.Context, bytes uint64, by func(context.Context, uint64) (settled bool, err error)) error {
	switch size := f.SizeBytes(); {
	case bytes == 0 || bytes > size || bytes%uint64(f.info.SectorBytes) != 0:
		return blocktree.E(shrinkOp, blocktree.Invalid, errors.New("no such size, or no smaller one"))
	case bytes == size:
		return nil
	}
	if !f.endsAt.CompareAndSwap(0, bytes) {
		return blocktree.E(shrinkOp, blocktree.Busy, errors.New("it is being made smaller"))
	}
	if err := f.gate.turn(ctx); err != nil {
		f.endsAt.Store(0) // nothing was asked for
		return blocktree.E(shrinkOp, blocktree.Canceled, err)
	}
	settled, err := by(ctx, bytes)
	if settled {
		f.endsAt.Store(0)
	}
	return err
}
