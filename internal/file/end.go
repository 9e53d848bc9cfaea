package file

import (
	"context"
	"errors"
	"sync"

	"blocktree"
	"blocktree/cluster"
)

// ending is the end that the cluster was asked for and has not answered about.
type ending struct {
	mu      sync.Mutex
	pending *cluster.Ending
}

// Grow implements blocktree.Ender.
func (f *File) Grow(ctx context.Context, bytes uint64) error {
	const op = "file.Grow"
	sector := uint64(f.info.SectorBytes)
	switch {
	case f.handle == nil:
		return f.fail(op, blocktree.E("", blocktree.ReadOnly, nil))
	case bytes > blocktree.FileBytesMax:
		return f.fail(op, &blocktree.Error{Kind: blocktree.TooLarge, Err: errors.New("larger than a file may be")})
	case f.endsAt.Load() != 0:
		return f.fail(op, blocktree.E("", blocktree.Busy, errors.New("it is being made smaller")))
	}
	return f.fail(op, f.handle.Grow(ctx, (bytes+sector-1)/sector*sector))
}

// SetEnd implements blocktree.Ender. What was asked for before, and not answered, is asked for first: it is done, or never will be, before anything else is.
func (f *File) SetEnd(ctx context.Context, was, bytes uint64) (now uint64, err error) {
	if f.unnamed != nil && f.Unnamed() {
		return bytes, f.Name(ctx, bytes)
	}
	return f.setEnd(ctx, was, bytes)
}

func (f *File) setEnd(ctx context.Context, was, bytes uint64) (now uint64, err error) {
	const op = "file.SetEnd"
	if f.handle == nil {
		return 0, f.fail(op, blocktree.E("", blocktree.ReadOnly, nil))
	}
	e := &f.ending
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pending != nil {
		now, err := e.pending.Ask(ctx)
		if blocktree.KindOf(err) == blocktree.Unavailable {
			return 0, f.fail(op, err)
		}
		e.pending = nil
		if err == nil || blocktree.KindOf(err) == blocktree.StaleView {
			was = now
		}
	}
	next, err := f.handle.NewEnding(ctx, was, bytes)
	if err != nil {
		return 0, f.fail(op, err)
	}
	now, err = next.Ask(ctx)
	if blocktree.KindOf(err) == blocktree.Unavailable {
		e.pending = next
	}
	return now, f.fail(op, err)
}

// End implements blocktree.Ender.
func (f *File) End(ctx context.Context) (bytes uint64, own bool, err error) {
	if f.handle == nil {
		return 0, false, f.fail("file.End", blocktree.E("", blocktree.ReadOnly, nil))
	}
	if f.unnamed != nil && f.Unnamed() {
		return 0, true, nil
	}
	bytes, own, err = f.handle.End(ctx)
	return bytes, own, f.fail("file.End", err)
}

// Hear implements blocktree.Hearer.
func (f *File) Hear(ctx context.Context) error {
	switch {
	case f.handle != nil:
		return f.fail("file.Hear", f.handle.Hear(ctx))
	case f.reader != nil:
		return f.fail("file.Hear", f.reader.Hear(ctx))
	}
	return nil
}
