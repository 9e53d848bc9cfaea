package file

import (
	"context"
	"hash/crc32"
	"sync/atomic"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
)

// MakeHeld is Make of a file that ends at a byte, and Open of it for writing, by one command (docs/design/0067). The file is nil where it was made and is to be opened; the inode is it when it was made, also with an error. It is not one of integrity tree. Kinds beside those of Make: Unsupported, and nothing was done: make it, and open it.
func MakeHeld(ctx context.Context, c *cluster.Client, path blocktree.Path, o CreateOptions, bytes uint64, open OpenOptions) (f *File, inode *meta.Inode, err error) {
	if o.Tree {
		return nil, nil, blocktree.E("file.MakeHeld", blocktree.Unsupported, nil)
	}
	if !o.Plain && o.Keyless.has(path.Parent()) {
		return makeGuessed(ctx, c, path, o, bytes, open)
	}
	n, err := newMaking(ctx, c, path, o)
	if err != nil {
		return nil, nil, err
	}
	return n.held(ctx, c, path, bytes, open)
}

// makeGuessed is MakeHeld of what most likely has no directory above that has a key (docs/design/0072): that is found out while the cluster makes it. Where it has, what was made goes, before anybody is told of it, and is made anew.
func makeGuessed(ctx context.Context, c *cluster.Client, path blocktree.Path, o CreateOptions, bytes uint64, open OpenOptions) (f *File, inode *meta.Inode, err error) {
	n, err := wrapped(ctx, c, path, o, keys.PublicKey{})
	if err != nil {
		return nil, nil, err
	}
	type found struct {
		key keys.PublicKey
		err error
	}
	answer := make(chan found, 1)
	go func() { // ends with ctx, which whoever asks waits for
		key, err := newKey(ctx, c, path.Parent(), o.Pins)
		answer <- found{key, err}
	}()
	f, inode, err = n.held(ctx, c, path, bytes, open)
	k := <-answer
	if k.err == nil && k.key.IsZero() {
		return f, inode, err
	}
	o.Keyless.note(path.Parent(), false)
	if inode == nil { // nothing was made, or nobody knows
		return nil, nil, err
	}
	if f != nil {
		_ = f.Close() // nothing was written
	}
	if err := c.RemoveFile(ctx, path, inode.ID); err != nil {
		return nil, inode, err
	}
	if k.err != nil {
		return nil, nil, k.err
	}
	return MakeHeld(ctx, c, path, o, bytes, open)
}

// held has the cluster make the file, and opens it.
func (n *making) held(ctx context.Context, c *cluster.Client, path blocktree.Path, bytes uint64, open OpenOptions) (f *File, inode *meta.Inode, err error) {
	inode, h, err := c.CreateHeld(ctx, n.op, n.o.Durability, bytes, open.OpenOptions)
	if inode == nil {
		return nil, nil, err
	}
	made := inode.ID
	if err != nil {
		return nil, inode, err
	}
	if err := n.pin(made, path); err != nil {
		if h != nil {
			_ = h.Close() // nothing was written
		}
		return nil, inode, err
	}
	if h == nil {
		return nil, inode, nil
	}
	f = newFile(inode, path, n.ring(made), false)
	f.unlocker = &unlocker{client: c, path: path, reader: open.Reader, plain: open.Plain, pins: open.Pins, last: n.access}
	f.handle, f.regionSectors, f.durability = h, h.RegionSectors(), h.Durability()
	if err := f.keep(ctx, f.heard, open.Logger); err != nil {
		_ = f.Close() // nothing was written
		return nil, inode, err
	}
	return f, inode, nil
}

// Keyless remembers directories of which, and above which, none had a key when a file was made there last. Its zero value remembers none; it is bounded, and may forget. Any number of callers may use it at once.
type Keyless struct {
	dirs [256]atomic.Pointer[blocktree.Path]
	keys [256]atomic.Pointer[dirKey] // of MakeUnnamed
}

// dirKey is what was found of the key for a new file in a directory: the cluster compares it when it names the file.
type dirKey struct {
	dir   blocktree.Path
	key   keys.PublicKey
	found meta.KeyFound
}

// key is what was found of a directory last, nil where nothing is remembered.
func (k *Keyless) key(dir blocktree.Path) *dirKey {
	if k == nil {
		return nil
	}
	if d := k.keyPlace(dir).Load(); d != nil && d.dir == dir {
		return d
	}
	return nil
}

func (k *Keyless) keyPlace(dir blocktree.Path) *atomic.Pointer[dirKey] {
	return &k.keys[crc32.ChecksumIEEE([]byte(dir))%uint32(len(k.keys))]
}

func (k *Keyless) noteKey(d *dirKey) {
	if k != nil {
		k.keyPlace(d.dir).Store(d)
	}
}

// noteKeys is noteKey of a directory and of those above it up to one, which have nothing nearer either: the last first, so that none of them takes the place of the directory that was asked about.
func (k *Keyless) noteKeys(d dirKey, top blocktree.Path) {
	if up := d.dir.Parent(); d.dir != top && up != d.dir && up.Within(top) {
		above := d
		above.dir = up
		k.noteKeys(above, top)
	}
	k.noteKey(&d)
}

// Made notes that a directory was made just now, without a key of its own: what was found of the one that it is in counts for it. Who names a file in it finds out if that is so no more.
func (k *Keyless) Made(dir blocktree.Path) {
	d := k.key(dir.Parent())
	if d == nil {
		k.forgetKey(dir)
		return
	}
	of := *d
	of.dir = dir
	k.noteKey(&of)
}

func (k *Keyless) forgetKey(dir blocktree.Path) {
	if k.key(dir) != nil {
		k.keyPlace(dir).Store(nil)
	}
}

func (k *Keyless) place(dir blocktree.Path) *atomic.Pointer[blocktree.Path] {
	return &k.dirs[crc32.ChecksumIEEE([]byte(dir))%uint32(len(k.dirs))]
}

// has reports whether none had; nil remembers nothing.
func (k *Keyless) has(dir blocktree.Path) bool {
	if k == nil {
		return false
	}
	p := k.place(dir).Load()
	return p != nil && *p == dir
}

// note remembers what was found of a directory.
func (k *Keyless) note(dir blocktree.Path, none bool) {
	switch {
	case k == nil:
	case none:
		k.place(dir).Store(&dir)
	case k.has(dir):
		k.place(dir).Store(nil)
	}
}

// CloseEnd implements blocktree.EndCloser.
func (f *File) CloseEnd(ctx context.Context, was, bytes uint64) error {
	if f.unnamed != nil && f.Unnamed() {
		return f.CloseName(ctx, bytes)
	}
	return f.closeEnd(ctx, was, bytes)
}

func (f *File) closeEnd(ctx context.Context, was, bytes uint64) error {
	const op = "file.CloseEnd"
	f.ending.mu.Lock()
	pending := f.ending.pending != nil
	f.ending.mu.Unlock()
	if f.handle == nil || f.guard != nil || pending { // one step after the other
		err := f.Flush(ctx)
		if err == nil {
			_, err = f.setEnd(ctx, was, bytes)
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
