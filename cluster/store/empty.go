package store

import (
	"context"
	"slices"

	"blocktree"
	"blocktree/internal/vfs"
)

// Empty reports whether the store of that id in dir holds nothing, in its index, among what is pending, or in its log, which it reads; so does a
// directory with no store, or with one that was cut off when it was made. Damage counts as something. The caller has the directory's
// lock (Lock).
func Empty(fs vfs.FS, dir string, id blocktree.NodeID) (bool, error) {
	names, err := fs.List(dir)
	if err != nil {
		return blocktree.KindOf(err) == blocktree.NotFound, err
	}
	if !slices.ContainsFunc(names, func(name string) bool { return ofStore(name) && name != checkpointName }) {
		return true, nil // as Create takes it
	}
	c := newChecker(context.Background(), fs, CheckOptions{})
	if err := c.check(dir); err != nil {
		return false, err
	}
	r := c.report
	return r.Complete && r.Clean() && r.Store == id && r.LogRecords == 0 && r.Records == 0 && r.LiveSectors == 0 && r.Pending == 0 && r.ZeroRanges == 0, nil
}
