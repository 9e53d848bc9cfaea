package file

import (
	"context"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/crypto/seal"
)

// MakeHeld is Make of a file that ends at a byte, and Open of it for writing, by one command (docs/design/0067). The file is nil where it was made and is to be opened; the inode is it when it was made, also with an error. It is not one of integrity tree. Kinds beside those of Make: Unsupported, and nothing was done: make it, and open it.
func MakeHeld(ctx context.Context, c *cluster.Client, path blocktree.Path, o CreateOptions, bytes uint64, open OpenOptions) (f *File, inode *meta.Inode, err error) {
	if o.Tree {
		return nil, nil, blocktree.E("file.MakeHeld", blocktree.Unsupported, nil)
	}
	n, err := newMaking(ctx, c, path, o)
	if err != nil {
		return nil, nil, err
	}
	inode, h, err := c.CreateHeld(ctx, n.op, n.o.Durability, bytes, open.OpenOptions)
	if inode == nil {
		return nil, nil, err
	}
	made := inode.ID
	if err != nil {
		return nil, inode, err
	}
	if n.access != nil && o.Pins != nil { // also where another file was pinned: this one is known to be new
		pins := o.Pins
		if files, ok := pins.(FilePins); ok {
			pins = files.Of(made)
		}
		if err := pins.SetPin(path, n.access.Pin()); err != nil {
			if h != nil {
				_ = h.Close() // nothing was written
			}
			return nil, inode, err
		}
	}
	if h == nil {
		return nil, inode, nil
	}
	r := &ring{generation: 1}
	if n.access != nil { // it was opened by who drew the key, and is held from the first: no other record can have come
		r = newRing(n.access, keys.Ring{n.access.Generation: n.key}, seal.Suite(inode.Suite), made)
	} else {
		r.newest = seal.New([32]byte{}, seal.None, made, 1)
		r.sealers = map[uint32]*seal.Sealer{1: r.newest}
	}
	f = newFile(inode, path, r, false)
	f.unlocker = &unlocker{client: c, path: path, reader: open.Reader, plain: open.Plain, pins: open.Pins, last: n.access}
	f.handle, f.regionSectors, f.durability = h, h.RegionSectors(), h.Durability()
	if err := f.keep(ctx, f.heard, open.Logger); err != nil {
		_ = f.Close() // nothing was written
		return nil, inode, err
	}
	return f, inode, nil
}

// CloseEnd implements blocktree.EndCloser.
func (f *File) CloseEnd(ctx context.Context, was, bytes uint64) error {
	const op = "file.CloseEnd"
	f.ending.mu.Lock()
	pending := f.ending.pending != nil
	f.ending.mu.Unlock()
	if f.handle == nil || f.guard != nil || pending { // one step after the other
		err := f.Flush(ctx)
		if err == nil {
			_, err = f.SetEnd(ctx, was, bytes)
		}
		if e := f.Close(); err == nil {
			err = e
		}
		return err
	}
	if f.keeper != nil { // which re-seals
		f.keeper.end()
	}
	err := f.fail(op, f.handle.CloseEnd(ctx, was, bytes))
	f.started.Wait()
	return err
}
