package cluster

import (
	"bytes"
	"context"
	"log/slog"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// CreateTreeFile makes a file of integrity tree, whose companion has treeBytes, as CreateFile does.
func (c *Client) CreateTreeFile(ctx context.Context, file meta.CreateFile, durability stripe.Durability, treeBytes uint64) (*meta.Inode, error) {
	return c.createFile(ctx, file.Path, meta.CreateTreeFile{CreateFile: file, Durability: durability, TreeBytes: treeBytes})
}

// StatID describes a file by its identity. NotFound where there is none any more.
func (c *Client) StatID(ctx context.Context, file blocktree.FileID) (*meta.Inode, error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryStatID, File: file})
	if err == nil {
		err = checkInode(a.Inode)
	}
	return a.Inode, err
}

// Logger is where the client logs to.
func (c *Client) Logger() *slog.Logger { return c.cfg.Logger }

// Sign signs with the key of this runtime. The message begins with what it is used for.
func (c *Client) Sign(message []byte) []byte { return c.cfg.Key.Sign(message) }

// SigningKey is the public half of what Sign signs with.
func (c *Client) SigningKey() []byte { return c.cfg.Key.Public() }

// Anchoring is a record on its way to be the newest of a file that is held. It may be asked for again: it is done once.
type Anchoring struct {
	handle  *Handle
	number  uint64
	record  []byte
	command meta.Command
}

// NewAnchoring says which record is to be anchored, with which number.
func (h *Handle) NewAnchoring(ctx context.Context, number uint64, record []byte) (*Anchoring, error) {
	s, err := h.client.theSession(ctx)
	if err != nil {
		return nil, err
	}
	return &Anchoring{h, number, record, meta.Command{ID: meta.NewCommandID(),
		Op: meta.Anchor{Session: s.id, File: h.inode.ID, Epoch: h.epoch, Number: number, Record: record}}}, nil
}

// Ask blocks until it is known what came of it, or ctx ends (Unavailable): then it must be asked again before anything else is anchored. Other kinds
// say that the record is not anchored and never will be: Fenced, StaleView, NotFound.
func (a *Anchoring) Ask(ctx context.Context) error {
	r, err := a.handle.client.proposeCommand(ctx, a.command)
	if err != nil {
		if isRefusal(err) {
			return err
		}
		return &blocktree.Error{Op: "anchor", Kind: blocktree.Unavailable, Err: err}
	}
	if r.Kind != blocktree.StaleView {
		return r.Err("anchor")
	}
	// It may have been done so long ago that the group has forgotten the command.
	i, err := a.handle.client.StatID(ctx, a.handle.inode.ID)
	switch {
	case err != nil:
		return &blocktree.Error{Op: "anchor", Kind: blocktree.Unavailable, Err: err}
	case i.AnchorNumber == a.number && bytes.Equal(i.Anchor, a.record):
		return nil
	}
	return r.Err("anchor")
}
