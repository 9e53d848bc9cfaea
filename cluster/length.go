package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/meta"
)

// SetLength gives the file at path a length in bytes: where reading it as bytes ends. Kinds: NotFound, Invalid (longer than the file's size, or a directory), Permission, Unavailable.
func (c *Client) SetLength(ctx context.Context, path blocktree.Path, bytes uint64) error {
	inode, err := c.Stat(ctx, path)
	if err != nil {
		return err
	}
	_, err = c.change(ctx, "set the length", path, meta.SetLength{File: inode.ID, Bytes: bytes, Time: c.cfg.Clock.Now().UnixNano()})
	return err
}
