package cluster

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/internal/wire"
)

// session is a client's standing with the cluster: while it is renewed, its leases hold.
type session struct {
	id      meta.SessionID       // under Client.mu until it is opened
	opened  chan struct{}        // closed once until is known, or err
	err     error                // why it could not be opened
	handles map[*Handle]struct{} // under Client.mu
	until   time.Duration        // under Client.mu: the leases hold until then, margin taken off

	kept   map[blocktree.FileID]*KeptDir // directories whose names it keeps; under Client.mu, as are the others
	making int                           // answers to MakeDirKept that are on their way
	turn   uint64                        // of the last of those
	gone   map[blocktree.FileID]bool     // directories that were left while there were any, as nobody knew of them; meta.KeptDirsPerSessionMax at most
	// doubted is the last of the answers that are not believed, as too many were gone to remember which.
	doubted uint64
	pools   map[spareShape]*sparePool
	taken   map[*TakenSpare]struct{} // spares that have no use yet
}

// acquireInterval is how often a busy file is asked for again.
const acquireInterval = 200 * time.Millisecond

// Open takes the lease of a file, which inode and path describe, and takes over from its last holder. A file that somebody
// else holds is waited for as o says, then it is Busy. It blocks until what was in flight is decided. Acknowledged writes that turn out to be gone
// until then were never the opener's: it begins again. (Nodes that lost their power together come back one after the other.)
func (c *Client) Open(ctx context.Context, path blocktree.Path, inode *meta.Inode, o OpenOptions) (*Handle, error) {
	c, err := c.HomeOf(ctx, inode.ID)
	if err != nil {
		return nil, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
	}
	if c.tree != nil {
		c.tree.enter(c)
		defer c.tree.leave(c)
	}
	for {
		h, err := c.open(ctx, path, inode, o)
		if err != nil {
			return nil, err
		}
		h.setTouch(o.TouchEvery)
		if err = h.recovered(ctx); err == nil {
			return h, nil
		}
		_ = h.Close() // the first error says why
		if blocktree.KindOf(err) != blocktree.Lost || ctx.Err() != nil {
			return nil, err
		}
	}
}

// open is Open that does not wait until the machine has taken over.
func (c *Client) open(ctx context.Context, path blocktree.Path, inode *meta.Inode, o OpenOptions) (h *Handle, err error) {
	if inode.Kind != meta.KindFile {
		return nil, notAFile(path, inode)
	}
	s, err := c.theSession(ctx)
	if err != nil {
		return nil, err
	}
	deadline, told := time.Now().Add(o.Wait), false
	taker := &claimer{client: c, session: s, path: path}
	defer func() {
		if err != nil {
			taker.giveBack(inode.ID)
		}
	}()
	for {
		sent := c.cfg.Clock.Boot()
		r, err := c.acquire(ctx, s, inode.ID)
		if err != nil {
			return nil, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
		}
		switch {
		case r.Kind == blocktree.Other:
			return c.take(s, path, inode, r, sent+blocktree.LeaseTerm-blocktree.LeaseMargin, cmp.Or(o.joinDelay, joinDelay), false)
		case r.Kind != blocktree.Busy || time.Now().After(deadline):
			return nil, c.busy(path, r)
		}
		if r.Lease != nil && !c.yield(ctx, inode.ID, r.Lease.Holder) {
			if !told {
				told = true
				c.cfg.Logger.Info("waiting for a file", "path", path.Short(), "that", "is "+heldBy(r))
			}
			if o.TakeOver {
				if err := taker.claim(ctx, r.Lease); err != nil {
					return nil, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil, c.busy(path, r)
		case <-time.After(acquireInterval):
		}
	}
}

// acquire asks for the lease. If it does not learn what came of that, the lease is given back as soon as that is known:
// else the file would be busy for as long as the session lives.
func (c *Client) acquire(ctx context.Context, s *session, file blocktree.FileID) (meta.Result, error) {
	c.mu.Lock()
	settled := c.settling[turn{file: file}]
	c.mu.Unlock()
	if settled != nil { // the last of them ends when all before it have
		select {
		case <-settled:
		case <-ctx.Done():
			return meta.Result{}, blocktree.E("lease", blocktree.Unavailable, ctx.Err())
		}
	}
	command := acquisition(ctx, s.id, file)
	r, err := c.proposeCommand(ctx, command)
	if err != nil && !isRefusal(err) {
		c.settle(file, command)
	}
	return r, err
}

// acquisition asks for a lease on behalf of whom ctx is, also when it is asked again by settle, under another.
func acquisition(ctx context.Context, s meta.SessionID, file blocktree.FileID) meta.Command {
	return meta.Command{ID: meta.NewCommandID(), Op: meta.Acquire{Session: s, File: file}, Caller: behind(ctx, nil)}
}

// isRefusal reports whether err says that the cluster has judged a request, so that its outcome is known.
func isRefusal(err error) bool {
	switch blocktree.KindOf(err) {
	case blocktree.Permission, blocktree.Unauthenticated, blocktree.TooLarge, blocktree.Unsupported, blocktree.Invalid:
		return true
	}
	return false
}

// settle finds out in the background what came of a command about a file's lease, and gives back what was acquired, or was to be given back. It ends
// with the client, whose session takes all leases along; but what would make something is refused long before (meta.AcquireStaleAfter). Commands of one file are settled one after the other: a later
// Acquire has a later epoch, which the release of an earlier one leaves alone. No more wait than opens were in flight at once.
func (c *Client) settle(file blocktree.FileID, command meta.Command) {
	t := turn{file: file}
	if file == (blocktree.FileID{}) { // it waits for nobody, and nobody for it
		t.command = command.ID
	}
	c.takeTurn(t, func() {
		r, err := c.proposeCommand(c.ctx, command)
		if s, ok := takesLease(command.Op); ok && err == nil && r.Kind == blocktree.Other && r.Lease != nil {
			_, _ = c.propose(c.ctx, meta.Release{Session: s, File: r.Lease.File, Epoch: r.Lease.Epoch}) // it ends with the client only
		}
		if o, ok := command.Op.(meta.MakeDirKept); ok && err == nil && r.Kept && r.Inode != nil { // nobody was told of it
			c.leave(o.Session, []blocktree.FileID{r.Inode.ID}, nil)
		}
		if o, ok := command.Op.(meta.MakeSpares); ok && err == nil {
			c.leave(o.Session, nil, idsOf(sparesOf(&r, int(o.N))))
		}
		if o, ok := command.Op.(meta.ReleaseEnd); ok && c.ctx.Err() == nil && (err != nil || r.Kind != blocktree.Other) { // the end did not move, and the lease did not go
			_, _ = c.propose(c.ctx, o.Release) // likewise
		}
	})
}

// inTurn has do run in the background, after what else is being settled of the file and before it is acquired again.
func (c *Client) inTurn(file blocktree.FileID, do func()) { c.takeTurn(turn{file: file}, do) }

// turn is what is settled one after the other: what is about a file, or one command that is about none yet.
type turn struct {
	file    blocktree.FileID
	command meta.CommandID
}

func (c *Client) takeTurn(t turn, do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	before, settled := c.settling[t], make(chan struct{})
	c.settling[t] = settled
	c.wg.Go(func() {
		if before != nil {
			<-before
		}
		do()
		c.mu.Lock()
		if c.settling[t] == settled {
			delete(c.settling, t)
		}
		c.mu.Unlock()
		close(settled)
	})
}

// take makes the handle of a lease that was granted. It is believed no longer than until, a term from when it was asked for: it may be
// claimed since, and the session's newest renewal be later than that.
func (c *Client) take(s *session, path blocktree.Path, inode *meta.Inode, r meta.Result, until, delay time.Duration, first bool) (*Handle, error) {
	if !fits(r.Layout, inode) {
		return nil, &blocktree.Error{Op: "open", Path: path.Short(), Kind: blocktree.Corrupt, Hint: "the cluster's answer makes no sense"}
	}
	c.mu.Lock()
	until = min(until, s.until)
	c.mu.Unlock()
	h, err := newHandle(c, path, *inode, r.Layout, until, delay, first)
	if err != nil {
		return nil, err
	}
	c.sayIfLost(path, r.Layout)
	c.mu.Lock()
	older, newer := s.list(h)
	gone := c.session != s
	c.mu.Unlock()
	h.followDraining()
	superseded := blocktree.E("lease", blocktree.Fenced, fmt.Errorf("the file was opened again by the same client"))
	for _, o := range older { // before h can write anything
		o.lost(superseded)
	}
	if newer {
		h.lost(superseded)
	}
	if gone {
		h.lost(blocktree.E("session", blocktree.NotFound, nil))
	}
	return h, nil
}

// list adds a handle to those whose leases the session keeps. It returns those of the same file that had an earlier epoch,
// and whether one has a later one; Client.mu is held.
func (s *session) list(h *Handle) (older []*Handle, newer bool) {
	for o := range s.handles {
		switch {
		case o.inode.ID != h.inode.ID:
		case o.epoch < h.epoch:
			older = append(older, o)
		default:
			newer = true
		}
	}
	s.handles[h] = struct{}{}
	return older, newer
}

// yield asks a node that holds the file only to copy it up to let go of it, and reports whether a node holds it. Whether it does let go shows
// at the next try.
func (c *Client) yield(ctx context.Context, file blocktree.FileID, holder blocktree.Path) bool {
	for _, n := range c.peers.nodes() {
		if c.peers.runtime(n).Path != holder {
			continue
		}
		if conn := c.peers.conn(n); conn != nil {
			var e wire.Encoder
			e.File(file)
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			r, err := conn.CallWait(ctx, codeYield, e.Buf)
			cancel()
			if err == nil {
				r.Release()
			}
		}
		return true
	}
	return false
}

// unlist returns the session that the handle's lease hangs on, which does not list it any more; nil if there is none.
func (c *Client) unlist(h *Handle) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		delete(c.session.handles, h)
	}
	return c.session
}

// release gives a handle's lease back.
func (c *Client) release(ctx context.Context, h *Handle) error {
	if h.givesUp() {
		return nil
	}
	s := c.unlist(h)
	if s == nil {
		return nil
	}
	command := meta.Command{ID: meta.NewCommandID(), Op: h.ending(s.id)}
	r, err := c.proposeCommand(ctx, command)
	if isOlder(err) {
		command = meta.Command{ID: meta.NewCommandID(), Op: h.ending(s.id)}
		r, err = c.proposeCommand(ctx, command)
	}
	if err != nil {
		c.settle(h.inode.ID, command)
		return err
	}
	if r.Kind == blocktree.Fenced || r.Kind == blocktree.NotFound {
		return nil // it is not ours any more, or the file is gone
	}
	return r.Err("release")
}

// theSession returns the client's session, opening it if there is none.
func (c *Client) theSession(ctx context.Context) (*session, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, blocktree.E("cluster", blocktree.Closed, nil)
	}
	s := c.session
	if s == nil {
		s = &session{opened: make(chan struct{}), handles: map[*Handle]struct{}{}}
		c.session = s
		c.wg.Go(func() { c.keepSession(s) })
	}
	c.mu.Unlock()
	select {
	case <-s.opened:
		return s, s.err
	case <-c.ctx.Done():
		return nil, blocktree.E("cluster", blocktree.Closed, nil)
	case <-ctx.Done():
		return nil, &blocktree.Error{Op: "cluster: open session", Kind: blocktree.Unavailable, Err: ctx.Err(),
			Hint: hintNobodyAnswers}
	}
}

// keepSession opens the session and renews it until the client closes or the session is lost. Each opening has an id of its own: one of which
// no answer came may be done later, and must not bring back the session that is used when that has ended.
func (c *Client) keepSession(s *session) {
	var op meta.Op
	for opened := false; ; {
		if !opened {
			c.mu.Lock()
			s.id = meta.NewSessionID()
			c.mu.Unlock()
			op = meta.OpenSession{Session: s.id, Principal: c.cfg.Key.Principal(), Path: c.cfg.Path}
		}
		sent := c.cfg.Clock.Boot()
		ctx, cancel := context.WithTimeout(c.ctx, blocktree.LeaseTerm)
		r, err := c.propose(ctx, op)
		cancel()
		if c.ctx.Err() != nil {
			return
		}
		if err == nil && r.Kind != blocktree.Other {
			c.loseSession(s, r.Err("session"))
			return
		}
		pause, until := blocktree.LeaseRenewInterval, sent+blocktree.LeaseTerm-blocktree.LeaseMargin
		if late := c.cfg.Clock.Boot(); err == nil && (opened || late < until) { // else it may have ended before it was used: another
			if !opened {
				pause -= late - sent // the answer may be that of the first of several tries
			}
			c.renewed(s, &r, until)
			op, opened = meta.RenewSession{Session: s.id}, true
		}
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// loseSession ends a session that the cluster does not know any more. Its leases are gone: their handles find out from
// the epoch, or at the next thing they must ask Raft; they are told here so that it is sooner.
func (c *Client) loseSession(s *session, err error) {
	c.mu.Lock()
	if c.session == s {
		c.session = nil
	}
	s.endKept()
	first := s.until == 0
	handles := make([]*Handle, 0, len(s.handles))
	for h := range s.handles {
		handles = append(handles, h)
	}
	c.mu.Unlock()
	if first {
		s.err = err
		close(s.opened)
	}
	for _, h := range handles {
		h.lost(err)
	}
}

// lost ends the handle: its session, and with it the lease, is gone.
func (h *Handle) lost(err error) {
	h.client.cfg.Logger.Error("lease lost", "path", h.path.Short(), "err", err)
	h.end(&blocktree.Error{Op: "cluster", Path: h.path.Short(), Kind: blocktree.Fenced, Err: err,
		Hint: cmp.Or(blocktree.HintOf(err), "this holder was silent for longer than its lease; reopen the file")})
}
