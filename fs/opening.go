package fs

import (
	"context"
	"errors"
	"time"

	"blocktree"
)

// openFile opens a file for the owner, and answers with its handle. The actor has everything that was taken for it from the moment it runs.
func (s *Service) openFile(ctx context.Context, o *owner, r *pathRequest) ([]byte, error) {
	a := newOpening(s, o, r, r.flags&flagWrite != 0)
	name, done := s.sharing.name(r.path)
	defer done()
	taken, _ := s.sharing.takings(name)
	found, err := s.look(ctx, o.caller(), r.path, a.want())
	if err != nil {
		return nil, err
	}
	if a.info = InfoOf(found.Inode); a.info.Dir {
		return nil, &blocktree.Error{Op: "open", Path: r.path.Short(), Kind: blocktree.Invalid, Err: errors.New("it is a directory"), Hint: "a directory is listed"}
	}
	if a.info.Link {
		return nil, &blocktree.Error{Op: "open", Path: r.path.Short(), Kind: blocktree.Invalid, Err: errors.New("it is a symbolic link"), Hint: "open what it names"}
	}
	if a.write && !a.info.Encrypted && r.flags&flagPlain == 0 {
		return nil, notEncrypted("open", r.path)
	}
	if s.files.Add(1) > blocktree.FSOpenFilesMax {
		s.files.Add(-1)
		return nil, busy("too many open files")
	}
	a.shared = s.sharing.enter(a.info.ID)
	if err := s.stays(ctx, a, name, taken); err != nil {
		s.sharing.leave(a.shared)
		s.files.Add(-1)
		return nil, err
	}
	info, err := s.take(ctx, a, r.flags&flagAnew != 0)
	if err != nil {
		s.files.Add(-1)
		return nil, err
	}
	return encodeUnder(a.handle, &info, a.under), nil
}

// take opens the sectors that are to be written and starts the actor, whose file is that of info and was entered. On an error it gives back what it took, and leaves.
func (s *Service) take(ctx context.Context, a *openFile, anew bool) (info Info, err error) {
	a.news, a.doubt = a.shared.news.Load(), a.made == nil && s.closings.Load() != a.closings
	if a.write {
		a.writer = a.caller().Principal
		a.body, err = a.shared.write(ctx, a.writer, anew, a.alone, func(ctx context.Context) (*body, error) {
			if f := a.made; f != nil {
				a.made = nil
				return newMade(f, a.given), nil
			}
			return s.openBody(ctx, a.caller(), a.path, &a.info)
		})
		if a.made != nil { // somebody has opened it since, and taken its lease over for all who write it here
			_ = a.made.Close() // nothing was written
			a.made = nil
		}
		if err != nil {
			s.sharing.leave(a.shared)
			return info, err
		}
		a.news = a.shared.news.Load()
	}
	a.ctx, a.cancel = context.WithCancel(s.ctx)
	a.used = time.Now()
	info = a.info // which is the actor's from then on
	if b := a.shared.writing(); b != nil {
		b.describe(&info)
	}
	if err = a.owner.add(&a.actor); err == nil {
		if err = s.task(a.run); err == nil {
			return info, nil
		}
		a.owner.forget(&a.actor)
	}
	a.cancel()
	if a.given != nil {
		a.body.forgo()
	}
	_ = a.release(false) // the first error is the one to tell
	s.sharing.leave(a.shared)
	return info, err
}
