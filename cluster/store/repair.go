package store

import (
	"errors"
	"path"

	"blocktree"
	"blocktree/internal/vfs"
)

// RemoveLeftovers removes from the store in dir, which nobody has open, what Check named in r as left over and the next start would
// remove, and returns the names; before that it calls first, if not nil, while nobody else can open the store. Kinds: Busy while a
// process has the store, or if one had it since the check: what was left over then may be in use now; Corrupt, IO, Permission.
func RemoveLeftovers(fs vfs.FS, dir string, r *CheckReport, first func() error) (removed []string, err error) {
	lock, err := lockDir(fs, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	sb, err := readSuperblock(fs, dir)
	if err != nil {
		return nil, err
	}
	if sb.starts != r.Starts {
		return nil, &blocktree.Error{Op: "store.RemoveLeftovers", Path: dir, Kind: blocktree.Busy, Err: errors.New("the store was opened since it was checked"),
			Hint: "check it again, while the node is stopped"}
	}
	if first != nil {
		if err := first(); err != nil {
			return nil, err
		}
	}
	for _, l := range r.Leftovers {
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
