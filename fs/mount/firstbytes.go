package mount

import (
	"context"
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// What is written first to a file that was made just now is held here, until something is asked of the open file, or the file is named: most often its finish, which carries it (docs/design/0080). All of it is kept meanwhile, as what was answered and is not flushed.

// hold holds what is written, if it follows what is held already. False: it is to be sent.
func (w *writer) hold(p []byte, off uint64) bool {
	end := off + uint64(len(p))
	if !w.isUnnamed() || len(p) == 0 || off > blocktree.MountHeldBytesMax || end > blocktree.MountHeldBytesMax {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.file.(fs.WriteFinisher)
	held, pending := w.held.Load(), w.pending.Load()
	if !ok && !pending || w.tried && pending || !w.opened || w.dead() != nil || w.epoch == 0 || !w.isUnnamed() || off != held || off != w.end.Load() || held == 0 && w.acked.Load() != 0 {
		return false
	}
	w.written(off, p)
	w.held.Store(end)
	w.timed = false
	return true
}

// send sends what is held, if anything is.
func (w *writer) send(ctx context.Context) error {
	if w.held.Load() == 0 {
		return nil
	}
	return w.tree.change(ctx, func(ctx context.Context, _ bool) error { return w.sendOnce(ctx) })
}

// sendOnce sends what is held, to what is opened anew if that must be.
func (w *writer) sendOnce(ctx context.Context) error {
	w.mu.Lock()
	if w.held.Load() > 0 && w.dead() == nil && w.opened && w.file == nil {
		w.mu.Unlock()
		return w.renew(ctx, nil) // which writes again what is kept
	}
	defer w.mu.Unlock()
	if w.held.Load() == 0 || w.dead() != nil || !w.opened {
		return w.dead()
	}
	err := w.writeHeld(ctx)
	switch {
	case gone(err) && blocktree.KindOf(err) != blocktree.Lost:
		w.tree.broken.Store(true)
		_ = w.file.Close() // all is kept
		w.file = nil
		return errAgain
	case err == nil || passing(err):
		return err
	}
	return w.die(w.lossOf(err))
}

// writeHeld writes what is held, if nobody else has come to write the file. Who calls it has the lock.
func (w *writer) writeHeld(ctx context.Context) error {
	f, ok := w.file.(fs.Againer)
	if !ok { // it told under which epoch
		return errLost
	}
	err := f.WriteAgain(ctx, w.heldBytes(), 0)
	if err == nil {
		w.sent()
	}
	return err
}

// heldBytes is what is held: all that is kept. Who calls it has the lock.
func (w *writer) heldBytes() []byte {
	k := &w.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]byte, 0, w.held.Load())
	for i := range k.writes {
		all = append(all, k.writes[i].data...)
	}
	return all
}

// sent notes that nothing is held any more. Who calls it has the lock.
func (w *writer) sent() { w.held.Store(0) }

// lossOf is why a file is of no use any more after an error: that of a write which was held is told as what it is. Who calls it has the lock.
func (w *writer) lossOf(err error) error {
	if w.held.Load() > 0 {
		return errors.Join(err, errLost)
	}
	return errors.Join(errLost, err)
}

// finishOnce finishes the file, with what is held. Who calls it has the lock.
func (w *writer) finishOnce(ctx context.Context, f fs.Finisher) error {
	if w.held.Load() == 0 {
		return f.Finish(ctx)
	}
	x, ok := f.(fs.WriteFinisher)
	if !ok {
		return blocktree.E("mount", blocktree.Unsupported, nil)
	}
	err := x.WriteFinish(ctx, w.heldBytes(), 0)
	if blocktree.KindOf(err) == blocktree.Unsupported { // a service of a version before, or the file has no name
		if err = w.writeHeld(ctx); err == nil {
			err = f.Finish(ctx)
		}
	}
	return err
}

// describeHeld writes the attributes of a file of which something is held, and asks nobody; false: nothing is.
func (n *node) describeHeld(w *writer, out *fuse.AttrOut) (syscall.Errno, bool) {
	w.mu.RLock()
	f := w.file
	w.mu.RUnlock()
	if f == nil || w.held.Load() == 0 {
		return 0, false
	}
	info := n.tree.infoOf(f)
	n.tree.written(&info)
	return n.tree.fill(&info, &out.Attr), true
}
