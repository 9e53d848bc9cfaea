package mount

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
)

// Symbolic links are shown, and followed by the kernel: no path that is asked for here goes through one.

var (
	_ gofs.NodeSymlinker  = (*node)(nil)
	_ gofs.NodeReadlinker = (*node)(nil)
)

// targetBytesMax is the longest target that the kernel takes.
const targetBytesMax = 4095

// Symlink implements gofs.NodeSymlinker. Where there are none it is EPERM, as symlink(2) says.
func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	path, e := n.toName(name)
	if e != 0 {
		return nil, e
	}
	l, ok := n.tree.source.(Linker)
	if !ok {
		return nil, syscall.EPERM
	}
	defer n.alters()
	if e := n.toMake(ctx, name, path); e != 0 {
		return nil, e
	}
	if err := n.tree.sendClosed(ctx); err != nil {
		return nil, openErrno(err)
	}
	err := n.tree.change(ctx, func(ctx context.Context, unsure bool) error {
		err := l.Symlink(ctx, path, target)
		if unsure {
			err = mayBeOurs(err)
		}
		return err
	})
	if n.doubt(err); err == nil {
		return n.Lookup(ctx, name, out)
	}
	switch blocktree.KindOf(err) {
	case blocktree.Unsupported: // a service of a version before
		return nil, syscall.EPERM
	case blocktree.TooLarge:
		return nil, syscall.ENAMETOOLONG
	}
	return nil, errno(err)
}

// Readlink implements gofs.NodeReadlinker. A link's target never changes, so it is asked for once of each, and used if the name meant that link then.
func (n *node) Readlink(ctx context.Context) ([]byte, syscall.Errno) {
	if target := n.target.Load(); target != nil {
		return []byte(*target), 0
	}
	l, ok := n.tree.source.(Linker)
	if !ok {
		return nil, syscall.EOPNOTSUPP
	}
	var target string
	err := n.tree.ask(ctx, func(ctx context.Context) (err error) {
		target, err = l.ReadLink(ctx, n.path())
		return err
	})
	if err != nil {
		return nil, errno(err)
	}
	info, err := n.tree.stat(ctx, n.path())
	if err != nil {
		return nil, errno(err)
	}
	if e := n.same(&info); e != 0 {
		return nil, e
	}
	if len(target) > targetBytesMax {
		return nil, syscall.ENAMETOOLONG
	}
	n.target.Store(&target)
	return []byte(target), 0
}
