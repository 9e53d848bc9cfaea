package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/meta"
)

// What a move of an old file to the cluster of its directory asks of both (docs/design/0041). internal/file has the order.

// refusalOf is the error of a command that was not done.
func refusalOf(what string, r meta.Result, err error) error {
	if err == nil {
		err = r.Err("cluster." + what)
	}
	return err
}

// BeginMove has the cluster that keeps a directory make a copy of an old file in it, and describes it. Kinds: those of meta.BeginMove.
func (c *Client) BeginMove(ctx context.Context, o meta.BeginMove) (*meta.Inode, error) {
	r, err := c.proposeOnceStarted(ctx, o)
	if err = refusalOf("BeginMove", r, err); err != nil && (blocktree.KindOf(err) != blocktree.Exists || r.Inode == nil) {
		return nil, err
	}
	if bad := checkInode(r.Inode); bad != nil {
		return nil, bad
	}
	return r.Inode, err
}

// Moves are what the client's own cluster has begun and not ended, whatever the directory.
func (c *Client) Moves(ctx context.Context) ([]meta.Move, error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryMoves})
	return a.Moves, err
}

// Names is which file or directory a path names in the client's own cluster, whoever keeps that. NotFound, Elsewhere (another cluster keeps the entry), Invalid.
func (c *Client) Names(ctx context.Context, path blocktree.Path) (blocktree.FileID, error) {
	a, err := c.queryHere(ctx, meta.Query{Kind: meta.QueryStat, Path: path})
	switch {
	case err != nil:
	case a.Redirect != nil && a.Redirect.File != (blocktree.FileID{}):
		return a.Redirect.File, nil
	default:
		err = a.Err("cluster.Names")
	}
	if err == nil {
		err = checkInode(a.Inode)
	}
	if err != nil {
		return blocktree.FileID{}, err
	}
	return a.Inode.ID, nil
}

// DropCopy removes a copy that nobody has adopted.
func (c *Client) DropCopy(ctx context.Context, f blocktree.FileID) error {
	r, err := c.propose(ctx, meta.DropCopy{File: f})
	return refusalOf("DropCopy", r, err)
}

// Stay takes back what was said of a file for a copy, under the lease of that of an epoch or before.
func (c *Client) Stay(ctx context.Context, f, to blocktree.FileID, epoch blocktree.Epoch) error {
	r, err := c.propose(ctx, meta.Stay{File: f, To: to, Epoch: epoch})
	return refusalOf("Stay", r, err)
}

// RemoveLeft removes a file at its home that is left for another.
func (c *Client) RemoveLeft(ctx context.Context, f, to blocktree.FileID) error {
	r, err := c.propose(ctx, meta.RemoveLeft{File: f, To: to})
	return refusalOf("RemoveLeft", r, err)
}

// EndMove ends the move of a copy that was adopted, and whose old file is gone.
func (c *Client) EndMove(ctx context.Context, to blocktree.FileID) error {
	r, err := c.propose(ctx, meta.EndMove{File: to})
	return refusalOf("EndMove", r, err)
}

// Depart says that the file which is held is left for the copy that to holds.
func (h *Handle) Depart(ctx context.Context, to *Handle) error {
	s, err := h.client.theSession(ctx)
	if err != nil {
		return err
	}
	r, err := h.client.propose(ctx, meta.Depart{Session: s.id, File: h.inode.ID, Epoch: h.epoch, To: to.inode.ID, CopyEpoch: to.epoch})
	return refusalOf("Depart", r, err)
}

// Adopt has a path name the copy that is held, in place of the old file that inode and access describe.
func (h *Handle) Adopt(ctx context.Context, path blocktree.Path, i *meta.Inode, a *meta.Allowed) error {
	s, err := h.client.theSession(ctx)
	if err != nil {
		return err
	}
	r, err := h.client.propose(ctx, meta.Adopt{Session: s.id, File: h.inode.ID, Epoch: h.epoch, From: i.ID, Path: path, Mode: i.Mode, UID: i.UID, GID: i.GID, Created: i.Created, Modified: i.Modified,
		HasLength: i.HasLength, LengthBytes: i.LengthBytes, Grants: a.Grants, Last: a.Last})
	return refusalOf("Adopt", r, err)
}
