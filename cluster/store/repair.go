package store

import (
	"errors"
	"path"

	"blocktree"
	"blocktree/internal/vfs"
)

// RemoveLeftovers removes from the store in dir, which nobody has open, what Check named as left over and the next start would
// remove, and returns the names; before that it calls first, if not nil, while nobody else can open the store. Kinds: Busy while a process has the store, IO, Permission.
func RemoveLeftovers(fs vfs.FS, dir string, leftovers []Leftover, first func() error) (removed []string, err error) {
	lock, err := lockDir(fs, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if first != nil {
		if err := first(); err != nil {
			return nil, err
		}
	}
	for _, l := range leftovers {
		if l.Stays {
			continue
		}
		if err := fs.Remove(path.Join(dir, l.Name)); err != nil {
			if blocktree.KindOf(err) == blocktree.NotFound {
				continue
			}
			return removed, err
		}
		removed = append(removed, l.Name)
	}
	return removed, fs.SyncDir(dir)
}
