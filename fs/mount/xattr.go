package mount

import (
	"context"
	"strings"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"

	"blocktree"
	"blocktree/fs"
)

var (
	_ gofs.NodeGetxattrer    = (*node)(nil)
	_ gofs.NodeListxattrer   = (*node)(nil)
	_ gofs.NodeSetxattrer    = (*node)(nil)
	_ gofs.NodeRemovexattrer = (*node)(nil)
)

// xattrPrefix begins the names that there are. Of others, of which the kernel asks for one before each write, no service is asked.
const xattrPrefix = "user."

// Flags of setxattr.
const (
	xattrCreate  = 1
	xattrReplace = 2
)

// xattrs is what has the attribute of a name; nil: there are no such ones.
func (n *node) xattrs(name string) Xattrer {
	x, _ := n.tree.source.(Xattrer)
	if !strings.HasPrefix(name, xattrPrefix) {
		return nil
	}
	return x
}

// Getxattr implements gofs.NodeGetxattrer.
func (n *node) Getxattr(ctx context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	if _, ok := n.tree.source.(Xattrer); !ok {
		return 0, syscall.ENOSYS // the kernel is not to ask again
	}
	x := n.xattrs(name)
	if x == nil {
		return 0, syscall.EOPNOTSUPP
	}
	if err := n.tree.nameFile(ctx, n.id); err != nil {
		return 0, openErrno(err)
	}
	var value []byte
	err := n.tree.ask(ctx, func(ctx context.Context) error {
		return n.byFile(func(f fs.OfFile) (err error) {
			value, err = f.GetXattr(ctx, name)
			return err
		}, func() (err error) {
			value, err = x.GetXattr(ctx, n.path(), name)
			return err
		})
	})
	if err != nil {
		return 0, n.noXattr(ctx, err)
	}
	return into(dest, value)
}

// Listxattr implements gofs.NodeListxattrer.
func (n *node) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	x, ok := n.tree.source.(Xattrer)
	if !ok {
		return 0, syscall.ENOSYS
	}
	if err := n.tree.nameFile(ctx, n.id); err != nil {
		return 0, openErrno(err)
	}
	var names []string
	err := n.tree.ask(ctx, func(ctx context.Context) error {
		return n.byFile(func(f fs.OfFile) (err error) {
			names, err = f.ListXattr(ctx)
			return err
		}, func() (err error) {
			names, err = x.ListXattr(ctx, n.path())
			return err
		})
	})
	if err != nil {
		return 0, errno(err)
	}
	var list []byte
	for _, name := range names {
		list = append(append(list, name...), 0)
	}
	return into(dest, list)
}

// into gives the kernel a value, or how long it is where there is no room for it: whoever asks with no room at all gets that as the answer.
func into(dest, value []byte) (uint32, syscall.Errno) {
	if len(dest) < len(value) {
		return uint32(len(value)), syscall.ERANGE
	}
	return uint32(copy(dest, value)), 0
}

// noXattr is the errno of an attribute that was not got, set or removed: of one that is not there, unless it is the file that is not.
func (n *node) noXattr(ctx context.Context, err error) syscall.Errno {
	if blocktree.KindOf(err) != blocktree.NotFound || fs.NoService(err) {
		return errno(err)
	}
	if n.isNameless() {
		return syscall.ENODATA
	}
	info, err := n.tree.stat(ctx, n.path())
	if err != nil {
		return errno(err)
	}
	if e := n.same(&info); e != 0 {
		return e
	}
	return syscall.ENODATA
}

// Setxattr implements gofs.NodeSetxattrer.
func (n *node) Setxattr(ctx context.Context, name string, value []byte, flags uint32) syscall.Errno {
	if n.tree.o.ReadOnly {
		return syscall.EROFS
	}
	x := n.xattrs(name)
	if x == nil {
		return syscall.EOPNOTSUPP
	}
	if len(name)+len(value) > blocktree.XattrsBytesMax {
		return syscall.E2BIG
	}
	how := fs.SetAny
	switch flags {
	case 0:
	case xattrCreate:
		how = fs.SetCreate
	case xattrReplace:
		how = fs.SetReplace
	default:
		return syscall.EINVAL
	}
	if err := n.tree.nameFile(ctx, n.id); err != nil {
		return openErrno(err)
	}
	n.alters()
	defer n.alters()
	err := n.tree.change(ctx, func(ctx context.Context, unsure bool) error {
		err := n.byFile(func(f fs.OfFile) error { return f.SetXattr(ctx, name, value, how) }, func() error { return x.SetXattr(ctx, n.path(), name, value, how) })
		if unsure {
			err = mayBeOurs(err)
		}
		return err
	})
	if err != nil {
		return n.noXattr(ctx, err)
	}
	return 0
}

// Removexattr implements gofs.NodeRemovexattrer.
func (n *node) Removexattr(ctx context.Context, name string) syscall.Errno {
	if n.tree.o.ReadOnly {
		return syscall.EROFS
	}
	x := n.xattrs(name)
	if x == nil {
		return syscall.EOPNOTSUPP
	}
	if err := n.tree.nameFile(ctx, n.id); err != nil {
		return openErrno(err)
	}
	n.alters()
	defer n.alters()
	err := n.tree.change(ctx, func(ctx context.Context, unsure bool) error {
		err := n.byFile(func(f fs.OfFile) error { return f.RemoveXattr(ctx, name) }, func() error { return x.RemoveXattr(ctx, n.path(), name) })
		if unsure && blocktree.KindOf(err) == blocktree.NotFound && !fs.NoService(err) {
			return nil // as it was to be
		}
		return err
	})
	if err != nil {
		return n.noXattr(ctx, err)
	}
	return 0
}
