package mount

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// A small file costs a request to make and open it, one for each write, and one for its close (docs/design/0067).

// errElse says that a file is made and opened one after the other: by a service of a version before, or because it is there.
const errElse = syscall.Errno(^uintptr(0))

// madeBytes is the room that a file is made with: it costs nothing until it is written, and what fits needs no more.
const madeBytes = 64 << 10

// makeOpen makes an empty file, and opens it for writing.
func (n *node) makeOpen(ctx context.Context, path blocktree.Path, mode, flags uint32, out *fuse.EntryOut) (*gofs.Inode, *writing, syscall.Errno) {
	m, ok := n.tree.source.(fs.MakeOpener)
	if !ok || mode&specialBits != 0 || flags&syscall.O_ACCMODE == syscall.O_RDONLY {
		return nil, nil, errElse
	}
	var f fs.File
	o := n.tree.making(mode)
	err := n.tree.change(ctx, func(ctx context.Context, unsure bool) (err error) {
		f, err = m.MakeOpen(ctx, path, o)
		if unsure && flags&(syscall.O_EXCL|syscall.O_TRUNC) != syscall.O_TRUNC {
			err = mayBeOurs(err)
		}
		return err
	})
	switch k := blocktree.KindOf(err); {
	case err == nil:
	case k == blocktree.Unsupported, k == blocktree.Exists && flags&syscall.O_EXCL == 0:
		return nil, nil, errElse
	default:
		return nil, nil, errno(err)
	}
	info := n.tree.infoOf(f)
	i, e := n.child(ctx, &info, out)
	if e != 0 {
		_ = f.Close() // nothing was written
		return nil, nil, e
	}
	c := i.Operations().(*node)
	c.at.Store(&path)
	defer c.at.Store(nil)
	h, e := c.writing(ctx, flags, true, f)
	if e != 0 {
		_ = f.Close() // likewise
		return nil, nil, e
	}
	h.fresh = true
	h.writer.wasMade(&making{node: c, path: path, options: o})
	if wanted := mode & 0o777; wanted&ownerBits != ownerBits {
		h.writer.mode.Store(&wanted)
	}
	return i, h, c.describe(f, out)
}

// finishEarly is finish at the first fsync of a new file, by a process that wrote no more to the one before after that (docs/design/0072): the close has nothing left to do. done is false where it did nothing.
func (h *writing) finishEarly(ctx context.Context) (done bool, err error) {
	at := h.writer.acked.Load()
	if !h.fresh || at == 0 || !h.first.CompareAndSwap(0, at) || !h.node.tree.endsBySync(h.by) {
		return false, nil
	}
	return h.writer.finish(ctx, h)
}

// syncEnds remembers of some processes whether their last new file was written no more after its first fsync: their numbers, each in its place.
type syncEnds [64]atomic.Int64

func (t *tree) syncEnd(process int) *atomic.Int64 {
	return &t.syncEnds[uint(process)%uint(len(t.syncEnds))]
}

// endsBySync guesses whether a process is done with a new file that it flushes.
func (t *tree) endsBySync(process int) bool {
	return process != 0 && t.syncEnd(process).Load() == int64(process)
}

// endedBySync notes whether one was.
func (t *tree) endedBySync(process int, ended bool) {
	if ended {
		t.syncEnd(process).Store(int64(process))
	} else {
		t.syncEnd(process).CompareAndSwap(int64(process), 0)
	}
}

// finish flushes the file and closes it at the service, at once, if h is the only handle, wrote something, and is closed by the process that opened it: most likely for good. done is false where it did nothing: the file is to be flushed. Where it was not the last close (of a descriptor that
// has a copy), it is opened anew by who uses it next.
func (w *writer) finish(ctx context.Context, h *writing) (done bool, err error) {
	if !w.unflushed() || h.by == 0 || h.by != processOf(ctx) {
		return false, nil
	}
	if w.pending.Load() {
		return w.finishWhole(ctx)
	}
	err = w.tree.change(ctx, func(ctx context.Context, _ bool) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		f, ok := w.file.(fs.Finisher)
		w.tree.writersMu.Lock()
		alone := w.uses == 1
		w.tree.writersMu.Unlock()
		if done = false; !ok || !alone || w.shared || !w.opened || w.dead() != nil || !w.grows || !w.unflushed() || w.tree.locks.has(w.id, w) {
			return nil
		}
		if w.leaving.Load() > 0 { // who has it open is to be found so
			return nil
		}
		err := w.finishOnce(ctx, f)
		switch {
		case blocktree.KindOf(err) == blocktree.Unsupported: // a service of a version before, or the file has no name
			return nil
		case gone(err) && blocktree.KindOf(err) != blocktree.Lost && w.keepsAll(): // what was not flushed is written again
			return nil
		case passing(err) && blocktree.KindOf(err) != blocktree.Undeliverable && ctx.Err() == nil: // it is there, and did nothing
			return err
		}
		if done = true; err != nil {
			return w.die(w.lossOf(err))
		}
		w.sent()
		w.durable(w.acked.Load())
		w.named()
		w.file, w.parked, w.shared = nil, true, true
		w.open.Store(false)
		w.node.changed.Store(time.Now().UnixNano())
		return nil
	})
	if err != nil && !done { // it was given up
		w.mu.Lock()
		defer w.mu.Unlock()
		return true, w.die(errors.Join(errLost, err))
	}
	return done, err
}

// wake opens it again at the service, if it was finished and somebody uses it yet. Where that fails who uses it next is told.
func (w *writer) wake(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tree.writersMu.Lock()
	used := w.uses > 0
	w.tree.writersMu.Unlock()
	if used && w.opened && w.dead() == nil {
		_ = w.unpark(ctx) // see above
	}
}

// unpark opens it again at the service, if it was finished. Who calls it has the lock.
func (w *writer) unpark(ctx context.Context) error {
	if !w.parked {
		return nil
	}
	f, err := w.node.openOnce(ctx, fs.OpenOptions{Write: true, Tell: true, Anew: w.tree.broken.Load()})
	if err == nil {
		w.reopened(f)
	}
	return err
}

// processOf is the process on whose behalf the kernel asks; 0: not known.
func processOf(ctx context.Context) int {
	c, ok := ctx.(*fuse.Context)
	if !ok || c.Pid == 0 {
		return 0
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(int(c.Pid)) + "/status") // it says a thread
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "\nTgid:")
	line, _, _ := strings.Cut(rest, "\n")
	process, _ := strconv.Atoi(strings.TrimSpace(line)) // of what is no number: 0
	return process
}
