package vfs

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
	"time"

	"blocktree"
)

// SectorBytes is what a disk writes whole or not at all; larger writes tear between sectors.
const SectorBytes = 512

// FS is a file system. Names are paths as the implementation takes them, "/"-separated.
type FS interface {
	// Create makes an empty file open for reading and writing, and empties one that is there. Its name is not
	// durable before SyncDir.
	Create(name string) (File, error)
	// Open opens a file for reading and writing; NotFound where there is none.
	Open(name string) (File, error)
	// Rename gives a file another name in the same directory, replacing what had it, in one step.
	Rename(from, to string) error
	// Remove takes a file's name away; open files stay usable.
	Remove(name string) error
	// List returns the names (without the directory) of the files in dir, sorted. NotFound where there is no dir.
	List(dir string) ([]string, error)
	// MkdirAll makes dir and its parents; they are durable when it returns.
	MkdirAll(dir string) error
	// SyncDir makes the names in dir durable. It blocks for as long as the disk takes. As with every sync, its errors are of kind IO,
	// also where the system says that there is no space: what a failed sync may have lost no second one brings back, so there is
	// nothing to try again.
	SyncDir(dir string) error
	// Lock takes the lock file name, made if absent, until the returned Closer is closed or the process ends. It
	// does not wait: Busy when another process, or this one, holds it.
	Lock(name string) (io.Closer, error)
	// Stat returns the length of a file in bytes.
	Stat(name string) (int64, error)
}

// Spacer is an FS that knows how much space is left.
type Spacer interface {
	// FreeBytes is how many bytes the files in dir can grow by, all together and as far as is known.
	FreeBytes(dir string) (int64, error)
}

// Sized is an FS that knows how large it is.
type Sized interface {
	// SizeBytes is how many bytes the disk that dir is on can hold, what is in use included.
	SizeBytes(dir string) (int64, error)
}

// Dated is an FS that knows when a file was written last, by the system's clock.
type Dated interface {
	Modified(name string) (time.Time, error)
}

// File is an open file. ReadAt is as io.ReaderAt: io.EOF, unwrapped, where fewer bytes are there.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// WritevAt writes bufs one after another from off on, as one write where the system can. It keeps none. On an
	// error the first n bytes may have been written, and more.
	WritevAt(bufs [][]byte, off int64) (n int, err error)
	// Datasync makes the file's bytes and its length durable, but not its name. Its errors are of kind IO: see SyncDir.
	Datasync() error
	// Sync is Datasync and everything else the system keeps about the file.
	Sync() error
	// Truncate sets the length; a longer file reads zeros behind the old end.
	Truncate(bytes int64) error
	// Allocate takes space for the first n bytes and makes the file at least as long: writes there need no space
	// later. Where the system cannot promise that it only lengthens the file. NoSpace if there is not enough.
	Allocate(bytes int64) error
	// Size is the length of the file in bytes.
	Size() (int64, error)
}

// wrap gives a system's error its kind.
func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	kind := blocktree.IO
	var errno syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = blocktree.NotFound
	case errors.Is(err, fs.ErrExist):
		kind = blocktree.Exists
	case errors.Is(err, fs.ErrPermission):
		kind = blocktree.Permission
	case errors.Is(err, fs.ErrClosed):
		kind = blocktree.Closed
	case errors.As(err, &errno):
		switch errno {
		case syscall.ENOSPC, syscall.EDQUOT:
			kind = blocktree.NoSpace
		case syscall.EWOULDBLOCK:
			kind = blocktree.Busy
		}
	}
	return &blocktree.Error{Op: "vfs." + op, Path: name, Kind: kind, Err: err}
}

// wrapSync is wrap for a sync: it never says NoSpace.
func wrapSync(op, name string, err error) error {
	err = wrap(op, name, err)
	if blocktree.KindOf(err) == blocktree.NoSpace {
		return &blocktree.Error{Op: "vfs." + op, Path: name, Kind: blocktree.IO, Err: err}
	}
	return err
}
