package mount

import (
	"context"
	"io"

	"blocktree"
	"blocktree/fs"
)

// opened is an actor, until its service is gone.
type opened struct {
	fs.File
	fake    *fake
	path    blocktree.Path
	info    fs.Info
	gone    error     // with the fake's lock
	file    *fakeFile // of a writer
	kept    *fakeFile // of a reader: what it opened, which may have no name any more
	written []byte    // likewise: what is flushed, and what is not
	epoch   blocktree.Epoch
	closed  bool
	hidden  bool // it has no name yet
}

func (f *opened) Info() fs.Info { return f.info }

func (f *opened) ReadAt(_ context.Context, p []byte, off uint64) (int, error) {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	if err := f.down(); err != nil {
		return 0, err
	}
	data := f.written
	if f.file == nil {
		x := f.fake.files[f.path]
		if f.fake.keeps {
			x = f.kept
		}
		data = x.data[:min(uint64(len(x.data)), x.info.Length)]
	}
	if f.fake.unheard || f.file != nil && !f.fake.grows {
		data = data[:min(uint64(len(data)), f.info.Length)]
	}
	if off > uint64(len(data)) {
		return 0, blocktree.E("fake", blocktree.OutOfRange, nil)
	}
	if n := copy(p, data[off:]); n < len(p) {
		return n, io.EOF
	}
	return len(p), nil
}

// down is why the actor does not answer.
func (f *opened) down() error {
	if f.gone == nil {
		f.gone = f.fake.down
	}
	if f.closed {
		return blocktree.E("fake", blocktree.Undeliverable, nil)
	}
	return f.gone
}

func (f *opened) WriteAt(_ context.Context, p []byte, off uint64) error {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	if err := f.down(); err != nil {
		return err
	}
	f.fake.log = append(f.fake.log, "write")
	end := off + uint64(len(p))
	if !f.fake.grows && end > f.info.Length {
		return blocktree.E("fake", blocktree.OutOfRange, nil)
	}
	if f.fake.full > 0 && end > f.fake.full {
		return blocktree.E("fake", blocktree.NoSpace, nil)
	}
	f.file.wrote = f.epoch
	f.reach(end)
	copy(f.written[off:], p)
	return nil
}

// reach adds zeros, and has the file be so large.
func (f *opened) reach(end uint64) {
	f.file.info.SizeBytes = max(f.file.info.SizeBytes, end)
	if n := uint64(len(f.written)); n < end {
		f.written = append(f.written, make([]byte, end-n)...)
	}
}

func (f *opened) Punch(_ context.Context, off, n uint64) error {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	if err := f.down(); err != nil {
		return err
	}
	f.file.wrote = f.epoch
	for i := off; i < min(off+n, uint64(len(f.written))); i++ {
		f.written[i] = 0
	}
	return nil
}

func (f *opened) Flush(context.Context) error {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	if err := f.down(); err != nil {
		return err
	}
	f.fake.log = append(f.fake.log, "flush")
	if f.fake.stuck != nil {
		return f.fake.stuck
	}
	if err := f.name(); err != nil {
		return err
	}
	f.keep()
	return nil
}

// name gives it its name, if it has none yet.
func (f *opened) name() error {
	if !f.hidden {
		return nil
	}
	if f.fake.refuses != nil {
		return f.fake.refuses
	}
	if _, ok := f.fake.files[f.path]; ok {
		return blocktree.E("fake", blocktree.Exists, nil)
	}
	f.hidden = false
	f.fake.files[f.path] = f.file
	return nil
}

// keep makes what was written what everybody reads.
func (f *opened) keep() {
	f.file.data = append([]byte(nil), f.written...)
	if f.fake.grows {
		f.file.info.Length = uint64(len(f.written))
	}
	if f.fake.now != 0 {
		f.file.info.Modified = f.fake.now
	}
}

func (f *opened) Close() error {
	if f.fake.closing != nil {
		f.fake.closing()
	}
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	f.fake.log = append(f.fake.log, "close")
	if !f.closed {
		f.fake.closed++
	}
	f.closed = true
	f.fake.unlock(f)
	if f.gone == nil {
		if err := f.name(); err != nil {
			return err
		}
	}
	if f.file != nil && f.gone == nil && f.fake.leases[f.info.ID] == f {
		delete(f.fake.leases, f.info.ID)
	}
	return nil
}

// growing is a file of a service that can do more.
type growing struct{ *opened }

func (f *growing) Truncate(_ context.Context, bytes uint64) error {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	if err := f.down(); err != nil {
		return err
	}
	if err := f.name(); err != nil {
		return err
	}
	f.file.wrote = f.epoch
	f.reach(bytes)
	f.written = f.written[:bytes]
	f.keep()
	return nil
}

func (f *growing) Append(ctx context.Context, p []byte) (uint64, error) {
	f.fake.mu.Lock()
	at := uint64(len(f.written))
	f.fake.mu.Unlock()
	if err := f.WriteAt(ctx, p, at); err != nil || !f.fake.cut {
		return at, err
	}
	f.fake.cut = false
	if err := f.Flush(ctx); err != nil {
		return at, err
	}
	f.fake.kill(false)
	return 0, blocktree.E("fake", blocktree.Undeliverable, nil)
}

// Finish is Flush and Close.
func (f *growing) Finish(context.Context) error {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	if err := f.down(); err != nil {
		return err
	}
	f.fake.log = append(f.fake.log, "finish")
	if err := f.name(); err != nil {
		return err
	}
	if f.fake.stuck == nil {
		f.keep()
		delete(f.fake.leases, f.info.ID)
	}
	f.fake.closed++
	f.closed = true
	return f.fake.stuck
}

func (f *growing) Allocate(_ context.Context, off, n uint64) error {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	if err := f.down(); err != nil {
		return err
	}
	if err := f.name(); err != nil {
		return err
	}
	f.reach(off + n)
	f.keep()
	return nil
}

func (f *growing) Punch(ctx context.Context, off, n uint64) error {
	f.fake.mu.Lock()
	behind := off > uint64(len(f.written))
	f.fake.mu.Unlock()
	if behind {
		return blocktree.E("fake", blocktree.OutOfRange, nil)
	}
	return f.opened.Punch(ctx, off, n)
}

func (f *growing) Stat(context.Context) (fs.Info, error) {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	info := f.file.info
	info.Length = uint64(len(f.written))
	return info, f.down()
}

// reading is a file, open to read, of a service that keeps what is removed.
type reading struct{ *opened }

func (f *reading) Stat(context.Context) (fs.Info, error) {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	return f.kept.info, f.down()
}
