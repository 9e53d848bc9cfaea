package mount

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// Locks are the service's (docs/design/0059), taken by the open file that a handle has there, in the name of the kernel's number of whose they are.

var (
	_ gofs.NodeGetlker  = (*node)(nil)
	_ gofs.NodeSetlker  = (*node)(nil)
	_ gofs.NodeSetlkwer = (*node)(nil)
)

// carrier is what locks are taken by: a handle to read, or the writer of a file. They end with its file at the service.
type carrier interface {
	// lockable is that file; nil: it is not open now.
	lockable() fs.File
	// renew opens it anew unless it is not failed any more. What had locks is not: errLocks.
	renew(ctx context.Context, failed fs.File) error
}

var (
	errLocks     = &blocktree.Error{Op: "mount", Kind: blocktree.IO, Err: errors.New("the service that had the file's locks is gone, and they with it")}
	errElsewhere = &blocktree.Error{Op: "lock", Kind: blocktree.Unsupported, Err: errors.New("other locks of the file are at another service")}
)

// flockSpan stands for the whole file in locks of flock: a byte behind the end of all files, so that those of fcntl are not in their way, as on other file systems.
var flockSpan = span{1 << 63, 1<<63 + 1}

// flockFlag says that it is one of flock.
const flockFlag = 1

// spanOf are the bytes of a lock. The kernel's end is the last byte, at most 2^63-1.
func spanOf(lk *fuse.FileLock, flags uint32) span {
	if flags&flockFlag != 0 {
		return flockSpan
	}
	return span{min(lk.Start, math.MaxInt64), min(lk.End, math.MaxInt64) + 1}
}

// Setlk implements gofs.NodeSetlker.
func (n *node) Setlk(ctx context.Context, f gofs.FileHandle, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno {
	return n.lock(ctx, f, owner, lk, flags, false)
}

// Setlkw implements gofs.NodeSetlkwer. A signal ends the wait, as programs expect of it.
func (n *node) Setlkw(ctx context.Context, f gofs.FileHandle, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno {
	return n.lock(ctx, f, owner, lk, flags, true)
}

func (n *node) lock(ctx context.Context, f gofs.FileHandle, owner uint64, lk *fuse.FileLock, flags uint32, wait bool) syscall.Errno {
	owner = max(owner, 1) // none has 0, which is the service's word for the handle
	s := spanOf(lk, flags)
	if lk.Typ == syscall.F_UNLCK {
		return lockErrno(n.unlock(ctx, owner, s))
	}
	exclusive := lk.Typ == syscall.F_WRLCK
	c, err := n.carrier(ctx, f, exclusive)
	if err != nil {
		return lockErrno(err)
	}
	if flags&flockFlag != 0 {
		flocked(f).Store(owner)
	}
	if err := n.take(ctx, c, owner, s, exclusive, wait); err != nil {
		return lockErrno(err)
	}
	n.learn(ctx, c)
	return 0
}

// flocked has the owner of the locks of flock of a handle.
func flocked(f gofs.FileHandle) *owned {
	if h, ok := f.(*writing); ok {
		return &h.flock
	}
	return &f.(*handle).flock // carrier has looked
}

// carrier is what a lock of a handle is taken by. An exclusive one needs a file that is open for writing there; who has it open to read, which flock alone allows, has it opened so for as long as the handle is.
func (n *node) carrier(ctx context.Context, f gofs.FileHandle, exclusive bool) (carrier, error) {
	switch h := f.(type) {
	case *writing:
		return h.writer, h.writer.send(ctx)
	case *handle:
		if !exclusive {
			return h, nil
		}
		return h.toLock(ctx)
	}
	return nil, blocktree.E("lock", blocktree.ReadOnly, nil)
}

// toLock opens the file for writing, to lock it.
func (h *handle) toLock(ctx context.Context) (*writer, error) {
	if h.node.tree.o.ReadOnly {
		return nil, blocktree.E("lock", blocktree.ReadOnly, nil)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.locker != nil {
		return h.locker, nil
	}
	w, err := h.node.acquire(ctx, false, nil)
	if k := blocktree.KindOf(err); err != nil && (k == blocktree.Permission || k == blocktree.Unauthenticated) {
		err = blocktree.E("lock", blocktree.ReadOnly, err)
	}
	if err != nil {
		return nil, err
	}
	h.locker = w
	return w, nil
}

// lockErrno is what a program is told.
func lockErrno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	switch blocktree.KindOf(err) {
	case blocktree.Busy:
		return syscall.EAGAIN
	case blocktree.ReadOnly:
		return syscall.EBADF
	case blocktree.NoSpace, blocktree.Unsupported: // too many; a service of a version before
		return syscall.ENOLCK
	}
	return openErrno(err)
}

// gone reports whether an open file is not there any more.
func gone(err error) bool {
	if err == nil {
		return false
	}
	switch blocktree.KindOf(err) {
	case blocktree.Undeliverable, blocktree.Closed, blocktree.Fenced, blocktree.Lost:
		return true
	}
	return false
}

// take takes a lock. Only the wait for somebody else is long, and that has no place among the requests.
func (n *node) take(ctx context.Context, c carrier, owner uint64, s span, exclusive, wait bool) error {
	for {
		err := n.tree.change(ctx, func(ctx context.Context, _ bool) error { return n.tryLock(ctx, c, owner, s, exclusive, false) })
		if blocktree.KindOf(err) != blocktree.Busy || err == nil || !wait {
			return err
		}
		select {
		case n.tree.lockWaits <- struct{}{}:
		default:
			return blocktree.E("lock", blocktree.NoSpace, errors.New("too many wait for locks in this mount"))
		}
		err = n.tryLock(ctx, c, owner, s, exclusive, true)
		<-n.tree.lockWaits
		if !errors.Is(err, errAgain) {
			return err
		}
	}
}

// tryLock asks once. After an error that leaves open whether it was taken it is kept in mind as if it were, so that it is given back.
func (n *node) tryLock(ctx context.Context, c carrier, owner uint64, s span, exclusive, wait bool) error {
	f, l, err := n.locker(ctx, c, owner)
	if err != nil {
		return err
	}
	x := &n.tree.locks
	if !x.enter(n.id, fs.ServiceOf(f)) {
		return errElsewhere
	}
	err = l.Lock(ctx, s.from, s.to-s.from, exclusive, wait)
	x.leave(n.id, c, owner, s, err == nil || passing(err) && !gone(err))
	return n.afterLock(ctx, c, f, err)
}

// locker is that of an owner, at the file that a carrier has open.
func (n *node) locker(ctx context.Context, c carrier, owner uint64) (fs.File, fs.Locker, error) {
	f := c.lockable()
	if f == nil {
		if err := c.renew(ctx, nil); err != nil {
			return nil, nil, err
		}
		return nil, nil, errAgain
	}
	l, ok := f.(fs.OwnedLocker)
	if !ok {
		return nil, nil, blocktree.E("lock", blocktree.Unsupported, nil)
	}
	return f, l.LockOwner(owner), nil
}

// afterLock has what is gone opened anew.
func (n *node) afterLock(ctx context.Context, c carrier, f fs.File, err error) error {
	if !gone(err) {
		return err
	}
	if err := c.renew(context.WithoutCancel(ctx), f); err != nil {
		return err
	}
	return errAgain
}

// unlock gives a range back, wherever its owner has a part of it. Of a service that is gone it is an error: somebody else may have had the lock meanwhile.
func (n *node) unlock(ctx context.Context, owner uint64, s span) (err error) {
	for _, c := range n.tree.locks.of(n.id, owner) {
		f := c.lockable()
		l, ok := f.(fs.OwnedLocker)
		if !ok {
			continue // it was closed, and they ended with it
		}
		e := n.tree.change(ctx, func(ctx context.Context, _ bool) error {
			e := l.LockOwner(owner).Unlock(ctx, s.from, s.to-s.from)
			if gone(e) {
				return errLocks
			}
			return e
		})
		if err == nil {
			err = e
		}
	}
	if err == nil || errors.Is(err, errLocks) {
		n.tree.locks.cut(n.id, owner, s)
	}
	return err
}

// learn has the kernel, and the mount, look at the file anew: who had it locked before may have written it, by the same service.
func (n *node) learn(ctx context.Context, c carrier) {
	if w, ok := c.(*writer); ok {
		w.learnEnd(ctx)
	}
	_ = n.NotifyContent(0, 0) // a kernel that has none says so
}

// learnEnd asks where the file ends.
func (w *writer) learnEnd(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	st, ok := w.file.(fs.Stater)
	if !ok || !w.grows {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), blocktree.MountCacheFor)
	defer cancel()
	before := w.end.Load()
	info, err := st.Stat(ctx)
	w.endMu.Lock()
	defer w.endMu.Unlock()
	if err == nil && w.end.Load() == before { // else it was written here meanwhile, or what is done with the file next finds out
		w.end.Store(info.Length)
	}
}

// Getlk implements gofs.NodeGetlker. Whose a lock is only a process of this machine could be told.
func (n *node) Getlk(ctx context.Context, f gofs.FileHandle, owner uint64, lk *fuse.FileLock, flags uint32, out *fuse.FileLock) syscall.Errno {
	owner = max(owner, 1)
	s := spanOf(lk, flags)
	var c carrier
	switch h := f.(type) {
	case *writing:
		c = h.writer
	case *handle:
		c = h
	default:
		return syscall.EBADF
	}
	var held fs.Lock
	err := n.tree.change(ctx, func(ctx context.Context, _ bool) error {
		f, l, err := n.locker(ctx, c, owner)
		if err != nil {
			return err
		}
		held, err = l.TestLock(ctx, s.from, s.to-s.from, lk.Typ == syscall.F_WRLCK)
		return n.afterLock(ctx, c, f, err)
	})
	if err != nil {
		return lockErrno(err)
	}
	out.Typ = syscall.F_UNLCK
	if !held.Held {
		return 0
	}
	if out.Typ = syscall.F_RDLCK; held.Exclusive {
		out.Typ = syscall.F_WRLCK
	}
	out.Start, out.End = held.Off, math.MaxInt64
	if held.Bytes != 0 {
		out.End = min(held.Off+held.Bytes-1, math.MaxInt64)
	}
	return 0
}

// span are bytes from one on, up to another.
type span struct{ from, to uint64 }

// lockTable has what the programs of a mount have locked.
type lockTable struct {
	mu    sync.Mutex
	files map[blocktree.FileID]*lockedFile
}

// lockedFile is a file that has locks, all at one service, or is about to.
type lockedFile struct {
	service blocktree.Path
	asking  int
	by      map[carrier]map[uint64][]span
}

// enter begins to ask a service for a lock; false: others are at another.
func (x *lockTable) enter(id blocktree.FileID, service blocktree.Path) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.files == nil {
		x.files = map[blocktree.FileID]*lockedFile{}
	}
	l := x.files[id]
	if l == nil {
		l = &lockedFile{service: service, by: map[carrier]map[uint64][]span{}}
		x.files[id] = l
	}
	if l.service != service {
		return false
	}
	l.asking++
	return true
}

// leave ends that; took says that it is locked now.
func (x *lockTable) leave(id blocktree.FileID, c carrier, owner uint64, s span, took bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.files[id]
	l.asking--
	if took {
		l.cut(owner, s)
		if l.by[c] == nil {
			l.by[c] = map[uint64][]span{}
		}
		l.by[c][owner] = join(l.by[c][owner], s)
	}
	x.tidy(id, l)
}

// join adds a range to others that it does not overlap, as one with those beside it.
func join(all []span, s span) []span {
	all = slices.DeleteFunc(all, func(h span) bool {
		beside := h.to == s.from || h.from == s.to
		if beside {
			s.from, s.to = min(s.from, h.from), max(s.to, h.to)
		}
		return beside
	})
	return append(all, s)
}

// cut takes a range from an owner.
func (x *lockTable) cut(id blocktree.FileID, owner uint64, s span) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if l := x.files[id]; l != nil {
		l.cut(owner, s)
		x.tidy(id, l)
	}
}

func (l *lockedFile) cut(owner uint64, s span) {
	for c, owners := range l.by {
		var left []span
		for _, h := range owners[owner] {
			if before := min(h.to, s.from); h.from < before {
				left = append(left, span{h.from, before})
			}
			if after := max(h.from, s.to); after < h.to {
				left = append(left, span{after, h.to})
			}
		}
		if owners[owner] = left; len(left) == 0 {
			delete(owners, owner)
		}
		if len(owners) == 0 {
			delete(l.by, c)
		}
	}
}

func (x *lockTable) tidy(id blocktree.FileID, l *lockedFile) {
	if len(l.by) == 0 && l.asking == 0 {
		delete(x.files, id)
	}
}

// has reports whether locks were taken by a carrier, and not given back.
func (x *lockTable) has(id blocktree.FileID, c carrier) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.files[id]
	return l != nil && len(l.by[c]) > 0
}

// of are the carriers by which an owner has locks.
func (x *lockTable) of(id blocktree.FileID, owner uint64) (all []carrier) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if l := x.files[id]; l != nil {
		for c, owners := range l.by {
			if _, ok := owners[owner]; ok {
				all = append(all, c)
			}
		}
	}
	return slices.Clip(all)
}

// drop forgets a carrier whose file was closed.
func (x *lockTable) drop(id blocktree.FileID, c carrier) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if l := x.files[id]; l != nil {
		delete(l.by, c)
		x.tidy(id, l)
	}
}
