package mount

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// errOther is in the error of a path that means another file now.
var errOther = errors.New("the name means another file now")

// handle is a file that is open to read. When its actor at the service is gone, it is opened anew.
type handle struct {
	node *node
	mu   sync.Mutex
	file fs.File // never nil

	locker *writer // that takes its exclusive locks; nil: none yet
	flock  owned
}

var (
	_ gofs.FileReader   = (*handle)(nil)
	_ gofs.FileReleaser = (*handle)(nil)
	_ gofs.FileFlusher  = (*handle)(nil)
)

// open opens the file of a node at the service.
func (n *node) open(ctx context.Context) (*handle, syscall.Errno) {
	if !n.tree.enter() {
		return nil, syscall.ENFILE
	}
	var f fs.File
	err := n.tree.nameFile(ctx, n.id)
	if err != nil {
		n.tree.leave()
		return nil, openErrno(err)
	}
	err = n.tree.ask(ctx, func(ctx context.Context) (err error) {
		f, err = n.openOnce(ctx, fs.OpenOptions{})
		return err
	})
	if err != nil {
		n.tree.leave()
		return nil, openErrno(err)
	}
	return &handle{node: n, file: f}, 0
}

// openOnce opens what has the node's name, if that is the node's file.
func (n *node) openOnce(ctx context.Context, o fs.OpenOptions) (fs.File, error) {
	if n.isNameless() { // nobody finds it any more
		return nil, errOther
	}
	f, err := n.tree.source.Open(ctx, n.path(), o)
	if err != nil {
		return nil, err
	}
	if n.tree.infoOf(f).ID != n.id {
		_ = f.Close() // nothing was read
		return nil, errOther
	}
	if !o.Write {
		n.told().Store(f.Info().Length)
	}
	return f, nil
}

func openErrno(err error) syscall.Errno {
	if errors.Is(err, errOther) {
		return syscall.ESTALE
	}
	return errno(err)
}

// current is the file at the service.
func (h *handle) current() fs.File {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.file
}

// renew opens the file anew, unless somebody did since it was failed.
func (h *handle) renew(ctx context.Context, failed fs.File) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file != failed {
		return nil
	}
	if h.node.tree.locks.has(h.node.id, h) {
		return errLocks
	}
	f, err := h.node.openOnce(ctx, fs.OpenOptions{})
	if err != nil {
		return err
	}
	h.file = f
	_ = failed.Close() // it was only read from, and is gone most likely
	return nil
}

// Read implements gofs.FileReader. What it returns is everybody's who reads the file, as the kernel keeps it, and what is short says where the file ends: so a handle that has not heard yet of a length that was told to the
// kernel is opened anew, once.
//
// What is being written in this mount is read by its writer.
func (h *handle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if w := h.node.tree.writer(h.node.id); w != nil && w.isOpen() {
		if n, err := w.read(ofBytes(ctx, len(dest)), dest, uint64(off)); err == nil {
			return fuse.ReadResultData(dest[:n]), 0
		} else if w.dead() == nil && w.isOpen() {
			return nil, openErrno(err)
		}
	}
	n, first, short := 0, true, true
	err := h.node.tree.ask(ofBytes(ctx, len(dest)), func(ctx context.Context) (err error) {
		f := h.current()
		n, err = f.ReadAt(ctx, dest, uint64(off))
		if end := errors.Is(err, io.EOF) || blocktree.KindOf(err) == blocktree.OutOfRange; end && short && uint64(off)+uint64(n) < h.node.told().Load() && !h.node.isNameless() && !h.node.tree.locks.has(h.node.id, h) {
			if err := h.renew(ctx, f); err != nil {
				return err
			}
			short = false
			f = h.current()
			n, err = f.ReadAt(ctx, dest, uint64(off))
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case blocktree.KindOf(err) == blocktree.OutOfRange:
			n = 0 // behind the end nothing is read
			return nil
		case !passing(err) || blocktree.KindOf(err) == blocktree.Unavailable && first:
			first = false // a service that is there and cannot do it just now keeps its file
			return err
		}
		if err := h.renew(ctx, f); err != nil {
			return err
		}
		return err // once more, of the new one
	})
	if e := openErrno(err); e == syscall.ENOENT { // it was open: it was removed since, or replaced
		return nil, syscall.ESTALE
	} else if e != 0 {
		return nil, e
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// lockable implements carrier.
func (h *handle) lockable() fs.File { return h.current() }

// Flush implements gofs.FileFlusher: a program closes the file.
func (h *handle) Flush(ctx context.Context) syscall.Errno {
	h.node.closedBy(ctx)
	return 0
}

// Release implements gofs.FileReleaser.
func (h *handle) Release(ctx context.Context) syscall.Errno {
	h.node.released(ctx, &h.flock)
	if h.locker != nil {
		h.node.tree.untold(h.locker, h.locker.release(ctx))
	}
	_ = h.current().Close() // it was only read from
	h.node.tree.locks.drop(h.node.id, h)
	h.node.tree.leave()
	return 0
}
