package file

import (
	"context"
	"errors"

	"blocktree"
)

// FollowShrink implements blocktree.Shrinker. A file of integrity tree is made smaller while nobody else has it open (docs/design/0028).
func (f *File) FollowShrink(do func(ctx context.Context, bytes uint64) error) (stop func()) {
	if f.handle == nil || f.guard != nil {
		return nil
	}
	return f.handle.FollowShrink(do)
}

// Shrink implements blocktree.Shrinker. Order: 1. the file ends at the new end for whoever asks; 2. all writes that had begun have ended; 3. zeros, flush and size, in the coordinator; 4. the size is that of a layout which
// nothing that was asked for can change any more. One at a time.
func (f *File) Shrink(ctx context.Context, bytes uint64) error {
	if f.handle == nil || f.guard != nil {
		return f.fail(shrinkOp, blocktree.E("", blocktree.Unsupported, errors.New("it is open for reading only, or of integrity tree")))
	}
	return f.fail(shrinkOp, f.shrinkBy(ctx, bytes, f.handle.Shrink))
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
