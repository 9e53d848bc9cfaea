package vfs

import (
	"io"
	"io/fs"
	"slices"
	"syscall"
)

// crashFile is an open file of a Crash.
type crashFile struct {
	c      *Crash
	n      *crashNode
	name   string
	closed bool
}

// setSize changes a file's length as a pending operation; c.mu is held.
func (c *Crash) setSize(n *crashNode, size int64) {
	c.used += size - n.now.size
	n.now.resize(size)
	n.pending = append(n.pending, crashOp{size: size})
}

// grow checks that a file may become size bytes long; c.mu is held.
func (c *Crash) grow(n *crashNode, size int64) error {
	more := size - n.now.size
	if more > 0 && c.capacity > 0 && c.used+more > c.capacity {
		return syscall.ENOSPC
	}
	return nil
}

func (f *crashFile) do(op string, call func() error) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.closed {
		return wrap(op, f.name, fs.ErrClosed)
	}
	return wrap(op, f.name, call())
}

func (f *crashFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.do("ReadAt", func() error {
		if off < 0 {
			return syscall.EINVAL
		}
		n = f.n.now.readAt(p, off)
		return nil
	})
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write("WriteAt", slices.Clone(p), off)
}

func (f *crashFile) WritevAt(bufs [][]byte, off int64) (int, error) {
	return f.write("WritevAt", slices.Concat(bufs...), off)
}

// WriteDirectAt implements Direct. As on a disk it is a write like any other until something syncs it.
func (f *crashFile) WriteDirectAt(bufs [][]byte, off int64) (bool, error) {
	if err := checkDirect(f.name, bufs, off); err != nil {
		return false, err
	}
	_, err := f.write("WriteDirectAt", slices.Concat(bufs...), off)
	return !f.c.NoDirect, err
}

// EndDirect implements Direct: nothing is needed.
func (f *crashFile) EndDirect() {}

// write takes ownership of p. Where there is no room it writes what fits, as a disk does.
func (f *crashFile) write(op string, p []byte, off int64) (n int, err error) {
	err = f.do(op, func() error {
		if off < 0 {
			return syscall.EINVAL
		}
		full := f.c.grow(f.n, off+int64(len(p)))
		if full != nil {
			fits := max(0, min(int64(len(p)), f.n.now.size+f.c.capacity-f.c.used-off))
			p = p[:fits]
		}
		if n = len(p); n == 0 {
			return full
		}
		before := f.n.now.size
		f.n.now.writeAt(p, off)
		f.c.used += f.n.now.size - before
		f.n.pending = append(f.n.pending, crashOp{off: off, data: p})
		return full
	})
	return n, err
}

func (f *crashFile) Datasync() error { return f.sync("Datasync") }

func (f *crashFile) Sync() error { return f.sync("Sync") }

func (f *crashFile) sync(op string) error {
	return f.c.sync(SyncPoint{Op: op, Name: f.name}, func() error {
		if f.closed {
			return wrap(op, f.name, fs.ErrClosed)
		}
		for _, p := range f.n.pending {
			if p.data == nil {
				f.n.durable.resize(p.size)
			} else {
				f.n.durable.writeAt(p.data, p.off)
			}
		}
		f.n.pending = nil
		return nil
	})
}

func (f *crashFile) Truncate(bytes int64) error {
	return f.do("Truncate", func() error {
		if bytes < 0 {
			return syscall.EINVAL
		}
		if err := f.c.grow(f.n, bytes); err != nil {
			return err
		}
		f.c.setSize(f.n, bytes)
		return nil
	})
}

func (f *crashFile) Allocate(bytes int64) error {
	return f.do("Allocate", func() error {
		if err := f.c.grow(f.n, bytes); err != nil {
			return err
		}
		if bytes > f.n.now.size {
			f.c.setSize(f.n, bytes)
		}
		return nil
	})
}

func (f *crashFile) Size() (n int64, err error) {
	err = f.do("Size", func() error {
		n = f.n.now.size
		return nil
	})
	return n, err
}

func (f *crashFile) Close() error {
	return f.do("Close", func() error {
		f.closed = true
		return nil
	})
}
