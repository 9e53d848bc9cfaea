package mount

import (
	"context"
	"errors"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// A pending file is one that the mount has made, and no service has heard of (docs/design/0086): it is open, and has no file at a service, as one whose service died before its first flush. What is written to it is held; its mode and times are set here. By its close, or fsync, it is made whole, by one request; before all else that
// is asked of it, or finds it, it is made as after a failover (remake).

// pendingEpoch is the epoch under which a spare is held: nobody has written before.
const pendingEpoch = 1

// wholeWaitMax is how long what is closed waits for a service that makes it whole.
const wholeWaitMax = time.Second

// makePending makes an empty file here, open for writing, in a directory that the mount fills. errElse: it is made as any.
func (n *node) makePending(ctx context.Context, name string, path blocktree.Path, mode, flags uint32, out *fuse.EntryOut) (*gofs.Inode, *writing, syscall.Errno) {
	t := n.tree
	f := t.fills.of(n.id)
	if f == nil || mode&specialBits != 0 || mode&ownerBits != ownerBits || flags&syscall.O_ACCMODE == syscall.O_RDONLY || flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0 {
		return nil, nil, errElse
	}
	by := processOf(ctx)
	t.fills.ready(ctx, f)
	f.busy.RLock() // nothing below asks anybody
	defer f.busy.RUnlock()
	if f.path != n.path() {
		return nil, nil, errElse
	}
	if !t.enter() {
		return nil, nil, syscall.ENFILE
	}
	id, ok := t.fills.take(f, name)
	if !ok {
		t.leave()
		return nil, nil, errElse
	}
	m := &making{path: path, options: t.making(mode), filled: f}
	m.options.Spare, m.options.Dir = id, t.identities.there(n.id)
	now := time.Now().UnixNano()
	info := fs.Info{ID: t.identities.here(id), Mode: m.options.Mode, Created: now, Modified: now, Changed: now, SizeBytes: m.options.SizeBytes, SectorBytes: m.options.SectorBytes}
	i, e := n.child(ctx, &info, out)
	if e != 0 {
		t.leave()
		t.fills.given()
		return nil, nil, e
	}
	c := i.Operations().(*node)
	c.at.Store(&path)
	defer c.at.Store(nil)
	m.node = c
	w := &writer{tree: t, id: c.id, node: c, uses: 1, opened: true, grows: true, zeros: true, size: info.SizeBytes, epoch: pendingEpoch}
	w.wrote.Store(now)
	w.open.Store(true)
	w.pending.Store(true)
	t.writersMu.Lock()
	t.writers[c.id] = w // no other file has a spare's identity
	t.writersMu.Unlock()
	w.wasMade(m)
	c.told().Store(0)
	return i, &writing{node: c, writer: w, append: flags&syscall.O_APPEND != 0, by: by, fresh: true}, 0
}

// unpend notes that it is not pending any more. Who calls it has the lock.
func (w *writer) unpend() {
	if !w.pending.Swap(false) {
		return
	}
	w.closed.Store(false)
	w.tree.fills.given()
	w.giveSlot()
}

// makeNow makes a pending file, and opens it at its service. Who calls it has the lock.
func (w *writer) makeNow(ctx context.Context) error {
	if w.timed || w.tried && !w.empty || w.isLate() { // with the time that was set, as was asked for before, or as a whole
		if err := w.makeWhole(ctx); err != nil || !w.parked {
			return err
		}
		return w.unpark(ctx)
	}
	return w.makeEmpty(ctx, true)
}

// makeEmpty makes a pending file, opens it at its service, and writes what is held. Where the service does not have its spare it is made whole, if it may be, and opened, and else made with whatever identity. Who calls it has the lock.
func (w *writer) makeEmpty(ctx context.Context, whole bool) error {
	f, err := w.remake(ctx, w.made.Load())
	if errors.Is(err, fs.ErrOtherSpare) && whole {
		if w.empty { // else what asked for it whole would be told that it is done
			w.asksWith(blocktree.FileID{})
		}
		if err := w.makeWhole(ctx); err != nil || !w.parked {
			return err
		}
		return w.unpark(ctx)
	}
	if errors.Is(err, fs.ErrOtherSpare) {
		w.asksWith(blocktree.FileID{})
		f, err = w.remake(ctx, w.made.Load())
	}
	if blocktree.KindOf(err) == blocktree.Exists {
		if err := w.isThere(ctx, w.made.Load(), err); err != nil || !w.parked {
			return err
		}
		return w.unpark(ctx)
	}
	if err != nil {
		return err
	}
	w.unpend()
	w.reopened(f)
	return w.writeAgain(ctx)
}

// triedAs is an identity that a service was asked to make a pending file with.
type triedAs struct {
	id    blocktree.FileID
	empty bool // maybe without what is held
}

// sparesAskedMax bounds the spares that a service may name for a file, one after the other, and identitiesAskedMax the identities that are remembered of a file: as many services did not answer when they were asked for it.
const (
	sparesAskedMax     = 4
	identitiesAskedMax = 64
)

// asksWith has a pending file be asked for with another identity from now on; zero: with none. Who calls it has the lock.
func (w *writer) asksWith(id blocktree.FileID) {
	was := w.made.Load()
	m := *was
	if m.options.Spare != (blocktree.FileID{}) {
		w.before = append(w.before[max(0, len(w.before)+1-identitiesAskedMax):], triedAs{m.options.Spare, w.empty})
	}
	m.options.Spare, w.empty = id, false
	w.made.CompareAndSwap(was, &m)
}

// isOurs reports whether an identity is one that the file was asked for with, and how. Who calls it has the lock.
func (w *writer) isOurs(m *making, id blocktree.FileID) (a triedAs, ok bool) {
	for _, a := range append(w.before, triedAs{m.options.Spare, w.empty}) {
		if a.id == id {
			return a, true
		}
	}
	return a, false
}

// sendWhole has a pending file made whole, if it is one.
func (w *writer) sendWhole(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead() != nil || !w.pending.Load() {
		return w.dead()
	}
	return w.makeWhole(ctx)
}

// makeWhole has a pending file made, written and closed by one request. It is opened anew by who uses it next. What may have been made empty is opened, and written: a service takes it for what was asked before. Who calls it has the lock.
func (w *writer) makeWhole(ctx context.Context) error {
	if w.empty {
		return w.makeTimed(ctx)
	}
	x := w.tree.fills
	for range sparesAskedMax {
		m := w.made.Load()
		whole := fs.Whole{Spare: m.options.Spare, Wrote: min(w.wrote.Load(), time.Now().UnixNano()), Content: w.heldBytes()}
		began := x.clock()
		info, got, err := x.filler.MakeWhole(ctx, m.path, m.options, whole)
		other := errors.Is(err, fs.ErrOtherSpare) && len(got.Spares) > 0
		if !other && err != nil {
			return w.notMade(ctx, m, err)
		}
		if other {
			w.asksWith(got.Spares[0])
			got.Spares = got.Spares[1:]
		}
		x.mu.Lock()
		x.hear(m.filled, began, got)
		x.mu.Unlock()
		if !other {
			return w.isWhole(info.ID)
		}
	}
	return w.makeTimed(ctx) // it has none that can be this file
}

// notMade is for a pending file that was not made whole, as far as is known. Who calls it has the lock.
func (w *writer) notMade(ctx context.Context, m *making, err error) error {
	switch k := blocktree.KindOf(err); {
	case k == blocktree.Unsupported: // a service of a version before, or there is no spare
		return w.makeTimed(ctx)
	case k == blocktree.Exists:
		return w.isThere(ctx, m, err)
	case passing(err):
		w.tried = w.tried || !fs.NoService(err)
		w.tree.fills.breaks()
		return err
	case k == blocktree.NoSpace && w.closed.Load() && w.isFull():
		return w.die(lossAs(err))
	case k == blocktree.Busy:
		return blocktree.E("mount", blocktree.Unavailable, err)
	case w.closed.Load() && !forGood(err):
		w.tried = true // nothing says that it was not done
		return blocktree.E("mount", blocktree.Unavailable, err)
	}
	return w.die(lossAs(err))
}

// isFull reports whether a closed file is refused for want of room, and was so MountWaitMax ago. Who calls it has the lock.
func (w *writer) isFull() bool {
	if w.full.IsZero() {
		w.full = time.Now()
	}
	return time.Since(w.full) >= blocktree.MountWaitMax
}

// isDenied reports whether nobody makes it whole, nor did wholeWaitMax ago: where there was just no spare that passes. What is closed is made otherwise only then, as a mount that is killed in the middle of that leaves it empty. Who calls it has the lock.
func (w *writer) isDenied() bool {
	if w.denied.IsZero() {
		w.denied = time.Now()
	}
	return time.Since(w.denied) >= wholeWaitMax
}

// makeTimed is makeEmpty of what may have been given a time, which it has then, if that can be set. Who calls it has the lock.
func (w *writer) makeTimed(ctx context.Context) error {
	if w.isLate() && !w.empty && !w.isDenied() {
		return blocktree.E("mount", blocktree.Unavailable, errors.New("no service makes it whole just now"))
	}
	at, timed := w.wrote.Load(), w.timed
	err := w.makeEmpty(ctx, w.empty)
	if t, ok := w.tree.source.(Timer); ok && timed && err == nil && w.flushOnce(ctx, w.file) == nil {
		_ = w.node.byFile(func(f fs.OfFile) error { return f.SetTimes(ctx, at) }, func() error { return t.SetTimes(ctx, w.node.path(), at) }) // it is that of the write then
	}
	return err
}

// forGood reports whether an error will be the same whenever it is asked again, as far as anybody knows.
func forGood(err error) bool {
	switch blocktree.KindOf(err) {
	case blocktree.NotFound, blocktree.Permission, blocktree.Unauthenticated, blocktree.Invalid, blocktree.TooLarge, blocktree.ReadOnly, blocktree.Elsewhere, blocktree.CrossDevice:
		return true
	}
	return false
}

// lossAs is why a file is lost that could not be made: what `open` would have told is told as what it is.
func lossAs(err error) error {
	switch blocktree.KindOf(err) {
	case blocktree.NoSpace, blocktree.Permission, blocktree.Unauthenticated:
		return errors.Join(err, errLost)
	}
	return errors.Join(errLost, err)
}

// isWhole notes that a pending file is made, written and closed, and what it is at the cluster. Who calls it has the lock.
func (w *writer) isWhole(id blocktree.FileID) error {
	if w.tree.identities.here(id) != w.id {
		w.tree.identities.swap(w.id, id) // where there are too many it is another file for who uses it next
	}
	w.sent()
	w.durable(w.acked.Load())
	w.named()
	w.unpend()
	w.parked, w.shared = true, true
	w.open.Store(false)
	w.node.changed.Store(time.Now().UnixNano())
	return nil
}

// isThere is for a pending file whose name is there: by this mount, whose earlier try was not answered, or by somebody else. Who calls it has the lock.
func (w *writer) isThere(ctx context.Context, m *making, why error) error {
	info, err := w.tree.statOnce(ctx, m.path)
	switch {
	case passing(err):
		return err
	case blocktree.KindOf(err) == blocktree.NotFound: // it was, and is asked for anew
		return errAgain
	case err != nil:
		return w.die(errors.Join(errLost, why))
	}
	id := w.tree.identities.there(info.ID)
	was, ours := w.isOurs(m, id)
	switch {
	case !ours:
		return w.die(errors.Join(errLost, why))
	case was.empty: // it is opened, and written
		if !w.tree.identities.swap(w.id, id) {
			return w.die(errLost)
		}
		w.unpend()
		return errAgain
	}
	return w.isWhole(id) // whoever wrote it since
}

// finishWhole is finish of a pending file. done is false where that is to be flushed, and finished, as any.
func (w *writer) finishWhole(ctx context.Context) (done bool, err error) {
	if !w.unflushed() || !w.alone() || w.leaving.Load() > 0 {
		return false, nil
	}
	err = w.tree.change(ctx, func(ctx context.Context, _ bool) error { return w.sendWhole(ctx) })
	if err != nil { // it was given up, or is lost
		w.mu.Lock()
		defer w.mu.Unlock()
		return true, w.die(errors.Join(errLost, err))
	}
	return !w.unflushed() && !w.isUnnamed(), nil
}

// alone reports whether one uses it.
func (w *writer) alone() bool {
	w.tree.writersMu.Lock()
	defer w.tree.writersMu.Unlock()
	return w.uses == 1
}

// pendingOf is the writer of the node's file if that is pending.
func (n *node) pendingOf() *writer {
	if n.tree.unnamed.count.Load() == 0 {
		return nil
	}
	if w := n.tree.writer(n.id); w != nil && w.pending.Load() {
		return w
	}
	return nil
}

// describePending writes the attributes of the node's file if that is pending, and asks nobody.
func (n *node) describePending(out *fuse.AttrOut) bool {
	w := n.pendingOf()
	if w == nil {
		return false
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	m := w.made.Load()
	if m == nil || !w.pending.Load() || w.dead() != nil {
		return false
	}
	at := w.wrote.Load()
	info := fs.Info{ID: w.id, Mode: m.options.Mode, Modified: at, Changed: max(at, w.changed.Load()), Length: w.end.Load(), SizeBytes: w.size, SectorBytes: m.options.SectorBytes}
	return n.tree.fill(&info, &out.Attr) == 0
}

// inMemory does something to the node's file if that is pending, and was asked for of no service: else its options and times may be those of then. False: it is done as to any.
func (n *node) inMemory(do func(w *writer, m *making)) bool {
	w := n.pendingOf()
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.made.Load()
	if was == nil || !w.pending.Load() || w.tried || w.dead() != nil {
		return false
	}
	m := *was
	do(w, &m)
	w.changed.Store(time.Now().UnixNano())
	return w.made.CompareAndSwap(was, &m)
}

// setModePending is setMode of a pending file whose owner goes on to read and write it.
func (n *node) setModePending(mode uint32) bool {
	return mode&ownerBits == ownerBits && n.inMemory(func(_ *writer, m *making) { m.options.Mode = mode })
}

// clockMayBeOff is how far the mount's clock may be ahead of the cluster's, which takes no later time for that of a write.
const clockMayBeOff = time.Minute

// setTimePending sets the time of the last write of a pending file, in nanoseconds since 1970, if that is earlier than now for the cluster, too, and not 0, which says in a request that there is none.
func (n *node) setTimePending(modified int64) bool {
	now := time.Now()
	if modified == fs.TimeNow {
		modified = now.UnixNano()
	} else if modified <= 0 || modified > now.Add(-clockMayBeOff).UnixNano() {
		return false
	}
	return n.inMemory(func(w *writer, _ *making) {
		w.wrote.Store(modified)
		w.timed = true
	})
}
