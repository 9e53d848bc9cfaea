package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// OpenOptions say what Open does about a file that somebody else holds.
type OpenOptions struct {
	Wait time.Duration // how long it is waited for
	// TakeOver takes the file from its holder by force, which takes a lease term (docs/design/0010). Only from the one that holds it
	// now: if by then it is somebody else's, Open fails with Busy.
	TakeOver bool
	// TouchEvery is how long lies at least between two notes of when the file was written to; 0: TouchDeviceEvery, less: none is made, and writes leave the file's time alone.
	TouchEvery time.Duration
	joinDelay  time.Duration // 0: joinDelay
}

// claimer takes a file from the session that it met first.
type claimer struct {
	client  *Client
	session *session
	path    blocktree.Path
	from    meta.SessionID  // zero until there was one
	epoch   blocktree.Epoch // that was claimed last
}

// claim claims a lease, or repeats that. It returns an error if the file cannot be had by force.
func (k *claimer) claim(ctx context.Context, held *meta.Lease) error {
	switch {
	case held.Session == k.session.id: // granted: the next Acquire gets it
		return nil
	case k.from == meta.SessionID{}:
		k.from = held.Session
		k.client.cfg.Logger.Warn("taking the file over by force", "path", k.path.Short(), "from", held.Holder.Short(), "takes", blocktree.LeaseTerm)
	case k.from != held.Session:
		return k.lost(fmt.Errorf("%s has taken it meanwhile, under epoch %d", held.Holder.Short(), held.Epoch))
	}
	k.epoch = held.Epoch
	r, err := k.client.propose(ctx, meta.ClaimLease{Session: k.session.id, File: held.File, Epoch: held.Epoch})
	switch {
	case err != nil:
		return err
	case r.Kind == blocktree.Other || r.Kind == blocktree.Fenced: // Fenced: it has changed hands, which the next Acquire tells
		return nil
	case r.Kind == blocktree.Busy && r.Lease != nil && r.Lease.Claimant != "":
		return k.lost(fmt.Errorf("%s is taking it over from %s", r.Lease.Claimant.Short(), r.Lease.Holder.Short()))
	case r.Kind == blocktree.Busy:
		return nil
	}
	return r.Err("lease")
}

// giveBack ends what a claim may still come to when its claimant has given up: until it has lapsed the leader may grant it, and a lease that
// nobody uses would keep the file busy for as long as the session lives.
func (k *claimer) giveBack(file blocktree.FileID) {
	if k.epoch == 0 {
		return
	}
	c := k.client
	c.inTurn(file, func() {
		for c.ctx.Err() == nil {
			a, err := c.query(c.ctx, meta.Query{Kind: meta.QueryLease, File: file})
			switch {
			case blocktree.KindOf(err) == blocktree.NotFound || err == nil && a.Lease == nil:
				return
			case err != nil:
			case a.Lease.Session == k.session.id:
				if a.Lease.Epoch == k.epoch+1 { // else another Open of this client has it
					_, _ = c.propose(c.ctx, meta.Release{Session: k.session.id, File: file, Epoch: a.Lease.Epoch})
				}
				return
			case a.Lease.Epoch != k.epoch || a.Lease.Claimant != c.cfg.Path:
				return
			}
			select {
			case <-c.ctx.Done():
			case <-time.After(acquireInterval):
			}
		}
	})
}

func (k *claimer) lost(why error) error {
	return &blocktree.Error{Op: "lease", Kind: blocktree.Busy, Err: why, Hint: "one writer at a time: find out who is to have the file"}
}

// busy says who holds a file, and until when.
func (c *Client) busy(path blocktree.Path, r meta.Result) error {
	e := &blocktree.Error{Op: "open", Path: path.Short(), Kind: r.Kind, Err: r.Err("lease")}
	if r.Kind == blocktree.Busy && r.Lease != nil {
		e.Err = errors.New(heldBy(r))
		e.Hint = "one writer at a time: stop the other one, or fence it with btnbd serve --take-over"
	}
	return e
}

// heldBy describes the lease in the way. A lease has no end but the one that it has if it is not renewed.
func heldBy(r meta.Result) string {
	const unit = 100 * time.Millisecond
	quiet := r.HolderQuiet.Round(unit)
	s := fmt.Sprintf("held by %s under epoch %d: renewed %v ago, ends in %v unless it is renewed again", r.Lease.Holder.Short(), r.Lease.Epoch,
		quiet, max(blocktree.LeaseTerm-quiet, 0))
	if r.Lease.Claimant != "" {
		s += ", and " + r.Lease.Claimant.Short() + " is taking it over"
	}
	return s
}

// renewed tells every handle whose lease the renewal r confirms how long that holds; until is a term from when it was sent, margin taken off. A
// handle that is not among them finds out why.
func (c *Client) renewed(s *session, r *meta.Result, until time.Duration) {
	firm := make(map[meta.FirmLease]bool, len(r.Firm))
	for _, f := range r.Firm {
		firm[f] = true
	}
	c.mu.Lock()
	first := s.until == 0
	s.until = until
	if r.Claimed {
		c.confirm(s, firm)
	}
	handles := make([]*Handle, 0, len(s.handles))
	for h := range s.handles {
		handles = append(handles, h)
	}
	c.mu.Unlock()
	if first {
		close(s.opened)
	}
	for _, h := range handles {
		if !r.Claimed || firm[meta.FirmLease{File: h.inode.ID, Epoch: h.epoch}] {
			h.renewed(until)
		} else {
			h.unconfirmed()
		}
	}
}

// unconfirmed has it found out why the cluster did not confirm the lease: it is claimed, or another's.
func (h *Handle) unconfirmed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil && !h.asking {
		h.asking = true
		h.wg.Go(h.findTaker) // under mu, so that Close cannot be waiting for it yet
	}
}

// findTaker asks who claims or has the file, and says so: once for a claim, and once it is another's. What it cannot learn is asked again
// at the next renewal.
func (h *Handle) findTaker() {
	ctx, cancel := context.WithTimeout(h.ctx, askTimeout)
	defer cancel()
	a, err := h.client.query(ctx, meta.Query{Kind: meta.QueryLease, File: h.inode.ID})
	h.mu.Lock()
	fenced, warned := h.err != nil, h.warned
	h.asking = false
	if err == nil && a.Lease != nil && a.Lease.Epoch == h.epoch && a.Lease.Claimant != "" {
		h.warned = true
	}
	h.mu.Unlock()
	log := h.client.cfg.Logger.With("path", h.path.Short())
	switch {
	case blocktree.KindOf(err) == blocktree.NotFound:
		h.taken(fenced, "somebody who has given it up again")
	case err != nil || a.Lease == nil:
		log.Debug("who has the file is not known", "err", err)
	case a.Lease.Epoch != h.epoch:
		h.taken(fenced, fmt.Sprintf("%s under epoch %d", a.Lease.Holder.Short(), a.Lease.Epoch))
	case !warned && a.Lease.Claimant != "": // else the claim has lapsed meanwhile
		log.Warn("the file is being taken over by force: its lease is not renewed any more", "by", a.Lease.Claimant.Short())
	}
}

// taken ends a handle whose file another has, if its machine does not know yet, and says who it is.
func (h *Handle) taken(fenced bool, by string) {
	if fenced {
		h.client.cfg.Logger.Error("the file was taken over", "path", h.path.Short(), "by", by)
		return
	}
	h.lost(&blocktree.Error{Op: "lease", Kind: blocktree.Fenced, Err: fmt.Errorf("taken over by %s", by), Hint: takenHint})
}

// takenHint is for who had the file.
const takenHint = "one writer at a time: what was acknowledged is there for the new one; reopen the file if that is gone"
