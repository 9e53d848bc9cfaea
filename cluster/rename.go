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

// AllowedFile is Allowed of a file by its identity, wherever it is, or if it has no path.
func (c *Client) AllowedFile(ctx context.Context, f blocktree.FileID) (*meta.Inode, *meta.Allowed, error) {
	return c.allowed(ctx, meta.Query{Kind: meta.QueryAllowed, File: f})
}

// StatFileFor is StatFor of a file by its identity, wherever it is.
func (c *Client) StatFileFor(ctx context.Context, f blocktree.FileID, want meta.Rights) (*meta.Inode, error) {
	i, _, err := c.allowed(ctx, meta.Query{Kind: meta.QueryAllowed, File: f, Want: want})
	return i, err
}
