package vfs

import (
	"io"
	"os"

	"blocktree"
)

// DiskReadOnly is the real file system for whoever must not change it: files are opened for reading only, so that it also serves a
// copy or a disk that was mounted read-only. Whatever would change something returns ReadOnly.
type DiskReadOnly struct{}

var _ FS = DiskReadOnly{}

func readOnly(op, name string) error {
	return &blocktree.Error{Op: "vfs." + op, Path: name, Kind: blocktree.ReadOnly}
}

// Create implements FS.
func (DiskReadOnly) Create(name string) (File, error) { return nil, readOnly("Create", name) }

// Open implements FS.
func (DiskReadOnly) Open(name string) (File, error) {
	f, err := openDisk("Open", name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return readOnlyFile{f, name}, nil
}

// Rename implements FS.
func (DiskReadOnly) Rename(from, _ string) error { return readOnly("Rename", from) }

// Remove implements FS.
func (DiskReadOnly) Remove(name string) error { return readOnly("Remove", name) }

// List implements FS.
func (DiskReadOnly) List(dir string) ([]string, error) { return Disk{}.List(dir) }

// MkdirAll implements FS.
func (DiskReadOnly) MkdirAll(dir string) error { return readOnly("MkdirAll", dir) }

// SyncDir implements FS.
func (DiskReadOnly) SyncDir(dir string) error { return readOnly("SyncDir", dir) }

// Lock implements FS, but for this: it does not make the lock file. NotFound where there is none.
func (DiskReadOnly) Lock(name string) (io.Closer, error) { return lock(name, os.O_RDONLY) }

// Stat implements FS.
func (DiskReadOnly) Stat(name string) (int64, error) { return Disk{}.Stat(name) }

// readOnlyFile has of a File what reads.
type readOnlyFile struct {
	File
	name string
}

func (f readOnlyFile) WriteAt([]byte, int64) (int, error) { return 0, readOnly("WriteAt", f.name) }

func (f readOnlyFile) WritevAt([][]byte, int64) (int, error) {
	return 0, readOnly("WritevAt", f.name)
}
func (f readOnlyFile) Datasync() error      { return readOnly("Datasync", f.name) }
func (f readOnlyFile) Sync() error          { return readOnly("Sync", f.name) }
func (f readOnlyFile) Truncate(int64) error { return readOnly("Truncate", f.name) }
func (f readOnlyFile) Allocate(int64) error { return readOnly("Allocate", f.name) }
