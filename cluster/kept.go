package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/meta"
)

// KeptDir is a directory whose names the session of a client keeps (docs/design/0079): no command of anybody else changes its entries until it is left, or the session ends. Any number of callers may use it at once.
type KeptDir struct {
	client *Client
	dir    blocktree.FileID
	wanted chan struct{}
}

// MakeDirKept makes one directory, as meta.MakeDir says, and has the client's session keep its names from the first. The KeptDir is nil where it was made and is not kept: too many are. Kinds beside those of MakeDir: Unsupported, and nothing was done: who asks makes it by MakeDir (a cluster of a version before; another one than was thought; a session that has ended; Parents is set). Unavailable: it may have been made; then it is
// found out in the background, and left.
func (c *Client) MakeDirKept(ctx context.Context, o meta.MakeDir) (*meta.Inode, *KeptDir, error) {
	return nil, nil, &blocktree.Error{Op: "mkdir", Path: o.Path.Short(), Kind: blocktree.Unsupported}
}

// Dir is the directory's identity: its path may change.
func (k *KeptDir) Dir() blocktree.FileID { return k.dir }

// Client is the client of the cluster that keeps the directory: spares for it are taken there.
func (k *KeptDir) Client() *Client { return k.client }

// Own returns a context under which what is asked of the directory's cluster comes from its keeper, and so is let through. Others are kept out still.
func (k *KeptDir) Own(ctx context.Context) context.Context { return ctx }

// Wanted is closed when somebody else wants a name in the directory, or to change the directory itself, when it was left, and when the session that keeps it has ended. Whoever keeps it then names what it gave away, and leaves it.
func (k *KeptDir) Wanted() <-chan struct{} { return k.wanted }

// Kept reports whether the names are the keeper's for certain at this moment: it was not left, and the session's term, margin taken off, has not run out. Only then what is remembered of the names is what the cluster has. It does not block.
func (k *KeptDir) Kept() bool { return false }

// Leave gives the names back. It does not block: what is left at the same time is one command, which is asked for until it is done, or the session has ended, or the client is closed. Leaving twice does nothing.
func (k *KeptDir) Leave() {}
