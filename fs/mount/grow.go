package mount

import (
	"context"
	"errors"
	"math"
	"time"

	"blocktree"
	"blocktree/fs"
)

// How a file becomes longer or shorter at a service. One of the version before cannot do it to a file that is open: it is closed, changed by its name, and opened again. Who calls what has no lock of its own has the writer's.

// truncater is what an open file may be able to do (docs/design/0050).
type truncater interface {
	Truncate(ctx context.Context, bytes uint64) error
}

// growBytesMin is the least room that a file is given when it grows: it costs nothing until it is written.
const growBytesMin = 64 << 10

// whole rounds up to sectors.
func (w *writer) whole(bytes uint64) uint64 {
	s := uint64(w.file.Info().SectorBytes)
	return max(1, (bytes+s-1)/s) * s
}

// grow gives the file room up to need at least.
func (w *writer) grow(ctx context.Context, need uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	end, old, zeros := w.end.Load(), w.size, w.zeros
	if w.dead() != nil || w.file == nil || w.grows || need <= w.room && (zeros || need <= end) {
		return w.dead()
	}
	if need <= w.room {
		return w.clearBehind(ctx, end, w.room)
	}
	want := w.whole(min(max(need, 2*w.room, growBytesMin), need+blocktree.MountGrowBytesMax, blocktree.FileBytesMax))
	err := w.anew(ctx, want)
	if k := blocktree.KindOf(err); (k == blocktree.NoSpace || k == blocktree.TooLarge) && w.file != nil && w.whole(need) < want {
		err = w.anew(ctx, w.whole(need))
	}
	if err != nil || zeros {
		return err
	}
	return w.clearBehind(ctx, end, min(old, w.room)) // what is there may be of before somebody made it shorter
}

// clearBehind makes what is behind the end zeros.
func (w *writer) clearBehind(ctx context.Context, end, to uint64) error {
	if end < to {
		if err := w.clear(ctx, end, to); err != nil {
			return w.goneWhile(ctx, err)
		}
	}
	w.zeros = true
	return nil
}

// clear makes a part of the file zeros. It counts as a write.
func (w *writer) clear(ctx context.Context, from, to uint64) error {
	p, ok := w.file.(fs.Puncher)
	err := error(blocktree.E("mount", blocktree.Unsupported, nil))
	if ok {
		err = p.Punch(ctx, from, to-from)
	}
	for blocktree.KindOf(err) == blocktree.Unsupported || err == nil && !ok && from < to {
		n := min(to-from, blocktree.MountWriteBytesMax)
		err, ok = w.file.WriteAt(ctx, make([]byte, n), from), false
		from += n
	}
	if err == nil {
		w.notKept()
	}
	return err
}

// anew flushes and closes the file, gives it another length by its name, and opens it again.
func (w *writer) anew(ctx context.Context, length uint64) error {
	if err := w.flushOnce(ctx, w.file); err != nil {
		if blocktree.KindOf(err) == blocktree.Unavailable {
			return err // it is asked once more
		}
		return w.die(errLost)
	}
	size := w.whole(length)
	_ = w.file.Close() // all is flushed
	w.file = nil
	err := w.give(ctx, length, size)
	if w.dead() != nil {
		return w.dead()
	}
	if e := w.reopen(ctx); e != nil && err == nil {
		err = e // it is tried again by who needs it
	}
	return err
}

// give has the cluster know another length, and size.
func (w *writer) give(ctx context.Context, length, size uint64) error {
	info, err := w.same(ctx)
	if err != nil {
		return err
	}
	path := w.node.path()
	if size > info.SizeBytes || size < info.SizeBytes && length < w.room {
		w.sized = size // it may be as long then
		if err := w.tree.source.Resize(ctx, path, size); err != nil {
			return err
		}
	}
	w.asked = length
	return w.tree.source.SetLength(ctx, path, length)
}

// same describes what has the name, which must be the file as it was left.
func (w *writer) same(ctx context.Context) (fs.Info, error) {
	info, err := w.tree.statOnce(ctx, w.node.path())
	switch {
	case err != nil && (blocktree.KindOf(err) != blocktree.NotFound || fs.NoService(err)):
		return info, err
	case err == nil && info.ID == w.id && (w.expects(info.Length)):
		return info, nil
	}
	return info, w.die(errOther)
}

// tell has the service know where the file ends. A file that grows by itself was told by its flush.
func (w *writer) tell(ctx context.Context) error {
	end := w.end.Load()
	if w.dead() != nil || w.grows || end == w.room || !w.opened {
		return w.dead()
	}
	if _, err := w.same(ctx); err != nil {
		return err
	}
	w.asked = end
	err := w.tree.source.SetLength(ctx, w.node.path(), end)
	if err == nil {
		w.room = end
	}
	return err
}

// truncate has the file end at a place. What is behind is gone, and what is new are zeros.
func (w *writer) truncate(ctx context.Context, length uint64) error {
	if length > blocktree.FileBytesMax {
		return blocktree.E("mount", blocktree.TooLarge, nil)
	}
	done := false
	defer w.kept.begin(span{0, math.MaxUint64})()
	err := w.do(ctx, 0, func(ctx context.Context, f fs.File) error {
		t, ok := f.(truncater)
		if !w.grows || !ok {
			return nil
		}
		at := w.acked.Load()
		w.kept.cut(length)
		err := t.Truncate(ctx, length)
		if err == nil {
			w.durable(at) // what was written before is durable, and what was behind is gone
			w.ends(length)
			w.named()
			done = true
		}
		return err
	})
	if blocktree.KindOf(err) == blocktree.Unsupported && errors.Is(w.cannotGrow(err), errAgain) {
		err = nil
	}
	switch {
	case err != nil || done:
	case length > w.end.Load():
		err = w.do(ctx, length, func(context.Context, fs.File) error {
			w.end.Store(length)
			return nil
		})
	case length < w.end.Load():
		err = w.tree.change(ctx, func(ctx context.Context, _ bool) error { return w.cut(ctx, length) })
	}
	if err == nil {
		w.wrote.Store(time.Now().UnixNano())
	}
	return err
}

// lengthen has the file end at a place at least. Where others may write it, too, the service says where it ends, so that nobody's bytes are cut.
func (w *writer) lengthen(ctx context.Context, length uint64) error {
	done := false
	err := w.do(ctx, 0, func(ctx context.Context, f fs.File) error {
		a, ok := f.(fs.Allocater)
		if !w.grows || !ok {
			return nil
		}
		err := a.Allocate(ctx, 0, length)
		if err == nil {
			w.reaches(length)
			w.named()
			done = true
		}
		return err
	})
	if blocktree.KindOf(err) == blocktree.Unsupported && errors.Is(w.cannotGrow(err), errAgain) {
		err = nil
	}
	if err != nil || done || length <= w.end.Load() {
		return err
	}
	return w.truncate(ctx, length)
}

// cut makes the file shorter: the sectors behind are given back, and the rest of the last one is cleared.
func (w *writer) cut(ctx context.Context, length uint64) error {
	if _, err := w.ready(ctx, 0); err != nil {
		return err
	}
	w.mu.RUnlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return errAgain
	}
	whole := w.whole(length)
	if rest := min(whole, w.room); rest > length {
		if err := w.file.WriteAt(ctx, make([]byte, rest-length), length); err != nil {
			return w.goneWhile(ctx, err)
		}
		w.notKept()
	}
	zeros := w.zeros || w.room >= whole
	err := w.anew(ctx, length)
	if err == nil {
		w.zeros = zeros
	}
	if err != nil && w.room > length && w.asked != length { // nothing was asked for
		return err
	}
	w.end.Store(min(w.end.Load(), max(w.room, length)))
	if err == nil {
		w.end.Store(length)
	}
	return err
}

// goneWhile is the error of something that was done with the lock: what the file at the service has come to is found by who tries again.
func (w *writer) goneWhile(ctx context.Context, err error) error {
	switch blocktree.KindOf(err) {
	case blocktree.Undeliverable, blocktree.Closed, blocktree.Fenced, blocktree.Lost:
		if w.unflushed() {
			return w.die(errLost)
		}
		_ = w.file.Close() // nothing that was answered is missing
		w.file = nil
		return errAgain
	}
	return err
}

// hear notes where the service says that the file ends: others may have made it longer by the same service.
func (w *writer) hear(ctx context.Context) {
	_ = w.do(ctx, 0, func(ctx context.Context, f fs.File) error { // it is told to who uses it
		s, ok := f.(fs.Stater)
		if !ok || !w.grows {
			return nil
		}
		w.endMu.Lock()
		cuts := w.cuts
		w.endMu.Unlock()
		info, err := s.Stat(ctx)
		w.endMu.Lock()
		defer w.endMu.Unlock()
		if err == nil && cuts == w.cuts { // else that may be of before it was cut here
			w.reaches(info.Length)
		}
		if blocktree.KindOf(err) == blocktree.Unsupported { // a service of a version before
			return nil
		}
		return err
	})
}

// hear has the writer of a file, if it has one here, hear where it ends.
func (t *tree) hear(ctx context.Context, id blocktree.FileID) {
	if w := t.writer(id); w != nil && w.isOpen() {
		w.hear(ctx)
	}
}
