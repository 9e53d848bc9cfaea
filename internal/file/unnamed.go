package file

import (
	"context"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
)

// MakeUnnamed is MakeHeld of a file of length 0 in a directory that the client keeps (docs/design/0079), without a command or question in most cases: the file has no name at the cluster until Name or CloseName. The inode is as it will be by then. Key and access record are drawn for path, which is to be in k. Kinds: Unsupported, and nothing was done: MakeHeld makes it (no spare is to be had; a tree file; a mode by which its owner could not write it), and those of Make.
// A File that is closed without a name leaves nothing.
func MakeUnnamed(ctx context.Context, c *cluster.Client, k *cluster.KeptDir, path blocktree.Path, o CreateOptions, open OpenOptions) (*File, *meta.Inode, error) {
	return nil, nil, blocktree.E("file.MakeUnnamed", blocktree.Unsupported, nil)
}

// Unnamed reports whether the file has no name yet, as far as is known.
func (f *File) Unnamed() bool { return false }

// Name gives a file of MakeUnnamed its name, on behalf of whom ctx says, and has it end at a byte; what was written must have been flushed (Flush). Then it is a file as any other. Asked again it is done, with the end moved. Kinds: Exists, Permission, NotFound (the directory is gone, or not to be found), Fenced (the lease or the session is gone), NoSpace, Unavailable: then it may have been named; asked again, it is found out.
func (f *File) Name(ctx context.Context, end uint64) error {
	return blocktree.E("file.Name", blocktree.Unsupported, nil)
}

// CloseName flushes the file, names it as Name does, and gives its lease back by the same command. Nobody uses the file from then on, whatever it returns.
func (f *File) CloseName(ctx context.Context, end uint64) error {
	return blocktree.E("file.CloseName", blocktree.Unsupported, nil)
}
