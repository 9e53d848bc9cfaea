package mount

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
)

var _ gofs.NodeStatfser = (*node)(nil)

// Statfs implements gofs.NodeStatfser. How much room there is no service says (docs/design/0058): zeros, which df leaves out.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize = uint32(n.tree.o.SectorBytes), uint32(n.tree.o.SectorBytes)
	out.NameLen = blocktree.NameBytesMax
	return 0
}
