package cluster

import (
	"context"

	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// FileDurability is what an acknowledged write of a file has survived, and what became of such writes.
type FileDurability struct {
	Durability stripe.Durability
	LossNumber uint64 // how often acknowledged writes may have been lost; it only grows
	Lossy      bool   // they may have been since: the next holder raises the number
}

// Durability asks the cluster for the durability of a file, which inode describes. Kinds: NotFound, Unavailable.
func (c *Client) Durability(ctx context.Context, inode *meta.Inode) (FileDurability, error) {
	l, err := c.layout(ctx, inode)
	if err != nil {
		return FileDurability{}, err
	}
	return durabilityOf(l), nil
}

func durabilityOf(l *stripe.Layout) FileDurability {
	return FileDurability{Durability: l.Durability, LossNumber: l.Loss, Lossy: l.Lossy()}
}

// Durability is that of the file that is held.
func (h *Handle) Durability() stripe.Durability {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holder.Layout().Durability
}
