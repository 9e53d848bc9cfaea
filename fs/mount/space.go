package mount

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

var _ gofs.NodeStatfser = (*node)(nil)

// Statfs implements gofs.NodeStatfser, by what the service says of the cluster of the directory, or of that of the directory that a file is in. Where it does not say there are zeros, which df leaves out: it is no reason to fail.
func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	sector := uint64(n.tree.o.SectorBytes)
	out.Bsize, out.Frsize = uint32(sector), uint32(sector)
	out.NameLen = blocktree.NameBytesMax
	s, ok := n.tree.source.(Spacer)
	if !ok {
		return 0
	}
	var x fs.Space
	dir := n.spaceOf()
	if err := n.tree.ask(ctx, func(ctx context.Context) (err error) {
		x, err = s.Space(ctx, dir, n.tree.o.Code)
		return err
	}); err == nil {
		out.Blocks, out.Bfree = x.TotalBytes/sector, x.FreeBytes/sector
		out.Bavail = out.Bfree
	}
	return 0
}

// spaceOf is the directory whose cluster keeps a file, or what is in a directory; of what has no name any more, and no path, the mounted one.
func (n *node) spaceOf() blocktree.Path {
	at := n.EmbeddedInode()
	if !at.IsRoot() {
		_, parent := at.Parent()
		if parent == nil || n.isNameless() {
			return n.tree.root
		}
		if !at.IsDir() {
			at = parent
		}
	}
	if d, ok := at.Operations().(*node); ok {
		return d.path()
	}
	return n.tree.root
}
