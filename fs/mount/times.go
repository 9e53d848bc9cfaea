package mount

import (
	"context"
	"math"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// secondsMax is the last time that nanoseconds since 1970 have.
const secondsMax = math.MaxInt64 / 1_000_000_000

// setTimes changes the time of the last write. There is no time of access: one that is set with it is passed over.
func (n *node) setTimes(ctx context.Context, f gofs.FileHandle, in *fuse.SetAttrIn) syscall.Errno {
	at, ok := in.GetMTime()
	if _, access := in.GetATime(); !ok && !access || !ok && in.Valid&fuse.FATTR_SIZE != 0 {
		return 0
	} else if !ok {
		return syscall.EOPNOTSUPP
	}
	now := in.Valid&fuse.FATTR_MTIME_NOW != 0
	if in.Valid&fuse.FATTR_SIZE != 0 && now {
		return 0 // it is the time of what was just done
	}
	t, ok := n.tree.source.(Timer)
	if !ok {
		return syscall.EOPNOTSUPP
	}
	modified := fs.TimeNow // who may write may say that, and any other only the owner
	if !now {
		if at.Unix() < 0 || at.Unix() >= secondsMax {
			return syscall.EINVAL
		}
		modified = at.UnixNano()
	}
	if n.setTimePending(modified) {
		return 0
	}
	if h, ok := f.(*writing); ok { // what was written before is told before
		if _, err := h.finishEarly(ctx); err != nil {
			return openErrno(err)
		}
	}
	if err := n.toSet(ctx); err != nil {
		return openErrno(err)
	}
	n.changes()
	defer n.changes()     // once more: who asked meanwhile heard of what was before
	w := n.tree.use(n.id) // so it is not closed meanwhile, which would tell the time of the last write
	if w != nil {
		defer func() { n.tree.untold(w, w.release(ctx)) }()
		if w.settled() { // likewise, unless that has done it
			if err := w.sync(ctx); err != nil {
				return openErrno(err)
			}
		}
	}
	err := n.tree.change(ctx, func(ctx context.Context, _ bool) error {
		return n.byFile(func(f fs.OfFile) error { return f.SetTimes(ctx, modified) }, func() error { return t.SetTimes(ctx, n.path(), modified) })
	})
	if err == nil && w != nil {
		w.wrote.Store(0) // the service says it, until something is written
	}
	if !now {
		return ownerErrno(err)
	}
	return errno(err)
}

// use keeps the writer of a file, if there is one, until its release.
func (t *tree) use(id blocktree.FileID) *writer {
	t.writersMu.Lock()
	defer t.writersMu.Unlock()
	w := t.writers[id]
	if w != nil {
		w.uses++
	}
	return w
}

// settled reports whether it is open, after whoever closes it has.
func (w *writer) settled() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.opened && w.dead() == nil
}
