package mount

import (
	"context"
	"errors"
	"slices"
	"sync"

	"blocktree"
	"blocktree/fs"
)

// What was written and is not flushed is kept, and written again by another service when that which answered is lost (docs/design/0075), if nobody else can have written since: the epochs of the file's lease say that.

// kept are the writes of a file that were answered and are not flushed, ascending by number.
type kept struct {
	mu     sync.Mutex
	writes []keptWrite
	bytes  int64       // that they count
	gap    uint64      // the number of the newest that was answered and is not kept
	floor  uint64      // the service's file does not end before that
	busy   []*spanBusy // what is being written: what overlaps is written one after the other, so that the order is known
}

// keptWrite is one; data of nil are zeros.
type keptWrite struct {
	span
	number uint64
	data   []byte
}

// spanBusy is a span until ended is closed.
type spanBusy struct {
	span
	ended chan struct{}
}

// begin waits until nothing that overlaps is being written; what it returns ends this.
func (k *kept) begin(s span) (end func()) {
	b := &spanBusy{s, make(chan struct{})}
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		i := slices.IndexFunc(k.busy, func(o *spanBusy) bool { return o.from < s.to && s.from < o.to })
		if i < 0 {
			break
		}
		ended := k.busy[i].ended
		k.mu.Unlock()
		<-ended
		k.mu.Lock()
	}
	k.busy = append(k.busy, b)
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.busy = slices.DeleteFunc(k.busy, func(o *spanBusy) bool { return o == b })
		close(b.ended)
	}
}

// reaches is where the file ends, which ended at a byte, once all that is kept is written.
func (k *kept) reaches(end uint64) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, x := range k.writes {
		if x.data != nil {
			end = max(end, x.to)
		}
	}
	return end
}

// cut notes that the service's file may end there.
func (k *kept) cut(end uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.floor = min(k.floor, end)
}

// give gives up: what is kept is of no use.
func (k *kept) give() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := len(k.writes); n > 0 {
		k.gap = k.writes[n-1].number
	}
}

// keep counts a write that was answered, and keeps it. Who calls it has the lock.
func (w *writer) keep(s span, data []byte) {
	k := &w.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	number := w.acked.Add(1)
	if w.epoch == 0 {
		k.gap = number
		return
	}
	if s.from == s.to {
		data = nil // nothing, which makes nothing longer
	}
	x := keptWrite{s, number, w.tree.copyOf(data)}
	k.writes = append(k.writes, x)
	k.bytes += x.counts()
	w.tree.kept.Add(x.counts())
}

// counts is how much of the bound it takes.
func (x *keptWrite) counts() int64 { return int64(len(x.data)) + blocktree.MountUnflushedWriteBytes }

// notKept counts a write that was answered.
func (w *writer) notKept() {
	w.kept.mu.Lock()
	defer w.kept.mu.Unlock()
	w.kept.gap = w.acked.Add(1)
}

// letGo is for what is durable up to a number.
func (w *writer) letGo(number uint64) {
	k := &w.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for n < len(k.writes) && k.writes[n].number <= number {
		x := &k.writes[n]
		k.bytes -= x.counts()
		w.tree.kept.Add(-x.counts())
		w.tree.giveBack(x.data)
		*x = keptWrite{}
		n++
	}
	if k.writes = k.writes[n:]; len(k.writes) == 0 {
		k.writes = nil
	}
}

// durable notes that what was answered up to a number is flushed.
func (w *writer) durable(number uint64) {
	for was := w.flushed.Load(); was < number && !w.flushed.CompareAndSwap(was, number); {
		was = w.flushed.Load()
	}
	w.letGo(number)
}

// forget lets go of all.
func (w *writer) forget() {
	w.sent()
	w.letGo(^uint64(0))
	w.kept.mu.Lock()
	defer w.kept.mu.Unlock()
	w.kept.gap, w.kept.floor = 0, 0
}

// endsAt notes where the service was told that the file ends, unless it was cut since there were so many cuts.
func (w *writer) endsAt(end, cuts uint64) {
	w.endMu.Lock()
	defer w.endMu.Unlock()
	if cuts == w.cuts {
		w.kept.mu.Lock()
		w.kept.floor = max(w.kept.floor, end)
		w.kept.mu.Unlock()
	}
}

// keepsAll reports whether all that was answered and is not flushed is kept.
func (w *writer) keepsAll() bool {
	w.kept.mu.Lock()
	defer w.kept.mu.Unlock()
	return w.kept.gap <= w.flushed.Load()
}

// opensUnder notes under which epoch the file was opened. Who calls it has the lock.
func (w *writer) opensUnder(f fs.File) {
	w.epoch = 0
	if e, ok := f.(fs.Epocher); ok && w.grows {
		w.epoch, _ = e.Epochs()
	}
	if !w.unflushed() {
		w.kept.mu.Lock()
		w.kept.floor = f.Info().Length
		w.kept.mu.Unlock()
	}
}

// mayWriteAgain reports whether nobody else can have written the file, or cut it, since what is kept was written: nobody but this mount under the epoch of then, and nobody at all under those between. Who calls it has the lock.
func (w *writer) mayWriteAgain(f fs.File) bool {
	e, ok := f.(fs.Epocher)
	if !ok || !w.keepsAll() {
		return false
	}
	held, written := e.Epochs()
	info := f.Info()
	if w.kept.reaches(0) > info.SizeBytes { // it was made smaller since: to be written it had been made so large
		return false
	}
	w.kept.mu.Lock()
	defer w.kept.mu.Unlock()
	return held != 0 && written <= w.epoch && info.Length >= w.kept.floor
}

// writeAgain writes what is kept. Who calls it has the lock.
func (w *writer) writeAgain(ctx context.Context) error {
	w.kept.mu.Lock()
	all := w.kept.writes
	w.kept.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	f, ok := w.file.(fs.Againer)
	if !ok { // it told under which epoch
		return w.die(errLost)
	}
	defer func() {
		if w.file != nil {
			w.sent()
		}
	}()
	for i := range all {
		err := all[i].write(ctx, f)
		switch {
		case err == nil:
		case gone(err) && blocktree.KindOf(err) != blocktree.Lost || passing(err): // it is opened once more, and all is written once more
			_ = w.file.Close()
			w.file = nil
			return errAgain
		default:
			return w.die(errors.Join(errLost, err))
		}
	}
	return nil
}

// write writes it to a file, if nobody else has come to write that.
func (x *keptWrite) write(ctx context.Context, f fs.Againer) error {
	if x.from == x.to {
		return nil
	}
	if x.data != nil {
		return f.WriteAgain(ctx, x.data, x.from)
	}
	err := f.PunchAgain(ctx, x.from, x.to-x.from)
	if blocktree.KindOf(err) == blocktree.OutOfRange { // it begins behind the end
		return nil
	}
	return err
}

// bound has a file flushed when too much is kept: that of a writer, or that of which most is.
func (t *tree) bound(ctx context.Context, w *writer) {
	if w.kept.size() <= blocktree.MountUnflushedFileBytesMax {
		if t.kept.Load() <= blocktree.MountUnflushedBytesMax {
			return
		}
		t.writersMu.Lock()
		for _, o := range t.writers {
			if o.kept.size() > w.kept.size() {
				w = o
			}
		}
		t.writersMu.Unlock()
	}
	_ = w.flush(ctx) // who uses it is told
}

func (k *kept) size() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bytes
}

// copyOf copies what is to be kept.
func (t *tree) copyOf(p []byte) []byte {
	if len(p) != blocktree.MountWriteBytesMax {
		return append([]byte(nil), p...) // of nothing: nil
	}
	b, ok := t.spare.Get().(*[blocktree.MountWriteBytesMax]byte)
	if !ok {
		b = new([blocktree.MountWriteBytesMax]byte)
	}
	copy(b[:], p)
	return b[:]
}

// giveBack is for what copyOf returned, which nobody looks at any more.
func (t *tree) giveBack(p []byte) {
	if len(p) == blocktree.MountWriteBytesMax {
		t.spare.Put((*[blocktree.MountWriteBytesMax]byte)(p))
	}
}
