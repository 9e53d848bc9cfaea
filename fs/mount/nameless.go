package mount

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// A file that was removed, or replaced, while programs have it open: the service keeps it for them (docs/design/0066), and it is found by what they have open alone.

// isNameless reports whether the node's name was taken here. By its identity: what NewInode makes for a lookup need not be the node that the kernel has.
func (n *node) isNameless() bool {
	_, nameless := n.tree.nameless.Load(n.id)
	return nameless
}

// lost notes that the node has no name any more, unless that failed. Nil is nothing.
func (n *node) lost(err error) {
	if n != nil && err == nil {
		n.tree.nameless.Store(n.id, n.tree.takings.Add(1))
	}
}

// found is for who finds a file by a name, and had so many takings behind him when he began to look: what one of these replaced was another file, as this one had another name by then.
func (t *tree) found(id blocktree.FileID, takings uint64) {
	if taking, ok := t.nameless.Load(id); ok && taking.(uint64) <= takings {
		t.nameless.CompareAndDelete(id, taking)
	}
}

// OnForget implements gofs.NodeOnForgetter: nobody has it open any more.
func (n *node) OnForget() {
	n.tree.nameless.Delete(n.id)
}

// describeOpen writes the attributes of a file that has no name any more, by one that is open. Without one it is gone.
func (n *node) describeOpen(ctx context.Context, f gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	var info fs.Info
	stat := func(ctx context.Context, f fs.File) (err error) {
		s, ok := f.(fs.Stater)
		if !ok { // a service of a version before
			return errOther
		}
		info, err = s.Stat(ctx)
		info = n.tree.seen(info)
		return err
	}
	var err error
	h, reads := f.(*handle)
	switch w := n.tree.writer(n.id); {
	case w != nil && w.isOpen():
		err = w.do(ctx, 0, stat)
	case reads:
		err = n.tree.ask(ctx, func(ctx context.Context) error {
			err := stat(ctx, h.current())
			if blocktree.KindOf(err) == blocktree.Undeliverable { // it is gone with its service
				return errOther
			}
			return err
		})
	default:
		return syscall.ESTALE
	}
	if err != nil && blocktree.KindOf(err) == blocktree.NotFound {
		return syscall.ESTALE
	}
	if err != nil {
		return openErrno(err)
	}
	n.tree.hear(ctx, n.id)
	n.tree.written(&info)
	e := n.tree.fill(&info, &out.Attr)
	out.Attr.Nlink = 0
	return e
}

// byFile does something to the node's file, whatever its name is by now; by its path where the service, one of a version before, knows no other way.
func (n *node) byFile(do func(fs.OfFile) error, byPath func() error) error {
	x, ok := n.tree.source.(Identifier)
	if !ok {
		return byPath()
	}
	path := n.tree.root // which says what to ask, where there is no name
	if !n.isNameless() {
		path = n.path()
	}
	err := do(x.OfFile(path, n.tree.identities.there(n.id)))
	if blocktree.KindOf(err) == blocktree.NewerFormat {
		return byPath()
	}
	return err
}

// setModeNameless is setMode of such a file: nobody but who has it open sees its mode.
func (n *node) setModeNameless(mode uint32) syscall.Errno {
	w := n.tree.writer(n.id)
	if w == nil || !w.isOpen() {
		return syscall.ESTALE
	}
	w.mode.Store(&mode)
	return 0
}
