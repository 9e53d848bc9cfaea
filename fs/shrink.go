package fs

import (
	"context"
	"errors"

	"blocktree"
	"blocktree/crypto/cred"
)

// followShrink has the file made smaller when somebody asks for that, as a device does (docs/design/0074). Whoever was told that it writes the file alone does no more, before: what it has would be written again behind the new end when the service is
// lost (docs/design/0075). Then whoever asks has to ask under the next epoch.
func (b *body) followShrink() {
	s, ok := b.file.(blocktree.Shrinker)
	if !ok {
		return
	}
	stop := s.FollowShrink(func(ctx context.Context, bytes uint64) error {
		if beside := b.beside.Load(); beside != nil {
			if err := (*beside)(ctx); err != nil {
				return err
			}
		}
		return b.do(ctx, func() error { return b.shrink(ctx, s, bytes) })
	})
	if stop == nil { // it is open to read
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.lasts, b.stopShrink = ctx, func() {
		cancel()
		stop()
	}
}

// shrink makes the file smaller, in a turn: it ends at its new size at the latest, for everybody here at once. What the cluster knows of its end it cuts by itself.
func (b *body) shrink(ctx context.Context, s blocktree.Shrinker, bytes uint64) error {
	err := s.Shrink(ctx, bytes)
	size := b.size() // whatever came of it
	b.zeros = min(b.zeros, size)
	if b.ends.Load() > size {
		b.ends.Store(size)
	}
	b.told = min(b.told, size)
	b.guess = b.guess || err != nil
	b.cuts.Add(1)
	return err
}

// shrinkWritten makes a file smaller that is written here, to a size that it can have: through what its writers have, so that they go on. It goes on itself when ctx ends, until they have closed it: nothing could be written behind the new end
// through a file of which it is not known whether it ends there. Whoever was told that nobody else writes it does not write again what is cut (docs/design/0075).
func (s *Service) shrinkWritten(ctx context.Context, caller cred.Identity, x *shared, r *pathRequest, info *Info) (done bool, err error) {
	b := x.writing()
	if b == nil || r.sizeBytes == 0 || r.sizeBytes%uint64(b.file.Info().SectorBytes) != 0 {
		return false, nil
	}
	may := func() error { // as for the lease that it takes elsewhere
		_, err := s.lookFile(ctx, caller, x.id, r.path, Write|Lease)
		return err
	}
	if x.told { // see followShrink
		if err = may(); err == nil {
			b, err = x.succeed(ctx, b, func(ctx context.Context) (*body, error) { return s.openBody(ctx, caller, r.path, info) })
		}
		if err != nil {
			return true, err
		}
	}
	f, ok := b.file.(blocktree.Shrinker)
	if !ok || b.lasts == nil {
		return true, &blocktree.Error{Op: "resize", Path: r.path.Short(), Kind: blocktree.Busy, Err: errors.New("somebody has it open for writing"), Hint: "to be made smaller it must be closed first; truncating moves its end, and gives the room back, while it is open"}
	}
	if err := b.enter(ctx); err != nil {
		return true, err
	}
	if err := may(); err != nil {
		b.leave()
		return true, err
	}
	ended := make(chan error, 1)
	b.shrinks.Go(func() { // close waits for it
		defer b.leave()
		ended <- b.noted(b.shrink(b.lasts, f, r.sizeBytes))
	})
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = &blocktree.Error{Op: "resize", Path: r.path.Short(), Kind: blocktree.Unavailable, Err: ctx.Err(), Hint: "it goes on: look which size the file has, and ask again"}
	}
	return true, err
}
