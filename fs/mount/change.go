package mount

import (
	"context"
	"errors"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// What changes names and attributes.

var (
	_ gofs.NodeCreater  = (*node)(nil)
	_ gofs.NodeMkdirer  = (*node)(nil)
	_ gofs.NodeMknoder  = (*node)(nil)
	_ gofs.NodeUnlinker = (*node)(nil)
	_ gofs.NodeRmdirer  = (*node)(nil)
	_ gofs.NodeRenamer  = (*node)(nil)
	_ gofs.NodeLinker   = (*node)(nil)
)

// toName is the path of a name that is to be changed.
func (n *node) toName(name string) (blocktree.Path, syscall.Errno) {
	if n.tree.o.ReadOnly {
		return "", syscall.EROFS
	}
	return n.below(name, syscall.EINVAL)
}

// toChange is toName of what is about to be asked for.
func (n *node) toChange(name string) (blocktree.Path, syscall.Errno) {
	path, e := n.toName(name)
	if e == 0 {
		n.claim(name)
	}
	return path, e
}

// toMake has a name claimed that a service is about to make, and what is pending there sent: else nobody but this mount would know that it is there.
func (n *node) toMake(ctx context.Context, name string, path blocktree.Path) syscall.Errno {
	n.claim(name)
	return openErrno(n.tree.nameAt(ctx, path))
}

// specialBits are those of a mode that are not kept: set-user-id, set-group-id, sticky.
const specialBits = 0o7000

// ownerBits let the owner read and write.
const ownerBits = 0o600

// Create implements gofs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	i, h, f, e := n.create(ctx, name, flags, mode, out)
	if e == 0 {
		w, _ := h.(*writing)
		unordered(i, &out.Attr, w)
	}
	return i, h, f, e
}

func (n *node) create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	path, e := n.toName(name)
	if e != 0 {
		return nil, nil, 0, e
	}
	if i, h, e := n.makePending(ctx, name, path, mode, flags, out); e != errElse {
		if e != 0 {
			return nil, nil, 0, e
		}
		return i, h, 0, 0
	}
	defer n.alters()
	if e := n.toMake(ctx, name, path); e != 0 {
		return nil, nil, 0, e
	}
	if i, h, e := n.makeOpen(ctx, path, mode, flags, out); e != errElse {
		if e != 0 {
			return nil, nil, 0, e
		}
		return i, h, 0, 0
	}
	id, made, e := n.make(ctx, path, mode, flags)
	if e != 0 {
		return nil, nil, 0, e
	}
	var i *gofs.Inode
	if id == (blocktree.FileID{}) {
		i, e = n.Lookup(ctx, name, out)
	} else { // what there is to say of it, the open does
		i, e = n.child(ctx, &fs.Info{ID: id}, out)
	}
	if e != 0 {
		return nil, nil, 0, e
	}
	c := i.Operations().(*node)
	c.at.Store(&path)
	defer c.at.Store(nil)
	if flags&syscall.O_ACCMODE == syscall.O_RDONLY {
		h, e := c.open(ctx)
		if _, ok := n.tree.source.(Moder); e == 0 && made && ok && mode&ownerBits != ownerBits { // it was made with those
			if e = c.setMode(ctx, mode); e != 0 {
				h.Release(ctx)
			}
		}
		if e != 0 {
			return nil, nil, 0, e
		}
		if e = c.describe(h.current(), out); made { // of before the mode was set
			out.Mode = kindBits(&fs.Info{}) | mode&0o777
		}
		return i, h, 0, e
	}
	h, e := c.createWriting(ctx, flags, mode, made)
	if e != 0 {
		return nil, nil, 0, e
	}
	return i, h, 0, c.describe(h.writer.lockable(), out)
}

// describe says of a file that was opened just now what its open said, and what was done since.
func (n *node) describe(f fs.File, out *fuse.EntryOut) syscall.Errno {
	if f == nil { // it is gone already, which is told when it is used
		return 0
	}
	info := n.tree.infoOf(f)
	n.tree.written(&info)
	n.told().Store(info.Length)
	return n.tree.fill(&info, &out.Attr)
}

// createWriting opens what was made, or was there.
func (n *node) createWriting(ctx context.Context, flags, mode uint32, made bool) (*writing, syscall.Errno) {
	h, e := n.writing(ctx, flags, made, nil)
	if e != 0 {
		return nil, e
	}
	if wanted := mode & 0o777; made && wanted&ownerBits != ownerBits {
		h.writer.mode.Store(&wanted)
	}
	if !made && flags&syscall.O_TRUNC != 0 {
		if err := h.writer.truncate(ctx, 0); err != nil {
			h.Release(ctx)
			return nil, openErrno(err)
		}
	}
	return h, 0
}

// make makes an empty file, unless it is there and need not be new.
func (n *node) make(ctx context.Context, path blocktree.Path, mode, flags uint32) (id blocktree.FileID, made bool, e syscall.Errno) {
	if mode&specialBits != 0 {
		return id, false, syscall.EPERM
	}
	o := fs.CreateOptions{SizeBytes: uint64(n.tree.o.SectorBytes), SectorBytes: n.tree.o.SectorBytes, Code: n.tree.o.Code, Mode: mode&0o777 | ownerBits, Durability: n.tree.o.Durability}
	empty := false
	err := n.tree.change(ctx, func(ctx context.Context, unsure bool) error {
		err := n.tree.create(ctx, path, o, &id, &empty)
		if unsure && flags&(syscall.O_EXCL|syscall.O_TRUNC) != syscall.O_TRUNC { // it may be half made
			err = mayBeOurs(err)
		}
		return err
	})
	if blocktree.KindOf(err) == blocktree.Exists && flags&syscall.O_EXCL == 0 {
		return blocktree.FileID{}, false, 0
	}
	if err == nil && !empty {
		err = n.tree.change(ctx, func(ctx context.Context, _ bool) error { return n.tree.source.SetLength(ctx, path, 0) })
	}
	return id, err == nil, errno(err)
}

// create has a file made, and keeps which one, if that is said. empty says that it ends at byte 0: by what made it, as another may have its name by now. Else, at a service of a version before, it is as long as it is large.
func (t *tree) create(ctx context.Context, path blocktree.Path, o fs.CreateOptions, id *blocktree.FileID, empty *bool) (err error) {
	if m, ok := t.source.(fs.MakeOpener); ok {
		f, err := m.MakeOpen(ctx, path, o)
		if err == nil {
			*id, *empty = t.infoOf(f).ID, true
			return f.Close() // by which it has its name
		}
		if blocktree.KindOf(err) != blocktree.Unsupported {
			return err
		}
	}
	m, ok := t.source.(Maker)
	if !ok {
		return t.source.Create(ctx, path, o)
	}
	made, err := m.Make(ctx, path, o)
	*id = t.identities.here(made)
	return err
}

// mayBeOurs is the error of something that is there, after it may have been made by who asks.
func mayBeOurs(err error) error {
	if err != nil && blocktree.KindOf(err) == blocktree.Exists {
		return blocktree.E("mount", blocktree.IO, err)
	}
	return err
}

// Mkdir implements gofs.NodeMkdirer.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	path, e := n.toName(name)
	if e != 0 {
		return nil, e
	}
	if mode&specialBits != 0 {
		return nil, syscall.EPERM
	}
	defer n.alters()
	made := n.tree.fills.begin(path)
	defer n.tree.fills.ended(made)
	if e := n.toMake(ctx, name, path); e != 0 {
		return nil, e
	}
	certain, takings := false, n.tree.takings.Load()
	err := n.tree.change(ctx, func(ctx context.Context, unsure bool) (err error) {
		err = n.tree.fills.mkdir(ctx, made, mode&0o777)
		if unsure {
			err = mayBeOurs(err)
		}
		certain = !unsure
		return err
	})
	if n.doubt(err); err != nil {
		return nil, errno(err)
	}
	var i *gofs.Inode
	asked := made.asked
	if info := n.tree.seen(made.info); certain && made.info.ID != (blocktree.FileID{}) {
		n.tree.found(info.ID, takings)
		i, e = n.child(ctx, &info, out)
	} else {
		asked = n.tree.fills.clock()
		i, e = n.Lookup(ctx, name, out)
	}
	if e == 0 && certain {
		n.tree.fills.made(i.Operations().(*node).id, &out.Attr, asked, made)
	}
	return i, e
}

// Mknod implements gofs.NodeMknoder, for files alone.
func (n *node) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	path, e := n.toName(name)
	if e != 0 {
		return nil, e
	}
	defer n.alters()
	if e := n.toMake(ctx, name, path); e != 0 {
		return nil, e
	}
	if kind := mode & syscall.S_IFMT; kind != syscall.S_IFREG && kind != 0 || mode&ownerBits != ownerBits {
		return nil, syscall.EPERM
	}
	if _, _, e := n.make(ctx, path, mode&^syscall.S_IFMT, syscall.O_EXCL); e != 0 {
		return nil, e
	}
	i, e := n.Lookup(ctx, name, out)
	if e == 0 {
		unordered(i, &out.Attr, nil)
	}
	return i, e
}

// Link implements gofs.NodeLinker: a file has one name (docs/design/0050).
func (n *node) Link(_ context.Context, _ gofs.InodeEmbedder, name string, _ *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	if _, e := n.toChange(name); e != 0 {
		return nil, e
	}
	return nil, syscall.EPERM
}

// Unlink implements gofs.NodeUnlinker.
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno { return n.remove(ctx, name) }

// Rmdir implements gofs.NodeRmdirer.
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno { return n.remove(ctx, name) }

func (n *node) remove(ctx context.Context, name string) syscall.Errno {
	path, e := n.toChange(name)
	if e != 0 {
		return e
	}
	defer n.alters()
	c := n.named(name)
	defer n.tree.dropDir(c, path)()
	if err := n.tree.sendClosed(ctx); err != nil {
		return openErrno(err)
	}
	if err := unsent(n.tree.nameBelow(ctx, path)); err != nil { // what else could not be is not there, or goes with this
		return openErrno(err)
	}
	certain := false
	err := n.tree.change(ctx, func(ctx context.Context, unsure bool) error {
		certain = !unsure
		err := n.tree.parked(ctx, c, func() error { return n.tree.removeOnce(ctx, path, c) })
		if unsure && blocktree.KindOf(err) == blocktree.NotFound && !fs.NoService(err) {
			return nil // as it was to be
		}
		return err
	})
	if n.doubt(err); err == nil && certain {
		n.unclaim(name)
	}
	c.lost(err)
	return n.tree.full(ctx, path, err)
}

// parked takes the name from what a node is, if one is known. What was finished at a close, and a program has open yet, is opened first, as it is kept for who has it open alone. Where a service does not take the name of what is open for writing, one of a version before, or another than that by which it is open, it is closed first.
func (t *tree) parked(ctx context.Context, n *node, take func() error) error {
	if n != nil {
		if w := t.writer(n.id); w != nil {
			w.leaving.Add(1) // it is not finished from here on
			defer w.leaving.Add(-1)
			w.wake(ctx)
		}
	}
	err := take()
	if blocktree.KindOf(err) != blocktree.Busy || n == nil || t.writer(n.id) == nil {
		return err
	}
	t.park(ctx, n.id)
	return take()
}

// removeOnce removes what has a name, or what the kernel means by it, if that is known and the service takes its identity: whatever else has the name by then stays. errOther says that something has, and the kernel looks again.
func (t *tree) removeOnce(ctx context.Context, path blocktree.Path, c *node) error {
	r, ok := t.source.(fs.Remover)
	if !ok || c == nil {
		return t.source.Remove(ctx, path)
	}
	err := r.RemoveFile(ctx, path, t.identities.there(c.id))
	switch {
	case blocktree.KindOf(err) == blocktree.Unsupported: // a service of a version before
		return t.source.Remove(ctx, path)
	case blocktree.KindOf(err) == blocktree.NotFound && !fs.NoService(err):
		if info, e := t.statOnce(ctx, path); e == nil && info.ID != c.id {
			return errors.Join(errOther, err)
		}
	}
	return err
}

// full tells a directory that is not empty from what is busy.
func (t *tree) full(ctx context.Context, path blocktree.Path, err error) syscall.Errno {
	if blocktree.KindOf(err) == blocktree.Busy {
		if page, _, e := t.source.ReadDirAfter(ctx, path, "", 1); e == nil && len(page) > 0 {
			return syscall.ENOTEMPTY
		}
	}
	return openErrno(err)
}

// renameNoReplace is the flag of renameat2 that is known here.
const renameNoReplace = 1

// Rename implements gofs.NodeRenamer.
func (n *node) Rename(ctx context.Context, name string, parent gofs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := parent.(*node)
	if !ok || flags&^renameNoReplace != 0 {
		return syscall.EINVAL
	}
	from, e := n.toChange(name)
	if e != 0 {
		return e
	}
	path, e := to.toChange(newName)
	if e != 0 {
		return e
	}
	defer n.alters()
	defer to.alters()
	moved, over := n.named(name), to.named(newName)
	if over == moved || flags&renameNoReplace != 0 {
		over = nil
	}
	defer n.tree.dropDir(moved, from)()
	defer n.tree.dropDir(over, path)()
	if err := n.tree.sendClosed(ctx); err != nil {
		return openErrno(err)
	}
	if err := n.tree.nameBelow(ctx, from); err != nil { // what was written to it is not there: it is to replace nothing
		return openErrno(err)
	}
	if err := unsent(n.tree.nameBelow(ctx, path)); err != nil { // what else could not be is not there, or goes with this
		return openErrno(err)
	}
	certain := false
	err := n.tree.change(ctx, func(ctx context.Context, unsure bool) error {
		certain = !unsure
		unsure = unsure && moved != nil
		if unsure { // what has the old name by then is somebody else's
			if info, err := n.tree.statOnce(ctx, path); err == nil && info.ID == moved.id || passing(err) {
				return err
			}
		}
		err := n.tree.parked(ctx, over, func() error { return n.tree.renameOnce(ctx, from, path, over, flags&renameNoReplace != 0) })
		if k := blocktree.KindOf(err); err != nil && unsure && (k == blocktree.NotFound && !fs.NoService(err) || k == blocktree.Exists) {
			if info, e := n.tree.statOnce(ctx, path); e == nil && info.ID == moved.id {
				return nil // it was done before
			}
		}
		return err
	})
	n.doubt(err)
	if to.doubt(err); err == nil && certain {
		n.unclaim(name)
	}
	over.lost(err)
	return n.tree.full(ctx, path, err)
}

// renamer is a Source that has a file renamed in the place of one that it may have open.
type renamer interface {
	RenameOver(ctx context.Context, from, to blocktree.Path, over blocktree.FileID) error
}

// renameOnce has what is at from be at to, in the place of a node, if one is known.
func (t *tree) renameOnce(ctx context.Context, from, to blocktree.Path, over *node, keep bool) error {
	if r, ok := t.source.(renamer); ok && over != nil {
		return r.RenameOver(ctx, from, to, t.identities.there(over.id))
	}
	return t.source.Rename(ctx, from, to, keep)
}

// Setattr implements gofs.NodeSetattrer.
func (n *node) Setattr(ctx context.Context, f gofs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if n.tree.o.ReadOnly {
		return syscall.EROFS
	}
	if e := n.owner(in); e != 0 {
		return e
	}
	if mode, ok := in.GetMode(); ok {
		if e := n.setMode(ctx, mode); e != 0 {
			return e
		}
	}
	if size, ok := in.GetSize(); ok {
		if e := n.truncate(ctx, f, size); e != 0 {
			return e
		}
	}
	if e := n.setTimes(ctx, f, in); e != 0 {
		return e
	}
	e := n.Getattr(ctx, f, out)
	if e == 0 {
		unordered(n.EmbeddedInode(), &out.Attr, nil)
		out.SetTimeout(0) // which the kernel does not go by, whatever it heard meanwhile
	}
	return e
}

// owner refuses every owner and group but those that are shown.
func (n *node) owner(in *fuse.SetAttrIn) syscall.Errno {
	uid, u := in.GetUID()
	gid, g := in.GetGID()
	if u && uid != n.tree.uid || g && gid != n.tree.gid {
		return syscall.EPERM
	}
	return 0
}

// setMode changes the mode. What takes the owner's right to read or write from a file that is being written here is done when it is not any more; the rest is done at once, so that who must not read it any more does not, and who may not say so is told.
func (n *node) setMode(ctx context.Context, mode uint32) syscall.Errno {
	m, ok := n.tree.source.(Moder)
	if !ok {
		return syscall.EOPNOTSUPP
	}
	if mode&specialBits != 0 {
		return syscall.EPERM
	}
	mode &= 0o777
	if n.isNameless() {
		return n.setModeNameless(mode)
	}
	if n.setModePending(mode) {
		return 0
	}
	if mode&0o300 != 0o300 { // before what was made until then is sent
		defer n.mayNotMake()()
	}
	n.changes()
	if err := n.toSet(ctx); err != nil {
		return openErrno(err)
	}
	defer n.changes() // once more: who asked meanwhile heard of what was before
	give := func(mode uint32) syscall.Errno {
		return ownerErrno(n.tree.change(ctx, func(ctx context.Context, _ bool) error {
			return m.SetMode(ctx, n.path(), n.tree.identities.there(n.id), mode)
		}))
	}
	w := n.tree.writer(n.id)
	if w != nil && w.settled() { // also of what a close that was not the last one has closed at the service: it is opened by its name again
		if mode&ownerBits == ownerBits {
			w.mode.Store(nil)
			return give(mode)
		}
		if e := give(mode | ownerBits); e != 0 {
			return e
		}
		w.mode.Store(&mode)
		if w.settled() || w.mode.Swap(nil) == nil { // else it was closed before it knew
			return 0
		}
	} else if w != nil {
		w.mode.Store(nil) // it was closed, and is given this one
	}
	return give(mode)
}

// mayNotMake is for a directory from which the owner's right to make names is about to be taken: neither it nor what is beneath is filled any more, nor what is made there until ends is called.
func (n *node) mayNotMake() (ends func()) {
	if !n.IsDir() {
		return func() {}
	}
	return n.tree.fills.drop(n.path())
}

// truncate gives the file another length.
func (n *node) truncate(ctx context.Context, f gofs.FileHandle, length uint64) syscall.Errno {
	if h, ok := f.(*writing); ok {
		if err := h.writer.truncate(ctx, length); err != nil {
			return openErrno(err)
		}
		n.told().Store(length)
		return 0
	}
	w, err := n.acquire(ctx, false, nil)
	if err != nil {
		return openErrno(err)
	}
	err = w.truncate(ctx, length)
	if e := w.release(ctx); err == nil {
		err = e
	}
	if err == nil {
		n.told().Store(length)
	}
	return openErrno(err)
}
