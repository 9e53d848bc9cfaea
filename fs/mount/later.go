package mount

import (
	"context"
	"errors"
	"time"

	"blocktree"
)

// A pending file whose last descriptor is closed is sent after the close has returned (docs/design/0086, 6): as nobody can see that it is not there yet without the service being asked, which waits for this mount. Whatever the mount itself is asked for that finds it waits until it is sent.

// errUnsent is in the error of who waited in vain for a file that is closed: it is not lost, and sent when it can be.
var errUnsent = &blocktree.Error{Op: "mount", Kind: blocktree.IO, Err: errors.New("a file that was closed could not be sent yet")}

// unsent is an error where it is one of a file that is not sent yet, and may be at any time: all else of unnamed files is told at their handles.
func unsent(err error) error {
	if errors.Is(err, errUnsent) {
		return err
	}
	return nil
}

// mayClose reports whether the close of a handle may return before the file is made: it is pending, the handle the only one, and there is time to send it before others may make the name, and no other waits to be sent after an error. Where too many are on their way it waits.
func (h *writing) mayClose(ctx context.Context) bool {
	w, t := h.writer, h.node.tree
	if !t.o.CloseLater || !w.pending.Load() || w.dead() != nil || !w.alone() {
		return false
	}
	m := w.made.Load()
	if m == nil || m.filled.left() < blocktree.MountFillMargin || t.failing.Load() > 0 {
		return false
	}
	if w.slot.Load() {
		return true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), blocktree.MountWaitMax)
	defer cancel()
	if !take(ctx, t.later) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.pending.Load() || w.empty || m.filled.left() < blocktree.MountFillMargin || w.slot.Swap(true) { // while it waited; what may have been made empty is not made whole any more
		<-t.later
	}
	return w.pending.Load() && w.slot.Load()
}

// giveSlot gives back the place among those that are closed and not sent, if it has one.
func (w *writer) giveSlot() {
	if w.slot.Swap(false) {
		<-w.tree.later
	}
}

// isLate reports whether the close of a file returned, or may, before it is sent. It looks in the order in which a close goes: a place, who is about to send it, closed.
func (w *writer) isLate() bool { return w.slot.Load() || w.handed.Load() > 0 || w.closed.Load() }

// closeLater gives back a use of a file whose close returned before it was made, which has a place among these.
func (t *tree) closeLater(w *writer) {
	t.senders.Go(func() {
		defer func() { <-t.later }()
		t.sendLater(w)
	})
}

// sendLater sends a pending file that nobody has open any more, again until it is done, refused for good, or the mount has ended.
func (t *tree) sendLater(w *writer) {
	w.mu.Lock()
	w.late.Store(true)
	w.closed.Store(w.alone() && w.pending.Load())
	w.handed.Add(-1)
	m := w.made.Load()
	w.mu.Unlock()
	for pause := pauseMin; w.closed.Load(); pause = min(2*pause, pauseMax) {
		err := t.sendOnce(w)
		if !w.closed.Load() {
			break
		}
		t.failing.Add(1)
		wait := t.paused(pause)
		if t.failing.Add(-1); !wait {
			w.mu.Lock()
			if w.closed.Load() {
				_ = w.die(errors.Join(errLost, err)) // see below
			}
			w.mu.Unlock()
		}
	}
	why := w.dead()
	if err := w.release(context.Background()); why == nil {
		why = err
	}
	if why != nil && m != nil {
		t.fills.loses(m.filled.id)
	}
	t.untold(w, why)
}

// paused is false where the mount ended long ago.
func (t *tree) paused(pause time.Duration) bool {
	select {
	case <-time.After(pause):
		return true
	case <-t.over.Done():
		return false
	}
}

// sendClosed has all sent that was closed until now: who changes a name, or has something be durable, goes on from there.
func (t *tree) sendClosed(ctx context.Context) error {
	return unsent(t.nameAll(ctx, func(w *writer, _ *making) bool { return w.isLate() }))
}

// sendOnce tries to, in a place of its own, so that there are others for what programs ask.
func (t *tree) sendOnce(w *writer) error {
	ctx, cancel := context.WithTimeout(t.over, blocktree.MountWaitMax)
	defer cancel()
	if !take(ctx, t.sends) {
		return gaveUp(ctx)
	}
	defer func() { <-t.sends }()
	if !take(ctx, t.requests) {
		return gaveUp(ctx)
	}
	defer func() { <-t.requests }()
	return w.sendWhole(ctx)
}

// awaitSent has a file sent that is closed, or about to be. done is false where there is more to do than that.
func (w *writer) awaitSent(ctx context.Context) (done bool, err error) {
	err = w.tree.change(ctx, func(ctx context.Context, _ bool) error { return w.sendWhole(ctx) })
	switch {
	case w.dead() != nil:
		return true, w.dead()
	case err != nil && w.pending.Load():
		return true, errors.Join(errUnsent, err)
	}
	return !w.unflushed() && !w.isUnnamed(), nil
}
