package fs

import (
	"context"
	"errors"

	"blocktree"
	"blocktree/crypto/cred"
)

// unlinker is an optional ability of a Cluster: to take the name from a file that the service has open, and keep the file until forget, which does not block, or the service's end (docs/design/0066). forget is nil only where nothing is kept, certainly. Kinds beside those of the Cluster: Unsupported (a cluster of
// a version before), Elsewhere (another cluster has the entry): nothing was done.
type unlinker interface {
	// Unlink is RemoveFile.
	Unlink(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID) (forget func(), err error)
	// RenameOver is Rename without keep, in the place of the file, if that is there.
	RenameOver(ctx context.Context, caller cred.Identity, from, to blocktree.Path, id blocktree.FileID) (forget func(), err error)
}

// named is what is going on with a name, by requests of this service; it is there as long as something is.
type named struct {
	users   int
	takers  int           // who remove what has it, or replace it
	taken   uint64        // how many have ended
	nobodys chan struct{} // closed when there are no takers
}

// name notes that something begins with a name, until done.
func (t *sharing) name(path blocktree.Path) (n *named, done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n = t.names[path]; n == nil {
		n = &named{}
		t.names[path] = n
	}
	n.users++
	return n, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if n.users--; n.users == 0 {
			delete(t.names, path)
		}
	}
}

// take is name for who takes it from what has it. Whoever opens that meanwhile waits.
func (t *sharing) take(path blocktree.Path) (taken func()) {
	n, done := t.name(path)
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.takers++; n.takers == 1 {
		n.nobodys = make(chan struct{})
	}
	return func() {
		t.mu.Lock()
		n.taken++
		if n.takers--; n.takers == 0 {
			close(n.nobodys)
		}
		t.mu.Unlock()
		done()
	}
}

// takings is how many have ended, and what to wait for if one goes on.
func (t *sharing) takings(n *named) (taken uint64, wait <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.takers > 0 {
		wait = n.nobodys
	}
	return n.taken, wait
}

// idle reports whether no file is open.
func (t *sharing) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.files) == 0
}

// join is enter of a file that is open, nil for another.
func (t *sharing) join(id blocktree.FileID) *shared {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.files[id]
	if x != nil {
		x.users++
	}
	return x
}

// keep notes what came of taking a file's name.
func (t *sharing) keep(x *shared, forget func(), err error) {
	if err == nil {
		x.nameless.Store(true)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(x.forgets) > 0 && blocktree.KindOf(err) == blocktree.NotFound { // an earlier try, which nobody answered for, was done
		x.nameless.Store(true)
	}
	if forget == nil {
		return
	}
	x.forgets = append(x.forgets, forget)
}

// stays waits until nobody takes the name of a file that is being opened, which the caller has entered. taken is what there was when it was looked at: a file whose name was taken since, and that is not kept, is NotFound.
func (s *Service) stays(ctx context.Context, a *openFile, n *named, taken uint64) error {
	for {
		now, wait := s.sharing.takings(n)
		if wait == nil {
			if now == taken {
				return nil
			}
			_, err := s.lookFile(ctx, a.caller(), a.info.ID, a.path, a.want())
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return blocktree.E("open", blocktree.Unavailable, ctx.Err())
		}
	}
}

// remove removes what a path names.
func (s *Service) remove(ctx context.Context, caller cred.Identity, path blocktree.Path) error {
	defer s.sharing.take(path)()
	if x := s.openAt(ctx, caller, path); x != nil {
		if err := s.unlink(ctx, caller, path, x); !undone(err) {
			return err
		}
	}
	return s.cluster.Remove(ctx, caller, path)
}

// removeFile removes a file, if it is what a path names.
func (s *Service) removeFile(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID) error {
	defer s.sharing.take(path)()
	if x := s.sharing.join(id); x != nil {
		if err := s.unlink(ctx, caller, path, x); !undone(err) {
			return err
		}
	}
	return s.cluster.RemoveFile(ctx, caller, path, id)
}

// rename has what is at from be at to.
func (s *Service) rename(ctx context.Context, caller cred.Identity, from, to blocktree.Path, keep bool) error {
	if keep || from == to {
		return s.cluster.Rename(ctx, caller, from, to, keep)
	}
	defer s.sharing.take(to)()
	x := s.openAt(ctx, caller, to)
	if x == nil {
		return s.cluster.Rename(ctx, caller, from, to, keep)
	}
	defer s.sharing.leave(x)
	u, ok := s.cluster.(unlinker)
	if !ok {
		return s.cluster.Rename(ctx, caller, from, to, keep)
	}
	forget, err := u.RenameOver(ctx, caller, from, to, x.id)
	if err == nil && forget == nil { // something else was replaced
		return nil
	}
	s.sharing.keep(x, forget, err)
	return err
}

// openAt is what a path names, entered, if it is a file that is open here; nil if not.
func (s *Service) openAt(ctx context.Context, caller cred.Identity, path blocktree.Path) *shared {
	if s.sharing.idle() {
		return nil
	}
	found, err := s.cluster.Look(ctx, caller, path)
	if err != nil { // whoever removes it is told
		return nil
	}
	return s.sharing.join(found.Inode.ID)
}

// errKept is for who has a file of which nobody knows how to keep it.
var errKept = blocktree.E("fs", blocktree.Unsupported, errors.New("it is not kept for those who have it open"))

// unlink takes the name from a file that is open here, and was entered.
func (s *Service) unlink(ctx context.Context, caller cred.Identity, path blocktree.Path, x *shared) error {
	defer s.sharing.leave(x)
	u, ok := s.cluster.(unlinker)
	if !ok {
		return errKept
	}
	forget, err := u.Unlink(ctx, caller, path, x.id)
	s.sharing.keep(x, forget, err)
	return err
}

// undone reports whether a name was not taken because that is not how it is done there.
func undone(err error) bool {
	k := blocktree.KindOf(err)
	return err != nil && (k == blocktree.Unsupported || k == blocktree.Elsewhere)
}
