package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// CreateHeld is CreateFile of a file of a length in bytes, and Open of it, by one command (docs/design/0067). The handle is nil where the file was made and is to be opened: its lease was not given. Kinds beside those of CreateFile: Unsupported, and nothing was done: who
// asks makes the file, and opens it, one after the other (a cluster of a version before; another one than was thought, or one that has just begun; a session that has ended).
func (c *Client) CreateHeld(ctx context.Context, file meta.CreateFile, durability stripe.Durability, bytes uint64, o OpenOptions) (*meta.Inode, *Handle, error) {
	wrong := func(err error) (*meta.Inode, *Handle, error) {
		return nil, nil, &blocktree.Error{Op: "create", Path: file.Path.Short(), Err: err}
	}
	at, leave, err := c.enterAt(ctx, file.Path)
	if err != nil {
		return wrong(err)
	}
	defer leave()
	s, err := at.theSession(ctx)
	if err != nil {
		return wrong(err)
	}
	sent := c.cfg.Clock.Boot()
	r, err := at.makeUnder(ctx, s, meta.CreateHeld{CreateFile: file, Durability: durability, Session: s.id, Bytes: bytes})
	if err != nil {
		return wrong(err)
	}
	r.Inode.Access = file.Access
	if r.Lease == nil || r.Lease.Session != s.id || r.Layout == nil || r.Layout.Epoch != r.Lease.Epoch { // or somebody has taken it over since: the answer may be that of a later try
		return r.Inode, nil, nil
	}
	h, err := at.take(s, file.Path, r.Inode, r, sent+blocktree.LeaseTerm-blocktree.LeaseMargin, joinDelay, true)
	if err == nil {
		h.setTouch(o.TouchEvery)
	}
	return r.Inode, h, err
}

// takesLease is the session that a command takes a lease for, if it is one of those that do.
func takesLease(op meta.Op) (meta.SessionID, bool) {
	switch o := op.(type) {
	case meta.Acquire:
		return o.Session, true
	case meta.CreateHeld:
		return o.Session, true
	}
	return meta.SessionID{}, false
}

// CloseEnd is Close of a file that ended at byte was and is to end at another, which is told by the command that gives the lease back, once all that was written is flushed. ctx bounds that. An error says that others may see it end where it did before. Kinds beside those of Flush: as
// SetEnd. Nobody uses the handle from then on, whatever it returns.
func (h *Handle) CloseEnd(ctx context.Context, was, bytes uint64) error {
	if err := h.finish(ctx); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
		defer cancel()
		_ = h.client.release(ctx, h) // the first error is the one to tell
		return err
	}
	return h.client.releaseEnd(ctx, h, was, bytes)
}

// releaseEnd gives a handle's lease back, and says where the file ends.
func (c *Client) releaseEnd(ctx context.Context, h *Handle, was, bytes uint64) error {
	s := c.unlist(h)
	if s == nil {
		return blocktree.E("cluster", blocktree.Fenced, nil)
	}
	o := meta.ReleaseEnd{Release: meta.Release{Session: s.id, File: h.inode.ID, Epoch: h.epoch}, Was: was, Bytes: bytes, Time: h.touch.at.Load()}
	if o.Time == 0 {
		o.Time = c.cfg.Clock.Now().UnixNano()
	}
	for {
		command := meta.Command{ID: meta.NewCommandID(), Op: o}
		r, err := c.proposeCommand(ctx, command)
		switch {
		case isOlder(err):
			var e *Ending
			if e, err = h.NewEnding(ctx, o.Was, bytes); err == nil {
				o.Was, err = e.Ask(ctx)
			}
			if blocktree.KindOf(err) == blocktree.StaleView {
				continue
			}
		case err != nil && !isRefusal(err):
			c.settle(h.inode.ID, command)
			return blocktree.E("release", blocktree.Unavailable, err)
		case err == nil && r.Kind == blocktree.Other:
			return nil
		case err == nil && r.Kind == blocktree.StaleView && r.Inode != nil && r.Inode.Length() != o.Was && ctx.Err() == nil: // somebody has set a length in between
			o.Was = r.Inode.Length()
			continue
		case err == nil:
			err = r.Err("release")
		}
		ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
		defer cancel()
		if e := c.release(ctx, h); err == nil {
			err = e
		}
		return err
	}
}

// Unkeyed returns where to look for the access record of the nearest directory, at path or above, that has one; "": none has, as far as the cluster knows which is asked. What lies between has none, which the client may be told. Kinds: Unsupported (a version before), Unavailable.
func (c *Client) Unkeyed(ctx context.Context, path blocktree.Path) (blocktree.Path, error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryUnkeyed, Path: path})
	if err == nil && a.Home != "" && !path.Within(a.Home) {
		err = blocktree.E("cluster.Unkeyed", blocktree.Corrupt, nil)
	}
	return a.Home, err
}
