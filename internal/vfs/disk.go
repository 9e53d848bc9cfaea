package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
)

// Disk is the real file system.
type Disk struct{}

var _ FS = Disk{}

// iovMax is how many buffers Linux takes in one call (IOV_MAX).
const iovMax = 1024

// fileMode lets only the owner of the store in: shards are ciphertext, but nobody else has business there.
const (
	fileMode = 0o600
	dirMode  = 0o700
)

type diskFile struct {
	f      *os.File
	closed atomic.Bool
	direct directWay
}

func openDisk(op, name string, flags int) (File, error) {
	f, err := os.OpenFile(name, flags, fileMode)
	if err != nil {
		return nil, wrap(op, name, err)
	}
	return &diskFile{f: f}, nil
}

// Create implements FS.
func (Disk) Create(name string) (File, error) {
	return openDisk("Create", name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

// Open implements FS.
func (Disk) Open(name string) (File, error) { return openDisk("Open", name, os.O_RDWR) }

// Rename implements FS.
func (Disk) Rename(from, to string) error { return wrap("Rename", from, os.Rename(from, to)) }

// Remove implements FS.
func (Disk) Remove(name string) error { return wrap("Remove", name, os.Remove(name)) }

// List implements FS.
func (Disk) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, wrap("List", dir, err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

// MkdirAll implements FS: each directory it makes is synced into its parent, and the last one also if it is there, as
// whoever made it may have ended before it did so. (A parent that may not be read is not ours, and is left alone.)
func (d Disk) MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return wrap("MkdirAll", dir, syscall.ENOTDIR)
		}
		if err := d.SyncDir(filepath.Dir(dir)); blocktree.KindOf(err) != blocktree.Permission {
			return err
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := d.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, os.ErrExist) {
		return wrap("MkdirAll", dir, err)
	}
	return d.SyncDir(parent)
}

// SyncDir implements FS.
func (Disk) SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return wrap("SyncDir", dir, err)
	}
	err = f.Sync()
	return wrapSync("SyncDir", dir, errors.Join(err, f.Close()))
}

// Lock implements FS by flock, which ends with the process however it ends.
func (Disk) Lock(name string) (io.Closer, error) { return lock(name, os.O_RDWR|os.O_CREATE) }

// lock takes the lock of a file, which it opens so.
func lock(name string, flags int) (io.Closer, error) {
	f, err := os.OpenFile(name, flags, fileMode)
	if err != nil {
		return nil, wrap("Lock", name, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written; the lock's error is the one to tell
		return nil, wrap("Lock", name, err)
	}
	return locked{f}, nil
}

// locked is a file that is locked.
type locked struct{ file *os.File }

// Close gives the lock back, and does not leave that to the end of the descriptor: a program that this process is about to start has another one of it until it runs.
func (l locked) Close() error {
	err := unix.Flock(int(l.file.Fd()), unix.LOCK_UN)
	return errors.Join(err, l.file.Close())
}

// FreeBytes implements Spacer: what is free for whoever is not root.
func (Disk) FreeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return int64(st.Bavail) * st.Bsize, wrap("FreeBytes", dir, err)
}

// SizeBytes implements Sized.
func (Disk) SizeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return int64(st.Blocks) * st.Bsize, wrap("SizeBytes", dir, err)
}

// Stat implements FS.
func (Disk) Stat(name string) (int64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, wrap("Stat", name, err)
	}
	return info.Size(), nil
}

// Modified implements Dated.
func (Disk) Modified(name string) (time.Time, error) {
	info, err := os.Stat(name)
	if err != nil {
		return time.Time{}, wrap("Modified", name, err)
	}
	return info.ModTime(), nil
}

func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.f.ReadAt(p, off)
	if err == io.EOF {
		return n, err
	}
	return n, wrap("ReadAt", f.f.Name(), err)
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	return n, wrap("WriteAt", f.f.Name(), err)
}

// conn is for calls that os has no method for.
func (f *diskFile) conn() (syscall.RawConn, error) {
	if f.closed.Load() {
		return nil, fs.ErrClosed
	}
	return f.f.SyscallConn()
}

func (f *diskFile) WritevAt(bufs [][]byte, off int64) (int, error) {
	conn, err := f.conn()
	if err != nil {
		return 0, wrap("WritevAt", f.f.Name(), err)
	}
	total := 0
	for len(bufs) > 0 {
		part := bufs[:min(len(bufs), iovMax)]
		bufs = bufs[len(part):]
		n, err := writevFull(conn, part, off)
		total += n
		off += int64(n)
		if err != nil {
			return total, wrap("WritevAt", f.f.Name(), err)
		}
	}
	return total, nil
}

// writevFull writes all of part, going on after interrupted and short writes. It does not change part's slices.
func writevFull(conn syscall.RawConn, part [][]byte, off int64) (total int, err error) {
	var own [][]byte // a copy of part, once a short write cuts into it
	for len(part) > 0 {
		var n int
		var callErr error
		if err := conn.Write(func(fd uintptr) bool {
			n, callErr = pwritev(int(fd), part, off)
			return true
		}); err != nil {
			return total, err
		}
		if callErr == syscall.EINTR {
			continue
		}
		if callErr != nil {
			return total, callErr
		}
		if n == 0 && len(part[0]) > 0 {
			return total, syscall.EIO // a write that does nothing and says nothing
		}
		total += n
		off += int64(n)
		for len(part) > 0 && n >= len(part[0]) {
			n -= len(part[0])
			part = part[1:]
		}
		if n > 0 {
			own = append(own[:0:0], part...)
			own[0] = own[0][n:]
			part = own
		}
	}
	return total, nil
}

func (f *diskFile) control(op string, call func(fd int) error) error {
	conn, err := f.conn()
	if err != nil {
		return wrap(op, f.f.Name(), err)
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if callErr = call(int(fd)); callErr != syscall.EINTR {
				return
			}
		}
	})
	if err == nil {
		err = callErr
	}
	return wrap(op, f.f.Name(), err)
}

func (f *diskFile) Datasync() error {
	return wrapSync("Datasync", f.f.Name(), f.control("Datasync", unix.Fdatasync))
}

func (f *diskFile) Sync() error { return wrapSync("Sync", f.f.Name(), f.f.Sync()) }

func (f *diskFile) Truncate(bytes int64) error {
	return wrap("Truncate", f.f.Name(), f.f.Truncate(bytes))
}

func (f *diskFile) Allocate(bytes int64) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	err = f.control("Allocate", func(fd int) error {
		err := unix.Fallocate(fd, 0, 0, bytes)
		if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
			if size < bytes {
				return unix.Ftruncate(fd, bytes)
			}
			return nil
		}
		return err
	})
	return err
}

func (f *diskFile) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, wrap("Size", f.f.Name(), err)
	}
	return info.Size(), nil
}

func (f *diskFile) Close() error {
	f.closed.Store(true)
	f.direct.close()
	return wrap("Close", f.f.Name(), f.f.Close())
}
