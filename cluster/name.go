package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"blocktree"
	"blocktree/cluster/meta"
)

// naming is what a handle knows of the name of its file, if that was a spare.
type naming struct {
	mu       sync.Mutex // one step after the other
	session  *session   // that keeps it; nil: it is no spare
	unnamed  atomic.Bool
	finished bool          // all is flushed, and the machine has ended
	dropped  bool          // its use has ended: what is to become of it is seen to
	pending  *meta.Command // of which nobody knows what became
	ending   *Ending       // of a file that was found to have its name, likewise
	end      uint64        // where it ended when it got that
}

// Name gives a spare its name: file.Path, in the directory k, whose cluster it must be of, as file says otherwise, by whom ctx is on behalf of. The file ends at end then. It is durable, and others see it, when Name has returned. What was written must have been flushed before. Asked again, also with another end, of a file that has its name, it moves the end.
// Kinds: Exists, NotFound (k is not the directory of the path any more), StaleView (another key than key says is that of the directory: look for it anew), Permission, Fenced (the lease, or the session, is gone, and with it the file), NoSpace, Invalid, Unavailable (also where another session keeps the directory as long as that): then it may have been named; whatever is asked next of the handle finds that out first.
func (h *Handle) Name(ctx context.Context, k *KeptDir, file meta.CreateFile, key meta.KeyFound, end uint64) (*meta.Inode, error) {
	n := &h.naming
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := h.ended(); err != nil {
		return nil, err
	}
	return h.name(ctx, h.nameOp(k, file, key, end, false))
}

// CloseName is Name by the command that gives the lease back, too, once all that was written is flushed. ctx bounds that. Nobody uses the handle from then on, whatever it returns; but of StaleView and NotFound, after which it is asked again, or closed. Of what it does not know the outcome it is found out in the background: a file that did not get its name is forgotten.
func (h *Handle) CloseName(ctx context.Context, k *KeptDir, file meta.CreateFile, key meta.KeyFound, end uint64) (*meta.Inode, error) {
	n := &h.naming
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.session == nil {
		return nil, blocktree.E("cluster.CloseName", blocktree.Invalid, nil)
	}
	if !n.finished {
		n.finished = true
		if err := h.finish(ctx); err != nil {
			h.client.dropSpare(h)
			return nil, err
		}
	}
	i, err := h.name(ctx, h.nameOp(k, file, key, end, true))
	if kind := blocktree.KindOf(err); err != nil && h.Unnamed() && (kind == blocktree.StaleView || kind == blocktree.NotFound) {
		return nil, err
	}
	if err != nil {
		h.client.dropSpare(h)
		return nil, err
	}
	h.client.unlist(h)
	return i, nil
}

// nameOp is the command that names the file.
func (h *Handle) nameOp(k *KeptDir, file meta.CreateFile, key meta.KeyFound, end uint64, release bool) meta.NameFile {
	o := meta.NameFile{File: h.inode.ID, Epoch: h.epoch, Dir: k.dir, CreateFile: file, Key: key, End: end, Release: release, Wrote: h.touch.at.Load()}
	if s := h.naming.session; s != nil {
		o.Session = s.id
	}
	if o.Wrote == 0 {
		o.Wrote = h.client.cfg.Clock.Now().UnixNano()
	}
	return o
}

// name asks for what was asked for before and not answered, and then for o. naming.mu is held.
func (h *Handle) name(ctx context.Context, o meta.NameFile) (*meta.Inode, error) {
	const op = "cluster.Name"
	c, n := h.client, &h.naming
	if n.session == nil {
		return nil, blocktree.E(op, blocktree.Invalid, nil)
	}
	if n.pending != nil {
		was, _ := n.pending.Op.(meta.NameFile) // it is
		i, err := h.askName(ctx, *n.pending)
		if n.pending != nil || err == nil && (was.End == o.End && was.Release == o.Release || was.Release) {
			return i, err
		}
	}
	if !n.unnamed.Load() { // by what was not heard of: it may have another name since, or be another's to end
		return h.endNamed(ctx, o)
	}
	c.mu.Lock()
	gone := c.session != n.session
	c.mu.Unlock()
	if gone {
		return nil, &blocktree.Error{Op: op, Path: o.Path.Short(), Kind: blocktree.Fenced, Hint: "this holder was silent for longer than its lease, and the file had no name yet: make it anew"}
	}
	i, err := (*meta.Inode)(nil), errAskedLate
	for err == errAskedLate {
		i, err = h.askName(ctx, meta.Command{ID: meta.NewCommandID(), Op: o, Caller: behind(ctx, nil)})
	}
	if err != nil {
		return nil, &blocktree.Error{Op: op, Path: o.Path.Short(), Err: err}
	}
	return i, nil
}

// endNamed has a file that has its name end where o says, and with Release gives its lease back. naming.mu is held.
func (h *Handle) endNamed(ctx context.Context, o meta.NameFile) (*meta.Inode, error) {
	n := &h.naming
	for n.ending != nil || n.end != o.End {
		if n.ending == nil {
			e, err := h.NewEnding(ctx, n.end, o.End)
			if err != nil {
				return nil, err
			}
			n.ending = e
		}
		now, err := n.ending.Ask(ctx)
		if err != nil && blocktree.KindOf(err) == blocktree.Unavailable {
			return nil, err
		}
		n.ending = nil
		if err != nil && (blocktree.KindOf(err) != blocktree.StaleView || now == n.end) {
			return nil, err
		}
		n.end = now
	}
	if o.Release {
		if err := h.client.releaseEnd(ctx, h, n.end, o.End); err != nil {
			return nil, err
		}
	}
	return h.namedAs(o), nil
}

// namedAs is the inode of a file that got its name by o, but for who owns it.
func (h *Handle) namedAs(o meta.NameFile) *meta.Inode {
	i := h.Inode()
	i.Mode, i.Suite, i.KeyID, i.Access, i.Created, i.Modified = o.Mode, o.Suite, o.KeyID, o.Access, o.CreateFile.Time, o.Wrote
	i.HasLength, i.LengthBytes, i.Changed = true, o.End, 0 // when, nobody has said
	return &i
}

// askName asks for a command that names the file. Where nobody knows what became of it it is pending. One that was, and is refused though the session is there and keeps no such spare, was done, and its file was renamed or removed since.
func (h *Handle) askName(ctx context.Context, command meta.Command) (*meta.Inode, error) {
	n := &h.naming
	o, _ := command.Op.(meta.NameFile) // it is
	r, err := h.client.proposeHere(ctx, command)
	if err != nil && !isRefusal(err) {
		n.pending = &command
		return nil, blocktree.E("name", blocktree.Unavailable, err)
	}
	again := n.pending != nil
	n.pending = nil
	if err == nil && r.Kind == blocktree.Busy {
		return nil, errAskedLate
	}
	if again && err == nil && r.Redirect == nil && !r.Kept && h.keepsSession() {
		switch r.Kind {
		case blocktree.Exists, blocktree.NotFound, blocktree.Fenced:
			r = meta.Result{Inode: h.namedAs(o)}
		}
	}
	if err == nil && r.Redirect != nil { // the directory is another cluster's by now
		err = blocktree.E("name", blocktree.NotFound, nil)
	}
	if err == nil {
		err = r.Err("name")
	}
	if err == nil && r.Inode == nil {
		err = blocktree.E("name", blocktree.Corrupt, errNoSense)
	}
	if err != nil {
		return nil, err
	}
	n.unnamed.Store(false)
	n.end = o.End
	h.touch.off.Store(false)
	h.notedWith(o.Wrote)
	r.Inode.Access = o.Access
	return r.Inode, nil
}

// keepsSession reports whether the session that keeps the file has certainly not ended.
func (h *Handle) keepsSession() bool {
	c := h.client
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session == h.naming.session && c.cfg.Clock.Boot() < h.naming.session.until
}

// Unnamed reports whether the handle is of a spare that has no name yet, as far as is known.
func (h *Handle) Unnamed() bool { return h.naming.unnamed.Load() }

// errAskedLate says that a command waited so long that it is not done any more.
var errAskedLate error = blocktree.E("name", blocktree.Busy, errors.New("it was asked for too long ago"))

// own is ctx, but on nobody's behalf while the file has no name: it is the client's own then.
func (h *Handle) own(ctx context.Context) context.Context {
	if h.naming.unnamed.Load() {
		return context.WithValue(ctx, behalfKey{}, (*meta.Caller)(nil))
	}
	return ctx
}

// givesUp ends the use of a spare, unless it has a name, and reports whether it has ended.
func (h *Handle) givesUp() bool {
	n := &h.naming
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.session == nil || !n.dropped && !n.unnamed.Load() && n.pending == nil {
		return false
	}
	if !n.dropped {
		h.client.dropSpare(h)
	}
	return true
}

// dropSpare ends the use of a spare: it goes, if it has no name, and else its lease. It does not wait for that.
func (c *Client) dropSpare(h *Handle) {
	n := &h.naming
	n.dropped = true
	c.unlist(h)
	id := n.session.id
	switch {
	case n.pending != nil:
		command := *n.pending
		n.pending = nil
		c.inTurn(h.inode.ID, func() { c.settleName(command) })
	case n.unnamed.Load():
		c.leave(id, nil, []blocktree.FileID{h.inode.ID})
	default:
		c.inTurn(h.inode.ID, func() {
			_, _ = c.propose(c.ctx, meta.Release{Session: id, File: h.inode.ID, Epoch: h.epoch}) // it ends with the client only
		})
	}
}

// settleName finds out whether a file was named, which nobody uses any more, and has it gone if not.
func (c *Client) settleName(command meta.Command) {
	o, _ := command.Op.(meta.NameFile) // it is
	r, err := c.proposeHere(c.ctx, command)
	switch {
	case c.ctx.Err() != nil:
	case err != nil || r.Kind != blocktree.Other:
		c.cfg.Logger.Error("a file that was made did not get its name", "path", o.Path.Short(), "err", either(err, r.Err("name")))
		c.leave(o.Session, nil, []blocktree.FileID{o.File})
	case !o.Release:
		_, _ = c.propose(c.ctx, meta.Release{Session: o.Session, File: o.File, Epoch: o.Epoch}) // it ends with the client only
	}
}

// either returns the first of two errors that is one.
func either(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
