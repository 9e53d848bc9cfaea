package fs

import (
	"context"
	"errors"

	"blocktree"
	"blocktree/crypto/cred"
)

// followShrink has the file made smaller when somebody asks for that, as a device does (docs/design/0074).
func (b *body) followShrink() {
	s, ok := b.file.(blocktree.Shrinker)
	if !ok {
		return
	}
	b.stopShrink = s.FollowShrink(func(ctx context.Context, bytes uint64) error {
		return b.do(ctx, func() error { return b.shrink(ctx, s, bytes) })
	})
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

// shrinkWritten makes a file smaller that is written here, to a size that it can have: through what its writers have, so that they go on. Whoever was told that nobody else writes it does not write again what is cut (docs/design/0075).
func (s *Service) shrinkWritten(ctx context.Context, caller cred.Identity, x *shared, r *pathRequest, info *Info) (done bool, err error) {
	b := x.writing()
	if b == nil || r.sizeBytes == 0 || r.sizeBytes%uint64(b.file.Info().SectorBytes) != 0 {
		return false, nil
	}
	f, ok := b.file.(blocktree.Shrinker)
	if !ok {
		return true, &blocktree.Error{Op: "resize", Path: r.path.Short(), Kind: blocktree.Busy, Err: errors.New("somebody has it open for writing"), Hint: "to be made smaller it must be closed first; truncating moves its end, and gives the room back, while it is open"}
	}
	if x.told {
		if b, err = x.goOn(ctx, b, func(ctx context.Context) (*body, error) { return s.openBody(ctx, caller, r.path, info) }); err != nil {
			return true, err
		}
		if f, ok = b.file.(blocktree.Shrinker); !ok {
			return true, blocktree.E("resize", blocktree.Unsupported, nil)
		}
	}
	return true, b.do(ctx, func() error {
		if _, err := s.lookFile(ctx, caller, x.id, r.path, Write|Lease); err != nil { // as for the lease that it takes elsewhere
			return err
		}
		return b.shrink(ctx, f, r.sizeBytes)
	})
}
