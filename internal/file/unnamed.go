package file

import (
	"context"
	"crypto/sha256"
	"sync"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/crypto/seal"
)

// namesTried is how often a file is named anew when the key of its directory, or the path of that, has become another.
const namesTried = 4

// unnamed is what a file of MakeUnnamed needs for its name.
type unnamed struct {
	mu    sync.Mutex // one step after the other
	k     *cluster.KeptDir
	n     making
	found meta.KeyFound
	open  OpenOptions
	named bool
	known bool        // its record is pinned
	end   uint64      // where it ends, once it is named
	inode *meta.Inode // as it was named
	at    int64       // when that was, as the cluster said
}

// MakeUnnamed is MakeHeld of a file of length 0 in a directory that the client keeps (docs/design/0079), without a command or question in most cases: the file has no name at the cluster until Name or CloseName. The inode is as it will be by then. Key and access record are drawn for path, which is to be in k. Kinds: Unsupported, and nothing was done: MakeHeld makes it (no spare is to be had, or o.Spare cannot be it; a tree file; a mode by which its owner could not write it), and those of Make.
// A File that is closed without a name leaves nothing.
func MakeUnnamed(ctx context.Context, c *cluster.Client, k *cluster.KeptDir, path blocktree.Path, o CreateOptions, open OpenOptions) (*File, *meta.Inode, error) {
	if o.Tree || o.withDefaults().Mode&0o600 != 0o600 {
		return nil, nil, blocktree.E("file.MakeUnnamed", blocktree.Unsupported, nil)
	}
	u := &unnamed{k: k, open: open}
	above, found, err := keyFound(ctx, c, k, path.Parent(), o)
	if err != nil {
		return nil, nil, err
	}
	if u.n, err = wrapped(ctx, c, path, o, above); err != nil {
		return nil, nil, err
	}
	u.found = found
	h, err := u.spare(ctx)
	if err != nil {
		return nil, nil, err
	}
	inode, op := h.Inode(), &u.n.op
	inode.Mode, inode.Suite, inode.KeyID, inode.Access, inode.Created, inode.Modified = op.Mode, op.Suite, op.KeyID, op.Access, op.Time, op.Time
	inode.UID, inode.GID = c.Owns(ctx)
	f := newFile(&inode, path, u.ring(inode.ID), false)
	f.unlocker = &unlocker{client: c, path: path, reader: open.Reader, plain: open.Plain, pins: open.Pins, last: u.n.access}
	f.handle, f.regionSectors, f.durability, f.unnamed = h, h.RegionSectors(), h.Durability(), u
	return f, &inode, nil
}

// spare is the file that is to have the name.
func (u *unnamed) spare(ctx context.Context) (*cluster.Handle, error) {
	if s := u.n.o.Spare; s != nil {
		if !s.Of(u.k.Client()) {
			return nil, blocktree.E("file.MakeUnnamed", blocktree.Unsupported, nil)
		}
		return s.Use(u.n.op, u.n.o.Durability, u.open.OpenOptions)
	}
	return u.k.Client().Spare(ctx, u.n.op, u.n.o.Durability, u.open.OpenOptions)
}

// TakeSpares takes n files at most for MakeUnnamed (CreateOptions.Spare) with such options in a directory, at dir, as cluster.Client.TakeSpares says.
func TakeSpares(ctx context.Context, k *cluster.KeptDir, dir blocktree.Path, o CreateOptions, n int, waits bool) ([]*cluster.TakenSpare, error) {
	if err := o.Validate(); err != nil || o.Tree {
		return nil, blocktree.E("file.TakeSpares", blocktree.Unsupported, err)
	}
	o = o.withDefaults()
	return k.Client().TakeSpares(ctx, meta.CreateFile{Path: dir.Join("spare"), SizeBytes: o.SizeBytes, SectorBytes: uint32(o.SectorBytes), Code: o.Code}, o.Durability, n, waits)
}

// WroteAt has the file's last write be at another time, in nanoseconds since 1970, if nothing is written from then on: for who closes it.
func (f *File) WroteAt(at int64) {
	if f.handle != nil {
		f.handle.WroteAt(at)
	}
}

// ring has the sealer of a file that was just made.
func (n *making) ring(id blocktree.FileID) *ring {
	if n.access != nil { // it was opened by who drew the key, and is held from the first: no other record can have come
		return newRing(n.access, keys.Ring{n.access.Generation: n.key}, seal.Suite(n.op.Suite), id)
	}
	r := &ring{generation: 1, newest: seal.New([32]byte{}, seal.None, id, 1)}
	r.sealers = map[uint32]*seal.Sealer{1: r.newest}
	return r
}

func (u *unnamed) ring(id blocktree.FileID) *ring { return u.n.ring(id) }

// keyFound is newKey, and what the cluster is to compare with what counts when the file gets its name. What is remembered of a directory may be old: then it compares to another, and is looked for anew.
func keyFound(ctx context.Context, c *cluster.Client, k *cluster.KeptDir, dir blocktree.Path, o CreateOptions) (p keys.PublicKey, found meta.KeyFound, err error) {
	if o.Plain {
		return p, found, nil
	}
	if known := o.Keyless.key(dir); known != nil {
		return known.key, known.found, nil
	}
	if found.At, err = c.Unkeyed(ctx, dir); err != nil {
		return p, found, err
	}
	if found.At == "" {
		o.Keyless.noteKeys(dirKey{dir: dir}, k.Client().Scope())
		return p, found, nil
	}
	if inode, _, err := c.Allowed(ctx, found.At); err == nil && inode.Kind == meta.KindDir && len(inode.Access) > 0 {
		a, err := recordOf(found.At, inode, o.Pins)
		if err != nil {
			return p, found, err
		}
		p, found.Record = a.Directory, sha256.Sum256(inode.Access)
		if found.At.Within(k.Client().Scope()) {
			o.Keyless.noteKeys(dirKey{dir, p, found}, found.At)
		}
		return p, found, nil
	}
	p, err = newKey(ctx, c, dir, o.Pins)
	return p, found, err
}

// Named describes a file as it was when Name or CloseName named it.
func (f *File) Named() *meta.Inode {
	f.unnamed.mu.Lock()
	defer f.unnamed.mu.Unlock()
	return f.unnamed.inode
}

// NamedAt is when the file was named, as the cluster answered to the first Name or CloseName that returned nil: its directory has that time, unless another change came after it. 0: nobody has said.
func (f *File) NamedAt() int64 {
	f.unnamed.mu.Lock()
	defer f.unnamed.mu.Unlock()
	return f.unnamed.at
}

// namedBy notes what the cluster answered; mu is held.
func (u *unnamed) namedBy(i *meta.Inode, err error) error {
	if u.inode = i; err == nil {
		u.at = i.Changed
	}
	return err
}

// Unnamed reports whether the file has no name yet, as far as is known.
func (f *File) Unnamed() bool {
	if f.unnamed == nil {
		return false
	}
	f.unnamed.mu.Lock()
	defer f.unnamed.mu.Unlock()
	return !f.unnamed.named
}

// Name gives a file of MakeUnnamed its name, on behalf of whom ctx says, and has it end at a byte; what was written must have been flushed (Flush). Then it is a file as any other. Asked again it is done, with the end moved. That a pin of its record could not be kept is in the log, and no error: the file is there. Kinds: Exists, Permission, NotFound (the directory is gone, or has another path), Fenced (the lease or the session is gone), NoSpace, Unavailable: then it may have been named; asked again, it is found out.
func (f *File) Name(ctx context.Context, end uint64) error {
	const op = "file.Name"
	u := f.unnamed
	if u == nil {
		return f.fail(op, blocktree.E("", blocktree.Invalid, nil))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.named {
		u.pin(&f.info)
		return f.moveEnd(ctx, end)
	}
	err := f.tryNames(ctx, func() error {
		return u.namedBy(f.handle.Name(ctx, u.k, u.n.op, u.found, end))
	})
	if err != nil {
		return f.fail(op, err)
	}
	u.named, u.end = true, end
	u.pin(&f.info)
	return f.fail(op, f.keep(ctx, f.heard, u.open.Logger))
}

// moveEnd is Name of a file that has one; unnamed.mu is held.
func (f *File) moveEnd(ctx context.Context, end uint64) error {
	for u := f.unnamed; u.end != end; {
		now, err := f.setEnd(ctx, u.end, end)
		if blocktree.KindOf(err) == blocktree.StaleView && now != u.end {
			u.end = now
			continue
		}
		if err != nil {
			return err
		}
		u.end = end
	}
	return nil
}

// tryNames names the file, with another record where what it is to be wrapped to, or to name, has changed. unnamed.mu is held.
func (f *File) tryNames(ctx context.Context, try func() error) (err error) {
	for range namesTried {
		if err = try(); blocktree.KindOf(err) != blocktree.StaleView || err == nil {
			return err
		}
		if e := f.wrapAnew(ctx); e != nil {
			return e
		}
	}
	return err
}

// wrapAnew has the file's key wrapped to what the directory's key is now. Nobody was told of the record before.
func (f *File) wrapAnew(ctx context.Context) error {
	u := f.unnamed
	path, o := u.n.op.Path, &u.n.o
	o.Keyless.forgetKey(path.Parent())
	c := f.unlocker.client
	above, found, err := keyFound(ctx, c, u.k, path.Parent(), *o)
	if err != nil || u.n.access == nil {
		u.found = found
		return err
	}
	a, err := u.n.access.WithReaders(u.n.key, withInherited(u.n.access.Named(), above))
	if err != nil {
		return err
	}
	a.Number = 1 // it is the first that anybody sees
	a.Inherit(above)
	signRecord(ctx, c, a, path)
	u.found, u.n.access, u.n.op.Access = found, a, a.Append(nil)
	f.unlocker.mu.Lock()
	f.unlocker.last = a
	f.unlocker.mu.Unlock()
	f.setKeys(u.ring(f.info.ID))
	return nil
}

// pin remembers the record of a file that was named; mu is held. Who named it is not told where that fails: nothing of the file is missing, and who was told otherwise would make it anew, or say that it is not there. What names it again tries this again.
func (u *unnamed) pin(of *blocktree.FileInfo) {
	if u.known {
		return
	}
	err := u.n.pin(of.ID, u.n.op.Path)
	if u.known = err == nil; !u.known && u.open.Logger != nil {
		u.open.Logger.Error("the access record of a new file could not be pinned", "file", of.Path.Short(), "err", err)
	}
}

// pin remembers the record of a file that was just made: also where another file was pinned, as this one is known to be new.
func (n *making) pin(made blocktree.FileID, path blocktree.Path) error {
	if n.access == nil || n.o.Pins == nil {
		return nil
	}
	pins := n.o.Pins
	if files, ok := pins.(FilePins); ok {
		pins = files.Of(made)
	}
	return pins.SetPin(path, n.access.Pin())
}

// CloseName flushes the file, names it as Name does, and gives its lease back by the same command. Nobody uses the file from then on, whatever it returns.
func (f *File) CloseName(ctx context.Context, end uint64) error {
	const op = "file.CloseName"
	u := f.unnamed
	if u == nil {
		return f.fail(op, blocktree.E("", blocktree.Invalid, nil))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.named {
		u.pin(&f.info)
		return f.closeEnd(ctx, u.end, end)
	}
	err := f.tryNames(ctx, func() error {
		return u.namedBy(f.handle.CloseName(ctx, u.k, u.n.op, u.found, end))
	})
	if err != nil {
		_ = f.handle.Close() // the first error is the one to tell; of what the cluster was asked and did not answer the handle sees to the rest
	}
	f.started.Wait()
	if err == nil {
		u.named, u.end = true, end
		u.pin(&f.info)
	}
	return f.fail(op, err)
}
