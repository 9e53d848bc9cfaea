package file

import (
	"context"
	"fmt"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
)

// dropOlder makes the record without the keys of older generations; no sector may be sealed under them.
func dropOlder(ctx context.Context, c *cluster.Client, path blocktree.Path, f blocktree.FileID, a *keys.Access) error {
	return putRecord(ctx, c, path, f, a.WithoutOlder())
}

// Resealing is how far a file is.
type Resealing struct {
	Done      bool // no sector of an older generation is left, nor a key of one
	Held      bool // somebody has the lease, who does it; else nobody does
	Bytes     uint64
	SizeBytes uint64
	Rate      uint64 // bytes in a second, 0 if not known
}

// Left estimates how long it will take, 0 if that is not known.
func (r Resealing) Left() time.Duration {
	if r.Rate == 0 || r.Bytes >= r.SizeBytes {
		return 0
	}
	return time.Duration(float64(r.SizeBytes-r.Bytes) / float64(r.Rate) * float64(time.Second)).Round(time.Second)
}

// ResealingOf is how far a file is as its holders have said.
func ResealingOf(inode *meta.Inode, d *Described) Resealing {
	r := Resealing{Done: d == nil || d.Older == 0, SizeBytes: inode.SizeBytes}
	switch {
	case r.Done:
		r.Bytes = r.SizeBytes
	case inode.Heard.Generation == d.Generation:
		r.Bytes, r.Rate = min(inode.Heard.Sectors, inode.SizeBytes/uint64(inode.SectorBytes))*uint64(inode.SectorBytes), inode.Heard.Rate
	}
	return r
}

// resealPause lies between two looks how far a file is.
const resealPause = time.Second

// Reseal returns when no sector of a file is sealed under an older key, and those keys are dropped. Whoever holds the file does the work; while nobody does, this process,
// under a lease of its own. It tells how far it is at every look. Kinds as of Open.
func (d *Admin) Reseal(ctx context.Context, path blocktree.Path, tell func(Resealing)) error {
	var own blocktree.File
	defer func() {
		if own != nil {
			_ = own.Close() // all that mattered was made durable before it was said to be done
		}
	}()
	for {
		inode, err := d.Client.Stat(ctx, path)
		if err != nil {
			return err
		}
		described, err := Describe(path, inode, d.Pins)
		if err != nil {
			return err
		}
		now := ResealingOf(inode, described)
		if !now.Done && inode.Heard.Sectors == meta.AllResealed && inode.Heard.Generation == described.Generation {
			a, err := recordOf(path, inode, d.Pins)
			if err == nil {
				err = dropOlder(ctx, d.Client, path, inode.ID, a)
			}
			if err != nil && blocktree.KindOf(err) != blocktree.StaleView {
				return &blocktree.Error{Op: "reseal", Path: path.Short(), Err: err}
			}
			continue
		}
		if own == nil && !now.Done {
			held, err := d.Client.Holder(ctx, inode.ID)
			if err != nil {
				return err
			}
			if now.Held = held != nil; !now.Held {
				own, err = Open(ctx, d.Client, path, OpenOptions{Reader: d.Reader, Pins: d.Pins, Roots: d.Roots})
				if err != nil && blocktree.KindOf(err) != blocktree.Busy {
					return err
				}
			}
		}
		now.Held = now.Held || own != nil
		tell(now)
		if now.Done {
			return nil
		}
		select {
		case <-ctx.Done():
			return &blocktree.Error{Op: "reseal", Path: path.Short(), Kind: blocktree.Timeout,
				Err: fmt.Errorf("%d of %d bytes are done", now.Bytes, now.SizeBytes), Hint: "it goes on while somebody has the file open; ask again to see how far it is"}
		case <-time.After(resealPause):
		}
	}
}
