package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// Spare returns a file without a name, of length 0, that the client's session keeps and holds (docs/design/0079): of the size, sectors and code of file, where nothing else of that counts. It comes from a pool, which is refilled in the background by one command for many, and grows with its use. The first one waits for a command; nothing is kept of what is not used for SpareIdle. Handle.Name
// gives it a name; a Handle that is closed without one forgets the file. Kinds: Unsupported, and there is none to be had: who asks makes a file by CreateHeld (a cluster of a version before; who may not; too many). Unavailable, Closed.
func (c *Client) Spare(ctx context.Context, file meta.CreateFile, d stripe.Durability, o OpenOptions) (*Handle, error) {
	return nil, blocktree.E("cluster.Spare", blocktree.Unsupported, nil)
}

// Name gives a spare its name: file.Path, in the directory k, whose cluster it must be of, as file says otherwise, by whom ctx is on behalf of. The file ends at end then. It is durable, and others see it, when Name has returned. What was written must have been flushed before. Asked again, also with another end, of a file that has its name by the same path, it is done again.
// Kinds: Exists, NotFound (k is not the directory of the path any more), StaleView (another key than key says is that of the directory: look for it anew), Permission, Fenced (the lease, or the session, is gone, and with it the file), NoSpace, Invalid, Unavailable: then it may have been named; whatever is asked next of the handle finds that out first.
func (h *Handle) Name(ctx context.Context, k *KeptDir, file meta.CreateFile, key meta.KeyFound, end uint64) (*meta.Inode, error) {
	return nil, blocktree.E("cluster.Name", blocktree.Unsupported, nil)
}

// CloseName is Name by the command that gives the lease back, too, once all that was written is flushed. ctx bounds that. Nobody uses the handle from then on, whatever it returns; but of StaleView and NotFound, after which it may be asked again, or closed. Of what it does not know the outcome it is found out in the background: a file that did not get its name is forgotten.
func (h *Handle) CloseName(ctx context.Context, k *KeptDir, file meta.CreateFile, key meta.KeyFound, end uint64) (*meta.Inode, error) {
	return nil, blocktree.E("cluster.CloseName", blocktree.Unsupported, nil)
}
