package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/meta"
)

// nobodys is the identity of no file: inode 0 there is not.
var nobodys = blocktree.FileID{Generation: 1<<64 - 1}

// complete fills in what a listing does not say of files that another cluster keeps. What is gone there, or may not be seen, stays as it is: a name.
func (c *Client) complete(ctx context.Context, entries []meta.DirEntry) error {
	for i := range entries {
		e := &entries[i].Inode
		if c.tree == nil || e.Kind != meta.KindFile || e.SectorBytes != 0 {
			continue
		}
		inode, err := c.StatID(ctx, e.ID)
		switch kind := blocktree.KindOf(err); {
		case err == nil:
			*e = *inode
			e.Access, e.Anchor = nil, nil
		case kind != blocktree.NotFound && kind != blocktree.Permission:
			return err
		}
	}
	return nil
}

// removeMoved removes a file whose entry is in another cluster than itself: first the file, so that whoever is cut off has a name left to ask again by.
func (c *Client) removeMoved(ctx context.Context, path blocktree.Path, f blocktree.FileID) error {
	r, err := c.propose(ctx, meta.RemoveMoved{File: f})
	if err == nil && r.Kind != blocktree.NotFound {
		err = r.Err("cluster.Remove")
	}
	if err != nil {
		return err
	}
	if r, err = c.propose(ctx, meta.DropEntry{Path: path, File: f}); err == nil && r.Kind != blocktree.NotFound {
		err = r.Err("cluster.Remove")
	}
	return err
}

// RemoveHome removes a file that has no entry in its own cluster, and leaves that of the other: the first half of Remove.
func (c *Client) RemoveHome(ctx context.Context, f blocktree.FileID) error {
	r, err := c.propose(ctx, meta.RemoveMoved{File: f})
	if err == nil {
		err = r.Err("cluster.Remove")
	}
	return err
}
