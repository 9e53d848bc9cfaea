package mount

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// Bits of an inode number that are the inode's, and those above that are the generation's. Numbers stay below 2^63, from where go-fuse takes its own.
const (
	inodeBits      = 40
	generationBits = 23
)

// number is the inode number of a file; ok is false where it has none of its own.
func number(id blocktree.FileID) (ino uint64, ok bool) {
	g, i := uint64(id.Generation), uint64(id.Inode)
	if g>>generationBits != 0 || i>>inodeBits != 0 || g == 0 && i == 0 {
		return 0, false
	}
	return g<<inodeBits | i, true
}

// node is a file or directory that the kernel knows of.
type node struct {
	gofs.Inode
	tree *tree
	id   blocktree.FileID
	// changed is when its file was last given back by its writer, in nanoseconds since 1970: what was asked for before that may be of before.
	changed atomic.Int64
	belief  *belief                        // nil of what is no file
	at      atomic.Pointer[blocktree.Path] // while it is made, and in no directory yet
	target  atomic.Pointer[string]         // of a symbolic link, once it was asked for
}

var (
	_ gofs.NodeLookuper       = (*node)(nil)
	_ gofs.NodeGetattrer      = (*node)(nil)
	_ gofs.NodeAccesser       = (*node)(nil)
	_ gofs.NodeOpener         = (*node)(nil)
	_ gofs.NodeOpendirHandler = (*node)(nil)
	_ gofs.NodeFsyncer        = (*node)(nil)
	_ gofs.NodeSetattrer      = (*node)(nil)
	_ gofs.NodeOnForgetter    = (*node)(nil)
)

// path is the newest name that the node was found by.
func (n *node) path() blocktree.Path {
	if at := n.at.Load(); at != nil {
		return *at
	}
	p := n.tree.root
	if below := n.Path(n.Root()); below != "" {
		for _, name := range strings.Split(below, "/") {
			p = p.Join(name)
		}
	}
	return p
}

// stat asks what a path names.
func (t *tree) stat(ctx context.Context, path blocktree.Path) (info fs.Info, err error) {
	err = t.ask(ctx, func(ctx context.Context) (err error) {
		info, err = t.statOnce(ctx, path)
		return err
	})
	return info, err
}

// statOnce asks once.
func (t *tree) statOnce(ctx context.Context, path blocktree.Path) (fs.Info, error) {
	info, err := t.source.Stat(ctx, path)
	return t.seen(info), err
}

// lookAgain has the kernel look again for what is not there by the name that its node has here: a look at a name of before, which was answered late, may have given it that one.
func lookAgain(e syscall.Errno) syscall.Errno {
	if e == syscall.ENOENT {
		return syscall.ESTALE
	}
	return e
}

// same compares a node with what its name means now.
func (n *node) same(info *fs.Info) syscall.Errno {
	if info.ID != n.id {
		return syscall.ESTALE
	}
	return 0
}

// fill writes the attributes of a file or directory.
func (t *tree) fill(info *fs.Info, out *fuse.Attr) syscall.Errno {
	ino, ok := number(info.ID)
	if !ok {
		return syscall.EOVERFLOW
	}
	out.Ino, out.Mode, out.Nlink = ino, kindBits(info)|info.Mode&0o777, 1
	out.Size, out.Uid, out.Gid = info.Length, t.uid, t.gid
	out.Blocks = fs.AttributesOf(info).AllocatedBytes / 512
	seconds, nanoseconds := stamp(info.Modified)
	out.Atime, out.Mtime, out.Atimensec, out.Mtimensec = seconds, seconds, nanoseconds, nanoseconds
	changed := info.Changed
	if changed == 0 {
		changed = info.Modified
	}
	out.Ctime, out.Ctimensec = stamp(changed)
	return 0
}

func kindBits(info *fs.Info) uint32 {
	switch {
	case info.Dir:
		return syscall.S_IFDIR
	case info.Link:
		return syscall.S_IFLNK
	}
	return syscall.S_IFREG
}

// stamp cuts nanoseconds since 1970; what was before is 1970.
func stamp(t int64) (seconds uint64, nanoseconds uint32) {
	t = max(t, 0)
	return uint64(t / 1e9), uint32(t % 1e9)
}

// looksMax bounds how often attributes are asked for again because the file was closed meanwhile.
const looksMax = 4

// look asks for the attributes of what a path names; of is the node that it had, nil for none. What was asked for before the writer of the file closed it is asked for again.
func (t *tree) look(ctx context.Context, path blocktree.Path, of func() *node) (info fs.Info, err error) {
	if err := t.nameAt(ctx, path); err != nil {
		return info, err
	}
	for range looksMax {
		began := time.Now().UnixNano()
		if info, err = t.stat(ctx, path); err != nil {
			return info, err
		}
		if n := of(); n == nil || n.id != info.ID || t.writer(info.ID) != nil || n.changed.Load() < began {
			break
		}
	}
	return info, nil
}

// written has attributes say what the programs of this mount have made of a file that they write.
func (t *tree) written(info *fs.Info) {
	w := t.writer(info.ID)
	if w == nil {
		return
	}
	if mode := w.mode.Load(); mode != nil {
		info.Mode = *mode
	}
	if !w.isOpen() {
		return
	}
	info.Length = w.end.Load()
	if at := w.wrote.Load(); at != 0 {
		info.Modified, info.Changed = at, max(at, info.Changed)
	}
}

// told is the length of the node's file that was said last, which the kernel may go by.
func (n *node) told() *atomic.Uint64 { return &n.belief.length }

// child makes a node of an entry. Where the kernel has one of that file already go-fuse goes on with that, and drops this one.
func (n *node) child(ctx context.Context, info *fs.Info, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	n.tree.written(info)
	if e := n.tree.fill(info, &out.Attr); e != 0 {
		return nil, e
	}
	out.SetAttrTimeout(blocktree.MountCacheFor)
	c := &node{tree: n.tree, id: info.ID}
	if !info.Dir && !info.Link {
		c.belief = n.tree.beliefOf(info.ID)
	}
	return n.NewInode(ctx, c, gofs.StableAttr{Mode: kindBits(info), Ino: out.Attr.Ino}), 0
}

// below is the path of a name in the directory; absent is the errno where nothing can have that name.
func (n *node) below(name string, absent syscall.Errno) (blocktree.Path, syscall.Errno) {
	if err := blocktree.CheckName(name); err != nil {
		if blocktree.KindOf(err) == blocktree.TooLarge {
			return "", syscall.ENAMETOOLONG
		}
		return "", absent
	}
	path := n.path().Join(name)
	if _, err := blocktree.ParsePath(string(path), blocktree.Principal{}); err != nil {
		return "", syscall.ENAMETOOLONG // its names are good
	}
	return path, 0
}

// named is the node that a name has now, nil if the kernel knows of none.
func (n *node) named(name string) *node {
	if i := n.GetChild(name); i != nil {
		c, _ := i.Operations().(*node)
		return c
	}
	return nil
}

// Lookup implements gofs.NodeLookuper.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	path, e := n.below(name, syscall.ENOENT)
	if e != 0 {
		return nil, e
	}
	if n.absent(ctx, name) {
		return nil, syscall.ENOENT
	}
	if c := n.named(name); c != nil && c.rememberedAt(path, out) {
		return c.EmbeddedInode(), 0
	}
	asked := n.tree.asks(ctx)
	defer asked.end()
	for {
		asked.begin()
		takings := n.tree.takings.Load()
		info, err := n.tree.look(ctx, path, func() *node { return n.named(name) })
		if err != nil {
			return nil, errno(err)
		}
		n.tree.hear(ctx, info.ID)
		n.tree.found(info.ID, takings)
		if i, e := n.child(ctx, &info, out); e != 0 || asked.of(i, out) {
			return i, e
		}
	}
}

// Getattr implements gofs.NodeGetattrer.
func (n *node) Getattr(ctx context.Context, f gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	asked := n.tree.asks(ctx)
	defer asked.end()
	for {
		asked.begin()
		e := n.attributes(ctx, f, out)
		if e == 0 && n.belief != nil && !asked.tell(n.belief, &out.Attr) {
			continue
		}
		if out.Timeout() == 0 { // else it is from memory
			out.SetTimeout(asked.lasts)
		}
		return e
	}
}

// attributes asks for the attributes of the node, of which f may be a handle.
func (n *node) attributes(ctx context.Context, f gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if n.isNameless() {
		return n.describeOpen(ctx, f, out)
	}
	if n.describeUnnamed(ctx, f, out) || n.remembered(out) {
		return 0
	}
	remember := n.remembers()
	info, err := n.tree.look(ctx, n.path(), func() *node { return n })
	if missing := blocktree.KindOf(err) == blocktree.NotFound && !fs.NoService(err); f != nil && (missing || err == nil && info.ID != n.id) { // somebody else has taken its name
		return n.describeOpen(ctx, f, out)
	}
	if err != nil {
		return lookAgain(errno(err))
	}
	if e := n.same(&info); e != 0 {
		return e
	}
	n.tree.hear(ctx, n.id)
	n.tree.written(&info)
	e := n.tree.fill(&info, &out.Attr)
	if e == 0 {
		remember(&out.Attr)
	}
	return e
}

// Access implements gofs.NodeAccesser: whoever may be told of it may try, and is judged then.
func (n *node) Access(ctx context.Context, mask uint32) syscall.Errno {
	const write, execute = 2, 1
	if mask&write != 0 && n.tree.o.ReadOnly {
		return syscall.EROFS
	}
	info, err := n.tree.look(ctx, n.path(), func() *node { return n })
	if err != nil {
		return lookAgain(errno(err))
	}
	n.tree.written(&info)
	if mask&execute != 0 && !info.Dir && info.Mode&0o111 == 0 || mask&write != 0 && info.Mode&0o222 == 0 {
		return syscall.EACCES
	}
	return n.same(&info)
}

// Fsync implements gofs.NodeFsyncer. What is open to read has all flushed that programs of this mount wrote to the file; of directories, what was made and moved is durable when it was answered.
func (n *node) Fsync(ctx context.Context, f gofs.FileHandle, _ uint32) syscall.Errno {
	if err := n.tree.sendClosed(ctx); err != nil {
		return openErrno(err)
	}
	if h, ok := f.(*writing); ok {
		return h.fsync(ctx)
	}
	w := n.tree.writer(n.id)
	if w == nil {
		return 0
	}
	err := w.dead()
	if err == nil {
		err = w.settle(ctx)
	}
	if errors.Is(err, errNotOpen) { // it was closed just now, and so flushed
		return 0
	}
	return openErrno(err)
}

// Open implements gofs.NodeOpener.
func (n *node) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		h, f, e := n.openToWrite(ctx, flags)
		return h, f, lookAgain(e)
	}
	if flags&syscall.O_TRUNC != 0 {
		return nil, 0, syscall.EROFS // which is done by nobody
	}
	began := time.Now().UnixNano()
	h, e := n.open(ctx)
	if e != 0 {
		return nil, 0, lookAgain(e)
	}
	if attr := n.said(h.current()); !n.goesBy(&attr, began) {
		n.forgets(&attr, threadOf(ctx))
	}
	return h, 0, 0
}

// said is what the open of a file has said of it; nothing where it cannot be told.
func (n *node) said(f fs.File) (attr fuse.Attr) {
	info := n.tree.infoOf(f)
	n.tree.fill(&info, &attr)
	return attr
}

// goesBy reports whether all that the kernel may believe of the node's file is what its open has said, which began then, in nanoseconds since 1970.
func (n *node) goesBy(said *fuse.Attr, began int64) bool {
	return said.Ino != 0 && n.tree.writer(n.id) == nil && n.changed.Load() < began && n.belief.goBy(n.tree, said)
}

// forgets has the kernel forget the attributes of the node's file; opened and thread as for belief.forget.
func (n *node) forgets(opened *fuse.Attr, thread uint32) {
	n.belief.forget(n.tree, opened, thread, func() syscall.Errno { return n.NotifyContent(-1, 0) }) // attributes only
}

// OpendirHandle implements gofs.NodeOpendirHandler.
func (n *node) OpendirHandle(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if !n.tree.enter() {
		return nil, 0, syscall.ENFILE
	}
	return &listing{node: n}, 0, 0
}

// enter takes a place for an open file or directory.
func (t *tree) enter() bool {
	select {
	case t.open <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t *tree) leave() { <-t.open }
