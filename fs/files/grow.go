package files

import (
	"context"

	"blocktree"
	"blocktree/fs"
)

// How a file is opened, becomes larger or shorter, and is closed. Who calls these has the lock, but open's first caller, who has the file alone.

// growBytesMin is the least room that a file is given when it grows: it costs nothing until it is written.
const growBytesMin = 64 << 10

// first opens the file, or directory, for the first time. What is only read is looked at before: a service logs that it refused to open a directory as a file.
func (o *opened) first(ctx context.Context) error {
	if !o.write {
		info, err := o.tree.noLink(ctx, o.path)
		if err != nil || info.Dir {
			o.info = info
			return err
		}
	}
	return o.open(ctx)
}

// open opens the file, again if it was open: it must be the same then.
func (o *opened) open(ctx context.Context) error {
	raw, err := o.tree.door.Open(ctx, o.path, fs.OpenOptions{Write: o.write})
	if err != nil {
		return err
	}
	info := raw.Info()
	if o.info.ID != (blocktree.FileID{}) && o.info.ID != info.ID {
		_ = raw.Close() // nothing was done with it
		return o.another()
	}
	if o.info.ID == (blocktree.FileID{}) { // for the first time
		o.end.Store(info.Length)
		o.asked, o.sized = info.Length, info.Length
	}
	o.end.Store(min(o.end.Load(), info.Length)) // more only where making it longer failed
	o.raw, o.info, o.room = raw, info, info.Length
	return nil
}

// another is the error of a name that is another file's by now.
func (o *opened) another() error {
	return &blocktree.Error{Op: "files", Path: o.path.Short(), Kind: blocktree.NotFound, Err: text("the name is not that of the open file any more"), Hint: "a file that is renamed while it is written is opened anew"}
}

// grow gives the file room up to an end at least.
func (f *File) grow(end uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end <= f.room || f.closed || f.stuck != nil {
		return f.usable("write")
	}
	return f.roomFor(end)
}

// roomFor makes the file larger, by more than is wanted where that can be had. Only of a service of a version before: else writing does that.
func (f *File) roomFor(end uint64) error {
	if end > 1<<62 {
		return blocktree.E("files", blocktree.TooLarge, text("no file is so large"))
	}
	want := f.whole(max(end, 2*f.room, growBytesMin))
	return f.anew(func() error {
		err := f.extend(want)
		if err != nil && f.whole(end) < want {
			err = f.extend(f.whole(end))
		}
		return err
	})
}

// whole rounds up to sectors.
func (o *opened) whole(bytes uint64) uint64 {
	s := uint64(o.info.SectorBytes)
	return max(1, (bytes+s-1)/s) * s
}

// extend has the file be so many bytes, all of which may be written.
func (f *File) extend(bytes uint64) error {
	if bytes > f.info.SizeBytes {
		if err := f.resize(bytes); err != nil {
			return err
		}
		f.info.SizeBytes = bytes
	}
	return f.setLength(f.ctx, bytes)
}

// setLength has the file end at a place.
func (f *File) setLength(ctx context.Context, bytes uint64) error {
	f.asked = bytes
	return f.tree.door.SetLength(ctx, f.path, bytes)
}

// resize has the file be so many bytes; it is as long then where it was as long as it was large, or longer than it is large now.
func (f *File) resize(bytes uint64) error {
	f.sized = bytes
	return f.tree.door.Resize(f.ctx, f.path, bytes)
}

// anew flushes and closes the file, does something to it by its name, and opens it again. Where it cannot be opened again, or somebody else has made it longer or shorter meanwhile, it cannot be used any more: what would be written
// then was meant for the file as it was, and might be written over what they wrote.
func (f *File) anew(change func() error) error {
	if err := f.flush(f.ctx); err != nil {
		return err
	}
	err := f.raw.Close()
	f.raw = nil
	if err == nil {
		var info fs.Info
		if info, err = f.same(f.ctx); err == nil {
			if info.Length != f.room && info.Length != f.asked {
				f.stuck = f.changed()
				return f.stuck
			}
			err = change()
		}
	}
	was := f.room
	again, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), closeTimeout) // also where ctx ended meanwhile: what was written is there
	defer cancel()
	if e := f.open(again); e != nil {
		f.stuck = e
		if err == nil {
			err = e
		}
	} else if f.room != f.asked && (err == nil || f.room != was && f.room != f.sized) { // what failed may have been done, or begun
		_ = f.raw.Close() // nothing was done with it
		f.raw, f.stuck = nil, f.changed()
		err = f.stuck
	}
	return err
}

// changed is the error of a file that somebody else wrote while it was opened anew.
func (f *File) changed() error {
	return &blocktree.Error{Op: "files", Path: f.path.Short(), Kind: blocktree.Busy, Err: text("somebody else made it longer or shorter while it was opened anew"), Hint: "open it again, and see what is in it: one at a time writes a file"}
}

// same describes what has the name, and fails unless that is still the file.
func (f *File) same(ctx context.Context) (fs.Info, error) {
	info, err := f.tree.door.Stat(ctx, f.path)
	if err == nil && info.ID != f.info.ID {
		err = f.another()
	}
	return info, err
}

// flush has what was written outlast the loss of power everywhere.
func (f *File) flush(ctx context.Context) error {
	if !f.dirty.Swap(false) {
		return nil
	}
	err := f.raw.Flush(ctx)
	if err != nil {
		f.dirty.Store(true)
	}
	return err
}

// tell has others know where the file ends.
func (f *File) tell(ctx context.Context) error {
	end := f.end.Load()
	if end == f.room || f.moving.Load() == moves { // whoever flushes it tells
		return nil
	}
	if _, err := f.same(ctx); err != nil {
		return err
	}
	err := f.setLength(ctx, end)
	if err == nil {
		f.room = end
	}
	return err
}

// Sync returns when every write that was answered before would survive the loss of power everywhere, and others see where the file ends.
func (f *File) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("sync", f.write); err != nil {
		return err
	}
	err := f.flush(f.ctx)
	if err == nil {
		err = f.tell(f.ctx)
	}
	return failed("sync", f.name, err)
}

// Truncate has the file end after so many bytes. What is behind is gone, and what is new are zeros.
func (f *File) Truncate(bytes int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("truncate", f.write); err != nil {
		return err
	}
	if bytes < 0 {
		return refused("truncate", f.name, blocktree.Invalid, "fewer than no bytes", "a length is 0 or more")
	}
	n := uint64(bytes)
	m, err := f.mover()
	switch {
	case err != nil:
	case m != nil:
		err = m.Truncate(f.ctx, n)
	case n < f.end.Load():
		err = f.cut(n)
	case n > f.room:
		err = f.roomFor(n)
	}
	if err == nil {
		f.end.Store(n)
	}
	return failed("truncate", f.name, err)
}

// cut makes the file shorter: the sectors behind are given back, and the rest of the last one is cleared.
func (f *File) cut(n uint64) error {
	if rest := min(f.whole(n), f.end.Load()); rest > n {
		f.dirty.Store(true)
		if err := f.raw.WriteAt(f.ctx, make([]byte, rest-n), n); err != nil {
			return err
		}
	}
	return f.anew(func() error {
		if to := f.whole(n); to < f.info.SizeBytes {
			if err := f.resize(to); err != nil {
				return err
			}
		}
		return f.setLength(f.ctx, n)
	})
}

// Close flushes what was written, has others see where the file ends, and lets go of it and its lease, also when its context has ended. Whatever fails, the file is closed; a second Close fails with io/fs.ErrClosed.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.usable("close")
	}
	f.closed = true
	if f.raw == nil {
		return failed("close", f.name, f.stuck)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), closeTimeout)
	defer cancel()
	err := f.flush(ctx)
	if err == nil && f.write {
		err = f.tell(ctx)
	}
	if e := f.raw.Close(); err == nil {
		err = e
	}
	f.raw = nil
	return failed("close", f.name, err)
}
