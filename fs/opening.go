package fs

import (
	"context"
	"errors"
	"time"

	"blocktree"
)

// openFile opens a file for the owner, and answers with its handle. The actor has everything that was taken for it from the moment it runs.
func (s *Service) openFile(ctx context.Context, o *owner, r *pathRequest) ([]byte, error) {
	a := &openFile{service: s, owner: o, path: r.path, write: r.flags&flagWrite != 0, box: newMailbox()}
	a.number, a.judged = s.cluster.RightsNumber(), time.Now() // before it is asked
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
		return nil, &blocktree.Error{Op: "open", Path: r.path.Short(), Kind: blocktree.Permission, Err: errors.New("the file is not encrypted"),
			Hint: "say that it is meant to be plain"}
	}
	if s.files.Add(1) > blocktree.FSOpenFilesMax {
		s.files.Add(-1)
		return nil, busy("too many open files")
	}
	info := a.info // which is the actor's from then on
	if err := s.take(ctx, a); err != nil {
		s.files.Add(-1)
		return nil, err
	}
	return encodeOpened(a.handle, &info), nil
}

// take opens the sectors that are to be written and starts the actor. On an error it gives back what it took.
func (s *Service) take(ctx context.Context, a *openFile) (err error) {
	if a.write {
		if err := s.writers.enter(a.info.ID); err != nil {
			return err
		}
		if a.file, err = s.open(ctx, a.caller(), a.path, a.info.ID, OpenOptions{Write: true, Plain: !a.info.Encrypted}); err != nil {
			s.writers.leave(a.info.ID)
			return err
		}
		s.writers.opened(a.info.ID, a.file)
	}
	a.ctx, a.cancel = context.WithCancel(s.ctx)
	a.used = time.Now()
	if err = a.owner.add(a); err == nil {
		if err = s.task(a.run); err == nil {
			return nil
		}
		a.owner.forget(a)
	}
	a.cancel()
	_ = a.release() // the first error is the one to tell
	return err
}
