package cluster

import (
	"fmt"

	"blocktree"
	"blocktree/internal/vfs"
)

// readSmallFile reads a file of at most bytesMax as a whole. Kinds: NotFound, Corrupt (it is longer), IO.
func readSmallFile(disk vfs.FS, dir, name string, bytesMax int64) ([]byte, error) {
	f, err := disk.Open(dir + "/" + name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > bytesMax {
		return nil, &blocktree.Error{Op: "read", Path: name, Kind: blocktree.Corrupt, Err: fmt.Errorf("%d bytes, at most %d", size, bytesMax)}
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && size > 0 {
		return nil, err
	}
	return b, nil
}

// replaceFile puts b in the place of a file, by renaming a new one; if durable, it is that when it returns.
func replaceFile(disk vfs.FS, dir, name string, b []byte, durable bool) error {
	temporary := dir + "/" + name + ".new"
	f, err := disk.Create(temporary)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(b, 0); err == nil && durable {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = disk.Rename(temporary, dir+"/"+name)
	}
	if err == nil && durable {
		err = disk.SyncDir(dir)
	}
	return err
}
