package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/meta"
)

// Rename has a file or directory get another name, as meta.Rename says.
func (c *Client) Rename(ctx context.Context, o meta.Rename) error {
	_, err := c.change(ctx, "rename", o.From, o)
	return err
}

// AccessFile is Access of a file by its identity, wherever it is.
func (c *Client) AccessFile(ctx context.Context, f blocktree.FileID) (*meta.Inode, *meta.Access, error) {
	return c.access(ctx, meta.Query{Kind: meta.QueryAccess, File: f})
}

// StatFileFor is StatFor of a file by its identity, wherever it is.
func (c *Client) StatFileFor(ctx context.Context, f blocktree.FileID, want meta.Rights) (*meta.Inode, error) {
	i, _, err := c.access(ctx, meta.Query{Kind: meta.QueryAccess, File: f, Want: want})
	return i, err
}
