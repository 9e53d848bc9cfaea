package cluster

import (
	"errors"
	"path/filepath"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/store"
	"blocktree/internal/vfs"
)

// unusedFile says, beside a store's sectors, that the store is being removed since it was never used: what is left of it means nothing, and it is never
// made again. It goes when it is durable elsewhere which store the node has instead.
const unusedFile = "unused"

// Unused reports whether the directories of a store hold one that has never served: no start of it was recorded beside its sectors or its
// metadata, and it keeps nothing. A node that was to found its cluster, or thought so since it heard of nobody, leaves such a store.
// One that a process has, and what cannot be read, may have been used. It reads the store's log.
func Unused(disk vfs.FS, sectors, metadata string, id blocktree.NodeID) bool {
	lock, err := store.Lock(disk, sectors)
	if blocktree.KindOf(err) == blocktree.NotFound {
		return unused(disk, sectors, metadata, id)
	}
	if err != nil {
		return false
	}
	defer lock.Close()
	return unused(disk, sectors, metadata, id)
}

// unused is Unused for who has the lock.
func unused(disk vfs.FS, sectors, metadata string, id blocktree.NodeID) bool {
	for _, dir := range []string{sectors, metadata} {
		if mark, err := loadStart(disk, dir); err != nil || mark.current != 0 {
			return false
		}
	}
	if Discarded(disk, sectors) {
		return true
	}
	empty, err := store.Empty(disk, sectors, id)
	return empty && (err == nil || blocktree.KindOf(err) == blocktree.NotFound)
}

// Discarded reports whether Discard of this store was begun and has not ended.
func Discarded(disk vfs.FS, sectors string) bool {
	_, err := disk.Stat(filepath.Join(sectors, unusedFile))
	return err == nil
}

// Discard removes all of a store that is Unused and whose id is another's place now, so that it can never be used; it keeps the directories. Then it calls
// instead, which makes durable which store the node has: until that is done the store counts as Discarded. It is Busy if
// a process has the store, or has used it since somebody looked. Cut off, it is to be called again.
func Discard(disk vfs.FS, metaDisk meta.FS, sectors, metadata string, id blocktree.NodeID, instead func() error) (err error) {
	if err := disk.MkdirAll(sectors); err != nil { // or there is nowhere to lock it
		return err
	}
	lock, err := store.Lock(disk, sectors)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if !unused(disk, sectors, metadata, id) {
		return &blocktree.Error{Op: "cluster.Discard", Path: sectors, Kind: blocktree.Busy, Err: errors.New("the store was used a moment ago"),
			Hint: "another btnode was started on this directory; leave it alone, or stop it and start this one again"}
	}
	if err := replaceFile(disk, sectors, unusedFile, nil, true); err != nil {
		return err
	}
	if err := meta.Discard(metaDisk, metadata); err != nil {
		return err
	}
	if err := removeAllBut(disk, metadata, ""); err != nil { // where that is another disk
		return err
	}
	if err := removeAllBut(disk, sectors, unusedFile); err != nil {
		return err
	}
	if err := instead(); err != nil {
		return err
	}
	return EndDiscard(disk, sectors)
}

// EndDiscard forgets that a store was Discarded, once it is durable which one the node has instead. It removes nothing else: that one may be there.
func EndDiscard(disk vfs.FS, sectors string) error {
	if err := disk.Remove(filepath.Join(sectors, unusedFile)); err != nil {
		return err
	}
	return disk.SyncDir(sectors)
}

// removeAllBut removes the files of a directory, if it is there, but one, durably.
func removeAllBut(disk vfs.FS, dir, but string) error {
	names, err := disk.List(dir)
	if blocktree.KindOf(err) == blocktree.NotFound {
		return nil
	}
	for _, name := range names {
		if err == nil && name != but {
			err = disk.Remove(filepath.Join(dir, name))
		}
	}
	if err != nil {
		return err
	}
	return disk.SyncDir(dir)
}
