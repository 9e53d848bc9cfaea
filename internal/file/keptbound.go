package file

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"blocktree"
	"blocktree/internal/vfs"
)

// What is kept of paths is bounded: files are removed, and nobody tells who keeps their roots. To go by a cluster's word that one is gone would be a means to have its root forgotten (docs/design/0038).

// keptFresh is for how long a root that is opened, and stays the same, is not written anew: by when it was written those are found that nobody has opened for longest.
const keptFresh = 24 * time.Hour

// isStale reports whether a file should be written again though nothing in it has changed.
func (k *KeptRoots) isStale(name string) bool {
	dated, ok := k.fs.(vfs.Dated)
	if !ok {
		return false
	}
	at, err := dated.Modified(name)
	return err == nil && time.Since(at) > keptFresh
}

// keptFile is a file of the directory that may be forgotten.
type keptFile struct {
	name string
	at   time.Time
}

// makeRoom sees to it that one more may be kept: where there are as many as may be, a sixteenth is forgotten. k.mu and the directory's lock are held.
func (k *KeptRoots) makeRoom() error {
	if k.room > 0 { // others may have added some meanwhile, but then count them, too
		k.room--
		return nil
	}
	names, err := k.fs.List(k.dir)
	if err != nil {
		return err
	}
	var kept []string
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, rootSuffix):
			kept = append(kept, name)
		case strings.HasSuffix(name, rootSuffix+newSuffix): // of who ended while it saved
			if err := k.fs.Remove(filepath.Join(k.dir, name)); err != nil {
				return err
			}
		}
	}
	share := max(1, k.most/16)
	if len(kept) >= k.most {
		if err := k.forget(kept, len(kept)-k.most+share); err != nil {
			return err
		}
		kept = kept[:k.most-share]
	}
	k.room = min(share, k.most-len(kept)) - 1
	return nil
}

// forget removes so many: of that owner of whose files most are kept, and again, the one that was written longest ago. So who makes many files has none of anybody else's forgotten.
func (k *KeptRoots) forget(names []string, count int) error {
	owners := map[uint32][]keptFile{}
	for _, name := range names {
		x := keptFile{name: filepath.Join(k.dir, name)}
		text, err := vfs.ReadSmall(k.fs, x.name, SeenBytesMax)
		if err != nil {
			return err
		}
		_, s, err := DecodeSeen(text)
		if err != nil {
			continue // nobody knows which root was seen: that stays, and is said when it is asked for
		}
		if dated, ok := k.fs.(vfs.Dated); ok {
			if x.at, err = dated.Modified(x.name); err != nil {
				return err
			}
		}
		owners[s.Owner] = append(owners[s.Owner], x)
	}
	for _, files := range owners { // the oldest last
		slices.SortFunc(files, func(a, b keptFile) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(b.name, a.name)) })
	}
	for range count {
		var most uint32
		for owner, files := range owners {
			if n := len(owners[most]); len(files) > n || len(files) == n && owner < most {
				most = owner
			}
		}
		files := owners[most]
		if len(files) == 0 {
			return &blocktree.Error{Op: "kept root", Path: k.dir, Kind: blocktree.TooLarge, Hint: "most of the files that end in " + rootSuffix + " there are damaged: look at the disk, and remove them"}
		}
		if err := k.fs.Remove(files[len(files)-1].name); err != nil {
			return err
		}
		owners[most] = files[:len(files)-1]
	}
	return k.fs.SyncDir(k.dir)
}
