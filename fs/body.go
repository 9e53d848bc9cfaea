package fs

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"

	"blocktree"
)

// body is a file that is open for writing, as bytes that end where its writers say (docs/design/0059). All who write it take turns; who reads does not wait for them.
type body struct {
	file  blocktree.File
	ender blocktree.Ender // nil: its end is not moved

	turn    chan struct{} // holds a token while somebody has the turn
	ends    atomic.Uint64 // where it ends
	follows atomic.Bool   // instead, at its size
	over    atomic.Bool   // it can do nothing any more: who opens the file next gets it anew
	cuts    atomic.Uint64 // how often it was made smaller: what was heard of its size before is old

	stopShrink func()          // nil where it is not made smaller
	lasts      context.Context // until stopShrink: of what makes it smaller for who waits no more
	shrinks    sync.WaitGroup
	beside     atomic.Pointer[func(context.Context) error] // what is done before somebody else has it made smaller; nil: nothing

	next atomic.Pointer[body] // what all who write it go on with; nil: this one

	// Whose turn it is looks at these.
	told  uint64 // where the cluster says that it ends
	zeros uint64 // from here to the size there are zeros
	stuck error  // the first flush that failed, or that it was closed
	guess bool   // told may be another

	given atomic.Pointer[given] // that it was without a name; whose turn it is sets it to nil once the file has one
	lost  atomic.Pointer[error] // why it will never have one: everything fails, the close, too
}

// newBody makes the body of a file that was opened for writing, and that ends where info says if it cannot be moved.
func newBody(ctx context.Context, f blocktree.File, info *Info) (*body, error) {
	b := &body{file: f, turn: make(chan struct{}, 1)}
	b.ends.Store(info.Length)
	b.follows.Store(info.Length >= info.SizeBytes)
	b.ender, _ = f.(blocktree.Ender)
	b.zeros = b.size()
	if b.ender == nil {
		return b, nil
	}
	end, own, err := b.ender.End(ctx) // as it is under the lease
	if err != nil {
		return nil, err
	}
	b.ends.Store(end)
	b.follows.Store(!own)
	b.told, b.zeros = end, max(end, b.size())
	b.followShrink()
	return b, nil
}

// size is how large the file is.
func (b *body) size() uint64 {
	if s, ok := b.file.(blocktree.Sizer); ok {
		return s.SizeBytes()
	}
	return b.file.Info().SizeBytes
}

// end is where reading the file ends. It does not block.
func (b *body) end() uint64 {
	if b.follows.Load() {
		return b.size()
	}
	return b.ends.Load()
}

// learn goes by what the cluster says of a file whose end is not moved here.
func (b *body) learn(info *Info) {
	if b.ender == nil {
		b.ends.Store(info.Length)
		b.follows.Store(info.Length >= info.SizeBytes)
	}
}

// view is the file up to its end.
func (b *body) view() view { return viewTo(b.file, b.end()) }

// viewTo is a file up to a byte, or to its size.
func viewTo(f blocktree.File, end uint64) view {
	return view{f, &Info{Length: end, SizeBytes: math.MaxUint64}}
}

// enter waits for the turn. It fails once the file can do nothing any more.
func (b *body) enter(ctx context.Context) error {
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return blocktree.E("fs", blocktree.Unavailable, ctx.Err())
	}
	err := b.stuck
	if lost := b.lost.Load(); lost != nil {
		err = *lost
	}
	if err != nil {
		b.leave()
	}
	return err
}

func (b *body) leave() { <-b.turn }

// do does something in a turn of its own.
func (b *body) do(ctx context.Context, what func() error) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.leave()
	return b.noted(what())
}

// noted notes an error after which the file can do nothing any more.
func (b *body) noted(err error) error {
	switch blocktree.KindOf(err) {
	case blocktree.Fenced, blocktree.Lost, blocktree.Closed:
		b.over.Store(true)
	}
	return err
}

// read fills p from byte off on. It takes no turn.
func (b *body) read(ctx context.Context, p []byte, off uint64) (int, error) {
	for {
		n, err := b.view().read(ctx, p, off)
		if blocktree.KindOf(err) == blocktree.OutOfRange && off <= b.end() && ctx.Err() == nil {
			continue // it was made larger, or shorter, while it was looked at
		}
		return n, b.noted(err)
	}
}

// write writes p at byte off, in a turn. What ends behind the end moves that.
func (b *body) write(ctx context.Context, p []byte, off uint64) error {
	if b.ender == nil || len(p) == 0 {
		return b.view().write(ctx, p, off)
	}
	end, now := off+uint64(len(p)), b.end()
	if end <= now {
		return b.view().write(ctx, p, off)
	}
	if end < off || end > blocktree.FileBytesMax {
		return &blocktree.Error{Op: "write", Kind: blocktree.TooLarge, Err: errors.New("it would end behind the largest file"), Hint: "no file is so large"}
	}
	if err := b.room(ctx, end, true); err != nil {
		return err
	}
	if err := b.clear(ctx, now, off); err != nil {
		return err
	}
	if err := b.extend(ctx, p, off, now); err != nil {
		return err
	}
	b.ends.Store(end)
	return nil
}

// extend writes what ends behind the end, in whole sectors: what is behind now is zeros already, or nobody's.
func (b *body) extend(ctx context.Context, p []byte, off, now uint64) error {
	v := viewTo(b.file, math.MaxUint64)
	from, to := v.span(off, len(p))
	b.zeros = max(b.zeros, to) // also where it fails in the middle
	whole := p
	if to-from != uint64(len(p)) {
		whole = make([]byte, to-from)
		if off != from && from < now {
			first := whole[:b.file.Info().SectorBytes]
			if err := b.file.ReadSectors(ctx, v.sector(from), first); err != nil {
				return err
			}
			if now-from < uint64(len(first)) {
				clear(first[now-from:])
			}
		}
		copy(whole[off-from:], p)
	}
	if err := b.file.WriteSectors(ctx, v.sector(from), whole); err != nil {
		return err
	}
	if b.zeros == to {
		b.zeros = off + uint64(len(p))
	}
	return nil
}

// room has the file be so large, and larger if more is to come. A file that ended at its size has an end of its own then: it has no more content for being larger.
func (b *body) room(ctx context.Context, end uint64, more bool) error {
	size := b.size()
	if b.follows.Load() {
		if err := b.setEnd(ctx, size); err != nil {
			return err
		}
	}
	if end <= size {
		return nil
	}
	if err := b.name(ctx); err != nil {
		return err
	}
	if want := min(size+b.step(size), blocktree.FileBytesMax); more && want > end && b.ender.Grow(ctx, want) == nil {
		return nil
	}
	return b.ender.Grow(ctx, end)
}

// step is how much larger a file is made that is written at its end: it doubles.
func (b *body) step(size uint64) uint64 {
	if b.dear() {
		return min(max(size, blocktree.FSGrowBytesMin), blocktree.FSGrowTreeBytesMax)
	}
	return min(max(size, blocktree.FSGrowBytesMin), blocktree.FSGrowBytesMax)
}

// dear reports whether zeros take as much room and time as any data.
func (b *body) dear() bool {
	z, ok := b.file.(blocktree.ZeroWriter)
	return ok && z.WritesZeros()
}

// clear makes the bytes from one to another zeros, as far as they are not known to be.
func (b *body) clear(ctx context.Context, from, to uint64) error {
	if to = min(to, b.zeros, b.size()); from >= to {
		return nil
	}
	return viewTo(b.file, math.MaxUint64).punch(ctx, from, to-from)
}

// clearNext is for a cut at the end: it makes what is next behind that zeros, as far as it is not known to be. A service that is gone may have written there for somebody who keeps that, and sees by this that it was cut off (docs/design/0075).
func (b *body) clearNext(ctx context.Context, end uint64) error {
	if b.dear() {
		return nil
	}
	sector := uint64(b.file.Info().SectorBytes)
	return b.clear(ctx, end, (end/sector+1)*sector)
}

// setEnd has the cluster, and everybody here, know that the file ends there.
func (b *body) setEnd(ctx context.Context, end uint64) error {
	now, err := b.ender.SetEnd(ctx, b.told, end)
	if blocktree.KindOf(err) == blocktree.StaleView { // somebody has set a length in between
		b.told = now
		now, err = b.ender.SetEnd(ctx, b.told, end)
	}
	if err != nil {
		return err
	}
	b.told, b.guess = now, false
	b.ends.Store(end)
	b.follows.Store(false)
	return nil
}

// untold reports whether the cluster does not know yet where the file ends.
func (b *body) untold() bool {
	return b.ender != nil && !b.follows.Load() && b.ends.Load() != b.told
}

// flush has what was written outlast everything, and then the cluster know where it ends. A failure stays: nobody can tell whose writes are lost. That whoever asked waits no more is none: the file was not told of any, and the next flush
// is of all that was written.
func (b *body) flush(ctx context.Context) error {
	if err := b.file.Flush(ctx); err != nil {
		if ctx.Err() == nil {
			b.stuck = err
			b.over.Store(true)
			b.unname(err)
		}
		return err
	}
	if err := b.nameWith(ctx, b.ends.Load()); err != nil {
		return err
	}
	if !b.untold() {
		return nil
	}
	return b.setEnd(ctx, b.ends.Load())
}

// truncate has the file end at byte to: what was behind is gone, what is new are zeros. It is durable.
func (b *body) truncate(ctx context.Context, to uint64) error {
	if b.ender == nil {
		return blocktree.E("truncate", blocktree.Unsupported, errors.New("the end of this file is not moved"))
	}
	was := b.end()
	if to == was {
		if err := b.clearNext(ctx, to); err != nil {
			return err
		}
	}
	if to >= was {
		return b.lengthen(ctx, to)
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	if err := b.setEnd(ctx, to); err != nil { // first: whoever is cut off here leaves the old file or the new one
		return err
	}
	sector := uint64(b.file.Info().SectorBytes)
	if b.dear() {
		was = min(was, (to+sector-1)/sector*sector) // the rest when it is to be seen
	}
	if err := b.clear(ctx, to, was); err != nil {
		if _ = b.noted(err); b.over.Load() { // whoever keeps what it wrote before sees nothing of this cut: it is done once more
			return err
		}
		return nil // it is shorter; what is behind is cleared before it is seen
	}
	if was >= b.zeros {
		b.zeros = to
	}
	return b.flush(ctx) // what was cleared says that somebody was here, to who writes again what he wrote before
}

// lengthen has the file end at byte to, or where it ends if that is further.
func (b *body) lengthen(ctx context.Context, to uint64) error {
	if b.ender == nil {
		return blocktree.E("allocate", blocktree.Unsupported, errors.New("the end of this file is not moved"))
	}
	if to > blocktree.FileBytesMax {
		return &blocktree.Error{Op: "fs", Kind: blocktree.TooLarge, Err: errors.New("it would end behind the largest file"), Hint: "no file is so large"}
	}
	if was := b.end(); to > was {
		if err := b.room(ctx, to, false); err != nil {
			return err
		}
		if err := b.clear(ctx, was, to); err != nil {
			return err
		}
		b.zeros = max(b.zeros, min(to, b.size()))
		b.ends.Store(to)
	}
	return b.flush(ctx)
}

// timed has somebody say which time the file is of: what was written until then is noted before that, as where it ends is, or not at all.
func (b *body) timed(ctx context.Context, say func() error) error {
	if b.untold() || b.given.Load() != nil {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	f, ok := b.file.(blocktree.WriteForgetter)
	if !ok {
		return say()
	}
	again, err := f.ForgetWrites(ctx)
	if err != nil {
		return err
	}
	if err = say(); err != nil {
		again()
	}
	return err
}

// add writes p at the end, and returns where that was.
func (b *body) add(ctx context.Context, p []byte) (off uint64, err error) {
	off = b.end()
	return off, b.write(ctx, p, off)
}

// settle has all that was written be durable, unless close does that.
func (b *body) settle(ctx context.Context) error {
	return b.do(ctx, func() error {
		if b.over.Load() {
			return errAnew
		}
		if _, ok := b.file.(blocktree.EndCloser); ok && b.untold() || b.given.Load() != nil {
			return nil
		}
		return b.file.Flush(ctx)
	})
}

// close lets go of the file, after it was flushed if the cluster does not know yet where it ends. Nobody uses it from then on.
func (b *body) close(ctx context.Context, why error) (err error) {
	if b.stopShrink != nil {
		b.stopShrink()
	}
	b.turn <- struct{}{} // whoever has the turn ends with its own context
	defer b.leave()
	b.shrinks.Wait() // who has left the turn
	whole := b.stuck == nil && !b.over.Load()
	if b.stuck == nil {
		b.stuck = why
	}
	b.over.Store(true)
	given := b.given.Load() != nil
	if done, err := b.closeGiven(ctx, whole); done {
		return err
	}
	tell := whole && (b.untold() || given)
	if f, ok := b.file.(blocktree.EndCloser); ok && tell && !b.guess {
		return f.CloseEnd(ctx, b.told, b.ends.Load())
	}
	if tell {
		err = b.tell(ctx)
	}
	if e := b.file.Close(); err == nil {
		err = e
	}
	return err
}

// tell has all that was written be durable, and then the cluster know where the file ends.
func (b *body) tell(ctx context.Context) error {
	if err := b.file.Flush(ctx); err != nil {
		return err
	}
	return b.setEnd(ctx, b.ends.Load())
}
