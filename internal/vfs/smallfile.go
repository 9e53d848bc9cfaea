package vfs

import (
	"errors"
	"io"
	"path/filepath"
)

// ReadSmall returns what a file holds, and of one that is longer than most bytes the first most+1. Errors are those of FS and File.
func ReadSmall(fs FS, name string, most int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, most+1))
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// Replace puts b in the place of a file, by way of another whose name ends in .new. When it returns nil b is on the disk; whenever the machine or this process ends, what was there before or b
// is there. Two at once for one name are the caller's to keep apart.
func Replace(fs FS, name string, b []byte) error {
	f, err := fs.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = fs.Rename(name+".new", name)
	}
	if err == nil {
		err = fs.SyncDir(filepath.Dir(name))
	}
	return err
}
