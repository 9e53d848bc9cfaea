package file

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/tree"
)

// awaitRecord returns when a file of integrity tree has a record under the key of a rekey, or of a later one (docs/design/0028). Whoever has the file open makes it; where nobody has, or who has is no
// reader any more, this process does, under a lease of its own.
func (d *Admin) awaitRecord(ctx context.Context, r *Rekeyed) error {
	for {
		inode, err := d.Client.StatFile(ctx, r.ID)
		if blocktree.KindOf(err) == blocktree.NotFound {
			return nil // it was removed
		}
		if err != nil {
			return err
		}
		held, err := d.Client.Holder(ctx, r.ID)
		if err != nil {
			return err
		}
		done, err := d.recordedUnder(ctx, r, inode)
		if err != nil || done {
			return err
		}
		deaf := held != nil && inode.Heard.Epoch >= held.Epoch && inode.Heard.Number >= r.Number // it would have made the record before it said so
		if held == nil || deaf {
			if err = d.makeRecord(ctx, r.Path, deaf); err == nil {
				continue
			}
			if k := blocktree.KindOf(err); k != blocktree.Busy && k != blocktree.Fenced {
				return err
			}
		}
		select {
		case <-ctx.Done():
			who := "nobody"
			if held != nil {
				who = held.Holder.Short()
			}
			return &blocktree.Error{Kind: blocktree.Timeout, Err: fmt.Errorf("the new key is there, and no integrity record under it: %s has the file open", who),
				Hint: "what it writes may be under the key before, and nobody opens the file anew: stop that server, or bring it to this version, and rekey again"}
		case <-time.After(heardPause):
		}
	}
}

// recordedUnder says whether the newest record of a file is under the key of a rekey, or of a later one.
func (d *Admin) recordedUnder(ctx context.Context, r *Rekeyed, inode *meta.Inode) (bool, error) {
	if inode.AnchorNumber == 0 {
		return false, nil
	}
	rec, err := tree.DecodeRecord(inode.Anchor)
	if err != nil || rec.Generation < r.Generation {
		return false, err
	}
	u := &unlocker{client: d.Client, path: r.Path, reader: d.Reader, pins: d.Pins}
	ring, err := u.ring(ctx, inode)
	if err != nil {
		return false, err
	}
	key, ok := ring.integrity[rec.Generation]
	if !ok {
		return false, blocktree.E("integrity record", blocktree.Corrupt, errors.New("it is under a key that there is not"))
	}
	return true, rec.Verify(key, r.ID, inode.SizeBytes/uint64(inode.SectorBytes))
}

// takeOverWait is how long a file is waited for that is taken by force: a lease term, and what it takes to settle.
const takeOverWait = 2 * blocktree.LeaseTerm

// makeRecord has the file opened, which makes a record under its newest key, and closed.
func (d *Admin) makeRecord(ctx context.Context, path blocktree.Path, force bool) error {
	o := OpenOptions{Reader: d.Reader, Pins: d.Pins, Roots: d.Roots, adopt: true}
	if force {
		o.OpenOptions = cluster.OpenOptions{TakeOver: true, Wait: takeOverWait}
	}
	f, err := Open(ctx, d.Client, path, o)
	if err != nil {
		return err
	}
	return f.Close()
}
