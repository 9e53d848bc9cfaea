package cluster

import (
	"errors"
	"path/filepath"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/store"
	"blocktree/internal/vfs"
)

// Unused reports whether the directories of a store hold one that has never served: no start of it was recorded beside its sectors or its
// metadata, and it keeps no sector. A node that was to found its cluster, or thought so since it heard of nobody, leaves such a store.
// What cannot be read may have been used.
func Unused(disk vfs.FS, sectors, metadata string, id blocktree.NodeID) bool {
	for _, dir := range []string{sectors, metadata} {
		if mark, err := loadStart(disk, dir); err != nil || mark.current != 0 {
			return false
		}
	}
	info, err := store.Inspect(disk, sectors)
	if blocktree.KindOf(err) == blocktree.NotFound {
		return true
	}
	return err == nil && info.Store == id && info.LiveSectors == 0 && info.Pending == 0
}

// Discard removes a store that is Unused and whose id is another's place now, so that it can never be used: the metadata first, and what says
// that it was unused last. One that a process has is Busy. A crash leaves less of it.
func Discard(disk vfs.FS, metaDisk meta.FS, sectors, metadata string) (err error) {
	if err := disk.MkdirAll(sectors); err != nil { // or there is nowhere to lock it
		return err
	}
	lock, err := store.Lock(disk, sectors)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := meta.Discard(metaDisk, metadata); err != nil {
		return err
	}
	for _, dir := range []string{metadata, sectors} {
		names, err := disk.List(dir)
		if blocktree.KindOf(err) == blocktree.NotFound {
			continue
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := disk.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		if err := disk.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}
