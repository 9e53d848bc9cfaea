package file

import (
	"context"
	"errors"
	"slices"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
)

// RekeyTree is Rekey of a directory and of everything beneath it that has a key: whoever read the directory and is in without reads nothing of what is written from then on. It
// tells of each as it is done. What gets another name meanwhile is looked for again, until nothing is found. What fails ends it; done again it begins anew. A file is as good as any tree. Kinds beside those of Rekey: Busy (more and more is found).
func (d *Admin) RekeyTree(ctx context.Context, path blocktree.Path, tell func(*Rekeyed) error, without ...keys.PublicKey) error {
	w := &rekeyWalk{Admin: d, tell: tell, without: without, done: map[blocktree.FileID]bool{}}
	for range changesMax {
		w.found = 0
		if err := w.walk(ctx, path, blocktree.FileID{}); err != nil {
			return err
		}
		if w.found == 0 {
			return nil
		}
	}
	return &blocktree.Error{Op: "rekey", Path: path.Short(), Kind: blocktree.Busy, Err: errors.New("all that was found has a new key, but each time it was looked through there was more beneath it"), Hint: "say it again when less is renamed there"}
}

// rekeyWalk goes through a tree, again and again: what is renamed while it does may be passed by. It remembers as many identities as there are files and directories beneath.
type rekeyWalk struct {
	*Admin
	tell    func(*Rekeyed) error
	without []keys.PublicKey
	done    map[blocktree.FileID]bool
	keys    []keys.PublicKey // that directories got
	found   int              // what was not done before, this time
}

// walk does what is at path, which is id, if that is known, and beneath.
func (w *rekeyWalk) walk(ctx context.Context, path blocktree.Path, id blocktree.FileID) error {
	entries, err := w.one(ctx, path, id)
	if err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		if e.Inode.Kind == meta.KindFile && (e.Inode.KeyID == (keys.KeyID{}) || w.done[e.Inode.ID]) {
			continue // not encrypted, or done
		}
		if err := w.walk(ctx, path.Join(e.Name), e.Inode.ID); err != nil && blocktree.KindOf(err) != blocktree.NotFound {
			return err
		}
	}
	return nil
}

// one is a step: it returns what is directly beneath.
func (w *rekeyWalk) one(ctx context.Context, path blocktree.Path, id blocktree.FileID) ([]meta.DirEntry, error) {
	ctx, cancel := w.step(ctx)
	defer cancel()
	if w.done[id] {
		return w.Client.List(ctx, path)
	}
	inode, err := w.Client.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	if (len(inode.Access) > 0 || inode.Kind == meta.KindFile) && !w.done[inode.ID] && !w.isNew(path, inode) {
		r, err := w.Rekey(ctx, path, w.without...)
		if err == nil {
			w.found++
			w.done[r.ID] = true
			if r.Directory {
				w.keys = append(w.keys, r.key)
			}
			err = w.tell(r)
		}
		if err != nil {
			return nil, err
		}
	}
	if inode.Kind == meta.KindFile {
		return nil, nil
	}
	return w.Client.List(ctx, path)
}

// isNew says that a file was made since: its first record is wrapped to a key that a directory has got.
func (w *rekeyWalk) isNew(path blocktree.Path, inode *meta.Inode) bool {
	if inode.Kind != meta.KindFile || keys.NumberOf(inode.Access) != 1 {
		return false
	}
	a, err := recordOf(path, inode, w.Pins)
	return err == nil && !slices.ContainsFunc(a.PublicKeys(), func(p keys.PublicKey) bool { return slices.Contains(w.without, p) }) &&
		slices.ContainsFunc(a.PublicKeys(), func(p keys.PublicKey) bool { return slices.Contains(w.keys, p) })
}
