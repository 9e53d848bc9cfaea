package mount

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/fs"
)

// writer is a file that is open for writing, once for all handles of the mount. What is said of locks: mu is held by whoever uses file, and write locked by whoever changes it.
type writer struct {
	tree  *tree
	id    blocktree.FileID
	uses  int // by handles and others; with tree.writersMu
	mode  atomic.Pointer[uint32]
	open  atomic.Bool   // it was opened, and not given back since
	wrote atomic.Int64  // when it was written last, in nanoseconds since 1970; 0: not yet
	end   atomic.Uint64 // where it ends, for the programs of this mount

	acked, flushed atomic.Uint64          // writes that were answered, and how many of these were flushed
	made           atomic.Pointer[making] // how, until it is known to have its name at the cluster; nil: it is
	kept           kept                   // those that were not
	held           atomic.Uint64          // bytes from the first on that are kept and were not sent
	failures       atomic.Uint64          // writes that failed
	lastFailure    atomic.Pointer[error]
	why            atomic.Pointer[error] // it is not used any more; set with mu
	leaving        atomic.Int32          // requests that take the file's name
	pending        atomic.Bool           // no service has heard of it; set with mu
	closed         atomic.Bool           // it is pending, and nobody has it open; set with mu
	slot           atomic.Bool           // its close returned, or may, before it is sent: it has a place among those
	handed         atomic.Int32          // how many such places were given to who is about to send it
	late           atomic.Bool           // its last close returned before it was sent
	changed        atomic.Int64          // when the mode or time of what is pending was set, in nanoseconds since 1970

	endMu sync.Mutex
	cuts  uint64 // how often end was set by a truncation; with endMu

	mu     sync.RWMutex
	node   *node // whose name it is opened by
	opened bool
	file   fs.File         // nil while it is to be opened anew
	epoch  blocktree.Epoch // under which nobody else writes it; 0: not known
	grows  bool            // what is written behind its end makes it longer
	room   uint64          // the length that the service has been told
	asked  uint64          // likewise, where the answer is missing
	sized  uint64          // likewise, by giving it a size
	size   uint64          // in bytes, as the cluster has it
	zeros  bool            // all between its end and its size is known to be
	lost   bool            // what a try to open it anew found missing, once
	tried  bool            // a service was asked to make what is pending, and did not answer
	empty  bool            // ... to make it without what is held
	before []triedAs       // the identities that services were asked to make it with before the one that they are asked with now
	full   time.Time       // since when what is closed is refused for want of room
	denied time.Time       // since when no service that was asked has made it whole
	timed  bool            // the time of what is pending was set, and nothing was written since
	parked bool            // it was flushed and closed at a close that seemed to be the last: it is not open at the service until it is used again
	shared bool            // that was not the last
}

var (
	// errLost is what every handle of before fails with once writes were lost.
	errLost = &blocktree.Error{Op: "mount", Kind: blocktree.IO, Err: errors.New("writes that were answered and not flushed may be lost")}
	// errNotOpen is for who comes when the last one that used it has closed it.
	errNotOpen = &blocktree.Error{Op: "mount", Kind: blocktree.IO, Err: errors.New("the file is not being written any more")}
	// errAgain has something tried again.
	errAgain = &blocktree.Error{Op: "mount", Kind: blocktree.Unavailable, Err: errors.New("the file was opened anew")}
)

// writer returns the writer of a file, nil if none of the mount writes it.
func (t *tree) writer(id blocktree.FileID) *writer {
	t.writersMu.Lock()
	defer t.writersMu.Unlock()
	return t.writers[id]
}

// acquire has the file of a node open for writing, until as many releases. fresh says that it was made just now, empty; file is what was opened already, nil: nothing.
func (n *node) acquire(ctx context.Context, fresh bool, file fs.File) (*writer, error) {
	t := n.tree
	t.writersMu.Lock()
	w := t.writers[n.id]
	if w == nil || w.dead() != nil {
		w = &writer{tree: t, id: n.id, node: n}
		t.writers[n.id] = w
	}
	w.uses++
	t.writersMu.Unlock()
	err := t.change(ctx, func(ctx context.Context, _ bool) error { return w.first(ctx, n, fresh, file) })
	if err != nil {
		_ = w.release(ctx) // it was not opened
		return nil, err
	}
	return w, nil
}

// dead is why it is not used any more; nil: it is.
func (w *writer) dead() error {
	if why := w.why.Load(); why != nil {
		return *why
	}
	return nil
}

// first opens it, unless it is open, or was opened for it.
func (w *writer) first(ctx context.Context, n *node, fresh bool, f fs.File) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed.Load() { // it is sent first
		if err := w.makeWhole(ctx); err != nil {
			return err
		}
	}
	if w.dead() != nil || w.opened {
		if f != nil {
			_ = f.Close() // nothing was written by it
		}
		if why := w.dead(); why != nil {
			return why
		}
		if w.parked {
			w.node = n
		}
		return w.unpark(ctx) // who opens it is told if he may not
	}
	w.acked.Store(0)
	w.flushed.Store(0)
	w.forget()
	w.node = n
	w.parked, w.shared = false, false
	if f == nil {
		var err error
		if f, err = n.openOnce(ctx, fs.OpenOptions{Write: true, Tell: true, Anew: n.tree.broken.Load()}); err != nil {
			return err
		}
	}
	info := f.Info()
	w.opened, w.file, w.room, w.asked, w.size = true, f, info.Length, info.Length, info.SizeBytes
	w.sized = w.room
	w.zeros = fresh || info.Length == info.SizeBytes
	_, w.grows = f.(truncater)
	w.end.Store(info.Length)
	w.opensUnder(f)
	w.open.Store(true)
	return nil
}

// unflushed reports whether writes were answered that are not flushed.
func (w *writer) unflushed() bool { return w.acked.Load() != w.flushed.Load() }

// die ends its use. Who calls it has the lock.
func (w *writer) die(why error) error {
	if w.dead() == nil {
		w.why.Store(&why)
		w.loses(why)
		w.unpend()
		w.forget()
		if w.file != nil {
			_ = w.file.Close() // it promises nothing
			w.file = nil
		}
		w.node.changed.Store(time.Now().UnixNano())
	}
	return w.dead()
}

// renew opens it anew, unless somebody did since it was failed. Writes that were not flushed are written again, where that can be; else it is not used any more.
func (w *writer) renew(ctx context.Context, failed fs.File) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead() != nil || w.file != failed {
		return w.dead()
	}
	if !w.opened {
		return errNotOpen
	}
	if !w.parked && !w.pending.Load() {
		w.tree.broken.Store(true)
		w.tree.fills.breaks()
	}
	if w.unflushed() && !w.keepsAll() {
		return w.die(errLost)
	}
	if w.tree.locks.has(w.id, w) {
		return errLocks
	}
	if failed != nil {
		_ = failed.Close() // nothing that was answered is missing, or it is kept
		w.file = nil
	}
	return w.reopen(ctx)
}

// reopen opens it by its name, of before or of by now. Who calls it has the lock.
func (w *writer) reopen(ctx context.Context) error {
	if w.pending.Load() {
		return w.makeNow(ctx)
	}
	if m := w.made.Load(); m != nil && w.late.Load() && w.node.Forgotten() { // by the kernel: it is named before that changes
		w.node.at.Store(&m.path)
	}
	f, err := w.node.openOnce(ctx, fs.OpenOptions{Write: true, Tell: true, Anew: !w.parked || w.tree.broken.Load()})
	made := w.made.Load()
	switch missing := errors.Is(err, errOther) || blocktree.KindOf(err) == blocktree.NotFound && !fs.NoService(err); {
	case missing && !w.lost:
		w.lost = true // it is being renamed, most likely
		return errAgain
	case missing && made != nil && !errors.Is(err, errOther):
		if f, err = w.remake(ctx, made); err != nil {
			return err
		}
		w.reopened(f)
		return w.writeAgain(ctx)
	case missing && (w.unflushed() || made != nil):
		return w.die(errLost)
	case missing:
		return w.die(errOther)
	case blocktree.KindOf(err) == blocktree.Busy: // the lease of a service that died, until that runs out
		return blocktree.E("mount", blocktree.Unavailable, err)
	case err != nil:
		return err
	}
	w.named()
	if info := f.Info(); !w.expects(info.Length) && !w.grows {
		_ = f.Close() // nothing was done with it
		return w.die(errOther)
	}
	if w.unflushed() && !w.mayWriteAgain(f) {
		_ = f.Close() // likewise
		return w.die(errLost)
	}
	w.reopened(f)
	return w.writeAgain(ctx)
}

// reopened goes by what was opened anew. Who calls it has the lock.
func (w *writer) reopened(f fs.File) {
	w.lost = false
	w.file, w.room, w.size = f, f.Info().Length, f.Info().SizeBytes
	w.asked, w.sized = w.room, w.room
	w.opensUnder(f)
	if w.parked {
		w.parked = false
		w.open.Store(true)
	}
	if end := w.kept.reaches(w.room); w.grows && w.end.Swap(end) != end { // others at that service wrote it, too
		w.stalePages()
	}
}

// expects reports whether the file may be so long if nobody else has changed it.
func (w *writer) expects(length uint64) bool {
	return length == w.room || length == w.asked || length == w.sized
}

// ready returns the file, with room up to need, and mu held to use it.
func (w *writer) ready(ctx context.Context, need uint64) (fs.File, error) {
	for {
		w.mu.RLock()
		switch {
		case w.dead() != nil:
			defer w.mu.RUnlock()
			return nil, w.dead()
		case !w.opened:
			defer w.mu.RUnlock()
			return nil, errNotOpen
		case w.file != nil && w.held.Load() == 0 && (w.grows || need <= w.room && (w.zeros || need <= w.end.Load())):
			return w.file, nil
		}
		file := w.file
		w.mu.RUnlock()
		var err error
		switch {
		case file == nil:
			err = w.renew(ctx, nil)
		case w.held.Load() > 0:
			err = w.sendOnce(ctx)
		default:
			err = w.grow(ctx, need)
		}
		if err != nil {
			return nil, err
		}
	}
}

// do has something done with the file, again while that may help; need is how far it must reach.
func (w *writer) do(ctx context.Context, need uint64, op func(ctx context.Context, f fs.File) error) error {
	tries := 0
	return w.tree.change(ctx, func(ctx context.Context, _ bool) error {
		f, err := w.ready(ctx, need)
		if err != nil {
			return err
		}
		err = op(ctx, f)
		w.mu.RUnlock()
		again := false
		switch blocktree.KindOf(err) {
		case blocktree.Undeliverable, blocktree.Closed, blocktree.Fenced: // it is gone
			again = err != nil
		case blocktree.Lost: // and what it was may be, too
			w.kept.give()
			again = true
		case blocktree.OutOfRange:
			return w.cannotGrow(err)
		default: // a service that is there and cannot do it just now keeps its file, and what was not flushed
			again = passing(err) && tries > 0 && !w.unflushed()
			tries++
		}
		if again {
			if e := w.renew(ctx, f); e != nil {
				return e
			}
			return errAgain
		}
		return err
	})
}

// cannotGrow has what was behind the end tried again, after the service was found to be of a version before.
func (w *writer) cannotGrow(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.grows {
		return err
	}
	w.grows = false
	return errAgain
}

// write writes all of p.
func (w *writer) write(ctx context.Context, p []byte, off uint64) error {
	if off > blocktree.FileBytesMax || uint64(len(p)) > blocktree.FileBytesMax-off {
		return blocktree.E("mount", blocktree.TooLarge, nil)
	}
	need := off + uint64(len(p))
	defer w.kept.begin(span{off, need})()
	err := w.do(ctx, need, func(ctx context.Context, f fs.File) error {
		err := f.WriteAt(ctx, p, off)
		if err == nil {
			w.written(off, p)
		}
		return err
	})
	if err == nil {
		w.tree.bound(ctx, w)
	}
	return w.failedWrite(err)
}

// written counts a write that was answered. Who calls it has the lock.
func (w *writer) written(off uint64, p []byte) {
	w.keep(span{off, off + uint64(len(p))}, p)
	w.wrote.Store(time.Now().UnixNano())
	w.reaches(off + uint64(len(p)))
}

// reaches notes that the file ends there at least.
func (w *writer) reaches(end uint64) {
	for was := w.end.Load(); was < end && !w.end.CompareAndSwap(was, end); {
		was = w.end.Load()
	}
}

// ends notes that the file was made to end there.
func (w *writer) ends(end uint64) {
	w.endMu.Lock()
	defer w.endMu.Unlock()
	w.end.Store(end)
	w.cuts++
	w.kept.mu.Lock()
	w.kept.floor = end
	w.kept.mu.Unlock()
}

// failedWrite keeps the error of a write for fsync and close.
func (w *writer) failedWrite(err error) error {
	if err != nil {
		w.mu.Lock()
		w.zeros = false // a part of it may be there, behind the end
		w.mu.Unlock()
		w.lastFailure.Store(&err)
		w.failures.Add(1)
	}
	return err
}

// read reads as ReadAt of a file does, up to its end here.
func (w *writer) read(ctx context.Context, p []byte, off uint64) (n int, err error) {
	err = w.do(ctx, 0, func(ctx context.Context, f fs.File) (err error) {
		part := p
		if !w.grows {
			end := w.end.Load()
			if off >= end {
				return nil
			}
			part = p[:min(uint64(len(p)), end-off)]
		}
		n, err = f.ReadAt(ctx, part, off)
		if errors.Is(err, io.EOF) || w.grows && blocktree.KindOf(err) == blocktree.OutOfRange {
			return nil
		}
		return err
	})
	return n, err
}

// sync returns when all that was written is flushed, and the service knows where the file ends.
func (w *writer) sync(ctx context.Context) error {
	w.mu.RLock()
	idle := w.parked && !w.unflushed() && w.dead() == nil
	w.mu.RUnlock()
	if idle { // it is flushed, and closed
		return nil
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	return w.tree.change(ctx, func(ctx context.Context, _ bool) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.tell(ctx)
	})
}

// flush has what was written outlast the loss of power everywhere. After an error it is not used any more, unless nothing was written.
func (w *writer) flush(ctx context.Context) error {
	if w.isLate() {
		if done, err := w.awaitSent(ctx); done {
			return err
		}
	}
	return w.flushFailed(w.do(ctx, 0, w.flushOnce))
}

// flushFailed has a file that could not be flushed not be used any more, unless nothing was written.
func (w *writer) flushFailed(err error) error {
	if err == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.dead() != nil: // all are told the same
		return w.dead()
	case w.opened && w.isUnnamed():
		return w.die(errors.Join(errLost, err))
	case w.unflushed():
		return w.die(errLost)
	}
	return err
}

// flushOnce flushes an open file, if there is anything to flush. Who calls it has the lock.
func (w *writer) flushOnce(ctx context.Context, f fs.File) error {
	w.endMu.Lock()
	end, cuts := w.end.Load(), w.cuts
	w.endMu.Unlock()
	at := w.acked.Load()
	if at == w.flushed.Load() && !w.isUnnamed() {
		return nil
	}
	if err := f.Flush(ctx); err != nil {
		return err
	}
	w.named()
	w.durable(at)
	w.endsAt(end, cuts)
	return nil
}

// release gives one use back. The last one flushes the file, and closes it.
func (w *writer) release(ctx context.Context) (err error) {
	if w.leave() {
		err = w.close(context.WithoutCancel(ctx))
	}
	if w.unused() {
		w.named() // or nobody is there to be told
	}
	return err
}

// unused has it forgotten, and reports whether nobody uses it.
func (w *writer) unused() bool {
	w.tree.writersMu.Lock()
	defer w.tree.writersMu.Unlock()
	if w.uses > 0 {
		return false
	}
	w.tree.locks.drop(w.id, w)
	if w.tree.writers[w.id] == w {
		delete(w.tree.writers, w.id)
	}
	return true
}

// lockable implements carrier.
func (w *writer) lockable() fs.File {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.file
}

// leave counts, and reports whether nobody uses it any more.
func (w *writer) leave() bool {
	w.tree.writersMu.Lock()
	defer w.tree.writersMu.Unlock()
	w.uses--
	return w.uses == 0
}

// close closes it unless somebody has come to use it.
func (w *writer) close(ctx context.Context) error {
	if w.pending.Load() {
		_ = w.tree.change(ctx, func(ctx context.Context, _ bool) error { return w.sendWhole(ctx) }) // else it is made as any, or not
	}
	err := w.settle(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tree.writersMu.Lock()
	used := w.uses > 0
	w.tree.writersMu.Unlock()
	if used || w.dead() != nil || !w.opened {
		return err
	}
	if w.unflushed() || w.isUnnamed() || w.end.Load() != w.room && !w.grows {
		return w.die(errors.Join(errLost, err)) // settle failed
	}
	w.opened = false
	w.open.Store(false)
	if w.file != nil {
		if e := w.file.Close(); e != nil && !passing(e) && err == nil {
			err = e
		}
		w.file = nil
	}
	w.node.changed.Store(time.Now().UnixNano())
	if e := w.giveMode(ctx); err == nil {
		err = e
	}
	w.node.changed.Store(time.Now().UnixNano()) // once more: who asked meanwhile heard of the mode of before
	return err
}

// settle is sync, of a file that may be parked, not opened or gone.
func (w *writer) settle(ctx context.Context) error {
	w.mu.RLock()
	idle := !w.opened || w.dead() != nil || !w.unflushed() && !w.isUnnamed() && (w.grows || w.end.Load() == w.room)
	w.mu.RUnlock()
	if idle {
		return nil
	}
	return w.sync(ctx)
}

// giveMode gives the file the mode that it was to have when nobody writes it any more.
func (w *writer) giveMode(ctx context.Context) error {
	mode := w.mode.Load()
	m, ok := w.tree.source.(Moder)
	if mode == nil || !ok || w.node.isNameless() {
		return nil
	}
	defer w.mode.CompareAndSwap(mode, nil) // whoever looks meanwhile is told of it
	err := m.SetMode(ctx, w.node.path(), w.tree.identities.there(w.id), *mode)
	if blocktree.KindOf(err) == blocktree.NotFound && !fs.NoService(err) { // it was removed: nobody sees its mode
		return nil
	}
	return err
}

// park flushes the file of an identity, if it is open for writing, and closes it at the service, until it is used again: it is about to lose its name.
func (t *tree) park(ctx context.Context, id blocktree.FileID) {
	w := t.writer(id)
	if w == nil {
		return
	}
	if w.settle(ctx) != nil {
		return // it is not lost, or told at its handles
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil && !w.unflushed() {
		_ = w.file.Close() // all is flushed
		w.file = nil
	}
}
