package cluster

import (
	"context"
	"sync"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
)

// Credentials are what the client is known by: its key, its credentials, and the root principal of its domain.
func (c *Client) Credentials() (cred.Key, cred.Credentials, blocktree.Principal) {
	return c.cfg.Key, c.cfg.Credentials, c.cfg.Root
}

// SetAccess gives a file or directory its next access record. Kinds: StaleView (there is another record by now), NotFound, Permission, Unavailable.
func (c *Client) SetAccess(ctx context.Context, f blocktree.FileID, record []byte) error {
	r, err := c.propose(ctx, meta.SetAccess{File: f, Access: record})
	if err == nil {
		err = r.Err("cluster.SetAccess")
	}
	return err
}

// Holder returns who has the lease of a file, nil if nobody does.
func (c *Client) Holder(ctx context.Context, f blocktree.FileID) (*meta.Lease, error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryLease, File: f})
	if blocktree.KindOf(err) == blocktree.NotFound {
		return nil, nil
	}
	return a.Lease, err
}

// follow is who is told of a file's access records.
type follow struct {
	mu   sync.Mutex
	tell func(*meta.Inode)
	told uint64 // the number of the last one
}

// FollowAccess has tell called, by one goroutine at a time, with the inode whenever its access record has a greater number than told, at most 5 s after that was
// set while a majority answers. tell must not block; nil ends it.
func (h *Handle) FollowAccess(told uint64, tell func(*meta.Inode)) {
	h.follow.mu.Lock()
	defer h.follow.mu.Unlock()
	h.follow.told, h.follow.tell = told, tell
}

// accessIs tells of a record that is news.
func (h *Handle) accessIs(i *meta.Inode) {
	h.follow.mu.Lock()
	defer h.follow.mu.Unlock()
	if n := keys.NumberOf(i.Access); h.follow.tell != nil && n > h.follow.told {
		h.follow.told = n
		h.follow.tell(i)
	}
}

// NoteAccess tells the group what this holder goes by. Epoch is set here. Kinds: Fenced (it holds the file no more), Unavailable.
func (h *Handle) NoteAccess(ctx context.Context, heard meta.Heard) error {
	s, err := h.client.theSession(ctx)
	if err != nil {
		return err
	}
	heard.Epoch = h.epoch
	r, err := h.client.propose(ctx, meta.NoteAccess{Session: s.id, File: h.inode.ID, Heard: heard})
	if err == nil {
		err = r.Err("cluster.NoteAccess")
	}
	return err
}
