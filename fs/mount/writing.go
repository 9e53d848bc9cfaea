package mount

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// appender is what an open file may be able to do (docs/design/0050).
type appender interface {
	Append(ctx context.Context, p []byte) (uint64, error)
}

// writing is a handle of a file that is open for writing, by the writer that all of these share.
type writing struct {
	node   *node
	writer *writer
	append bool
	flock  owned
	by     int           // the process that opened it; 0: not known
	fresh  bool          // the file was made by its open
	holds  bool          // no open goes by what the kernel was told until it is released
	early  atomic.Bool   // its last close returned before the file was made
	first  atomic.Uint64 // how many writes had been answered when the file, a fresh one, was first to be flushed; 0: not yet
	told   atomic.Uint64 // failed writes of the writer that were told here
}

var (
	_ gofs.FileReader    = (*writing)(nil)
	_ gofs.FileWriter    = (*writing)(nil)
	_ gofs.FileFlusher   = (*writing)(nil)
	_ gofs.FileReleaser  = (*writing)(nil)
	_ gofs.FileAllocater = (*writing)(nil)
)

// openToWrite opens the file of a node for writing.
func (n *node) openToWrite(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if n.tree.o.ReadOnly {
		return nil, 0, syscall.EROFS
	}
	known := n.told().Load()
	h, e := n.writing(ctx, flags, false, nil)
	if e != 0 {
		return nil, 0, e
	}
	if h.append {
		h.writer.hear(ctx)
	}
	if end := h.writer.end.Load(); h.append && end != known { // the kernel would write where it was told that the end is
		n.told().Store(end)
		h.Release(ctx)
		return nil, 0, syscall.ESTALE
	}
	var attr fuse.Attr
	if f := h.writer.lockable(); f != nil {
		info := n.tree.infoOf(f)
		n.tree.written(&info)
		n.tree.fill(&info, &attr)
	}
	n.forgets(&attr, threadOf(ctx))
	return h, 0, 0
}

// writing makes a handle to write; file is what was opened for it already, nil: nothing.
func (n *node) writing(ctx context.Context, flags uint32, fresh bool, file fs.File) (*writing, syscall.Errno) {
	if !n.tree.enter() {
		return nil, syscall.ENFILE
	}
	w, err := n.acquire(ctx, fresh, file)
	if err != nil {
		n.tree.leave()
		return nil, openErrno(err)
	}
	h := &writing{node: n, writer: w, append: flags&syscall.O_APPEND != 0, by: processOf(ctx)}
	h.told.Store(w.failures.Load())
	return h, 0
}

// isOpen reports whether it was opened, and not given back since.
func (w *writer) isOpen() bool { return w.open.Load() && w.dead() == nil }

// Read implements gofs.FileReader.
func (h *writing) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := h.writer.read(ofBytes(ctx, len(dest)), dest, uint64(off))
	if err != nil {
		return nil, openErrno(err)
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// Write implements gofs.FileWriter. The kernel writes as much at a time as it reads: what is long is written in parts. Programs are told how many bytes were written before one failed; of pages it is all or nothing.
func (h *writing) Write(ctx context.Context, data []byte, off int64) (done uint32, e syscall.Errno) {
	if len(data) <= blocktree.MountWriteBytesMax {
		return h.writePart(ctx, data, off)
	}
	for part := range slices.Chunk(data, blocktree.MountWriteBytesMax) {
		n, e := h.writePart(ctx, part, off+int64(done))
		if done += n; e != 0 && done > 0 && !ofPages(ctx) {
			return done, 0
		} else if e != 0 {
			return 0, e
		}
	}
	return done, 0
}

func (h *writing) writePart(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	err := error(nil)
	switch {
	case h.append && !ofPages(ctx):
		err = h.writer.add(ctx, data, uint64(off))
	case !ofPages(ctx) && h.writer.hold(data, uint64(off)):
		h.node.tree.bound(ctx, h.writer)
	default:
		err = h.writer.write(ctx, data, uint64(off))
	}
	if err != nil {
		return 0, openErrno(err)
	}
	h.node.raise(h.writer.end.Load())
	return uint32(len(data)), 0
}

// raise counts a length that the kernel knows of.
func (n *node) raise(length uint64) {
	told := n.told()
	for was := told.Load(); was < length && !told.CompareAndSwap(was, length); {
		was = told.Load()
	}
}

// add writes all of p at the end, where the kernel has it, too.
func (w *writer) add(ctx context.Context, p []byte, off uint64) error {
	if off != w.end.Load() {
		return w.failedWrite(errOther) // somebody made it longer or shorter: never over what is there
	}
	asked, gone := false, false
	defer w.kept.begin(span{off, off + uint64(len(p))})()
	err := w.do(ctx, off+uint64(len(p)), func(ctx context.Context, f fs.File) error {
		a, ok := f.(appender)
		if !ok || !w.grows {
			err := f.WriteAt(ctx, p, off)
			if err == nil {
				w.written(off, p)
			}
			return err
		}
		if asked || gone && w.end.Load() != off {
			return blocktree.E("mount", blocktree.IO, errors.New("it may be there already"))
		}
		at, err := a.Append(ctx, p)
		k := blocktree.KindOf(err)
		gone = gone || k == blocktree.Undeliverable // it was done before that, or not: the end says it
		asked = err != nil && k != blocktree.Undeliverable && k != blocktree.Unsupported
		if err != nil {
			return err
		}
		w.written(at, p)
		if at != off { // somebody else wrote at this service: what the kernel keeps is not what is there
			w.stalePages()
		}
		return nil
	})
	if err == nil {
		w.tree.bound(ctx, w)
	}
	return w.failedWrite(err)
}

// stalePages has the kernel read the file anew. Not while it waits for an answer about its pages.
func (w *writer) stalePages() {
	w.tree.notices.Go(func() { _ = w.node.NotifyContent(0, 0) }) // a kernel that has none says so
}

// sync is fsync, and what close does.
func (h *writing) sync(ctx context.Context) syscall.Errno {
	if err := h.writer.dead(); err != nil {
		return openErrno(err)
	}
	return h.synced(h.writer.sync(ctx))
}

// fsync is sync, of what may well not be written again.
func (h *writing) fsync(ctx context.Context) syscall.Errno {
	if h.writer.pending.Load() {
		h.first.CompareAndSwap(0, h.writer.acked.Load())
		if done, err := h.writer.finishWhole(ctx); done {
			if err == nil && !h.node.tree.endsBySync(h.by) { // it goes on, as far as anybody knows: nobody else is to write it
				_ = h.node.tree.change(ctx, func(ctx context.Context, _ bool) error { h.writer.wake(ctx); return nil })
			}
			return h.synced(err)
		}
	}
	if done, err := h.finishEarly(ctx); done {
		return h.synced(err)
	}
	return h.sync(ctx)
}

// synced is what a program is told of all that was written until now.
func (h *writing) synced(err error) syscall.Errno {
	if err != nil {
		return openErrno(err)
	}
	if failures := h.writer.failures.Load(); h.told.Swap(failures) != failures {
		return openErrno(*h.writer.lastFailure.Load())
	}
	return 0
}

// Flush implements gofs.FileFlusher: a program closes the file.
func (h *writing) Flush(ctx context.Context) syscall.Errno {
	if first := h.first.Load(); first != 0 {
		h.node.tree.endedBySync(h.by, h.writer.acked.Load() == first)
	}
	var e syscall.Errno
	early := h.mayClose(ctx)
	if h.early.Store(early); early {
		e = h.synced(nil)
	} else if done, err := h.writer.finish(ctx, h); done {
		e = h.synced(err)
	} else {
		e = h.sync(ctx)
	}
	h.node.closedBy(ctx) // after it was flushed
	return e
}

// Release implements gofs.FileReleaser.
func (h *writing) Release(ctx context.Context) syscall.Errno {
	h.node.released(ctx, &h.flock)
	late := h.writer.slot.Load()
	if late {
		h.writer.handed.Add(1) // before, so that it is late all the time
		if late = h.writer.slot.Swap(false); !late {
			h.writer.handed.Add(-1)
		}
	}
	if late {
		h.node.tree.closeLater(h.writer)
	} else {
		m, why := h.writer.made.Load(), h.writer.dead()
		if err := h.writer.release(ctx); err != nil || !h.early.Load() {
			why = err
		}
		if h.node.tree.untold(h.writer, why); why != nil && h.early.Load() && m != nil && m.filled != nil { // it was asked for by somebody between
			h.node.tree.fills.loses(m.filled.id)
		}
		if h.node.tree.writer(h.node.id) == nil {
			h.node.forgets(nil, 0) // or what was told while it was written has the next open do it
		}
	}
	if h.holds {
		h.node.belief.release()
	}
	h.node.tree.leave()
	return 0
}

// Modes of fallocate.
const (
	allocateKeepSize = 1
	allocatePunch    = 2
)

// Allocate implements gofs.FileAllocater: making the file longer, and holes. No room is set aside.
func (h *writing) Allocate(ctx context.Context, off, bytes uint64, mode uint32) syscall.Errno {
	switch mode {
	case 0:
		if off > blocktree.FileBytesMax || bytes > blocktree.FileBytesMax-off {
			return syscall.EFBIG
		}
		err := h.writer.lengthen(ctx, off+bytes)
		if err == nil {
			h.node.raise(off + bytes)
		}
		return openErrno(err)
	case allocateKeepSize | allocatePunch:
		return openErrno(h.writer.punch(ctx, off, bytes))
	}
	return syscall.EOPNOTSUPP
}

// punch makes a part of the file zeros.
func (w *writer) punch(ctx context.Context, off, bytes uint64) error {
	hole := span{off, off + min(bytes, math.MaxUint64-off)}
	defer w.kept.begin(hole)()
	err := w.do(ctx, 0, func(ctx context.Context, f fs.File) error {
		p, ok := f.(fs.Puncher)
		if !ok {
			return blocktree.E("mount", blocktree.Unsupported, nil)
		}
		n := bytes
		if end := w.end.Load(); !w.grows {
			if off >= end {
				return nil
			}
			n = min(n, end-off)
		}
		err := p.Punch(ctx, off, n)
		if w.grows && blocktree.KindOf(err) == blocktree.OutOfRange { // it begins behind the end
			return nil
		}
		if err == nil {
			w.keep(hole, nil)
			w.wrote.Store(time.Now().UnixNano())
		}
		return err
	})
	if err == nil {
		w.tree.bound(ctx, w)
	}
	return err
}
