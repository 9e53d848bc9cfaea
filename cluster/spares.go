package cluster

import (
	"context"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

const (
	// SpareAge is how long a spare is kept that nobody has taken: it has its places at the hosts as they were, of their incarnations then.
	SpareAge = 3 * time.Second
	// sparesMin is how many are made first; as many more as are used up within sparesFast, up to sparesMost: with those that wait it leaves most of meta.SparesPerSessionMax to files that were given away.
	sparesMin  = 8
	sparesMost = 16
	sparesFast = time.Second
	// sparePoolsMax bounds the shapes of which there are spares at a time: a service makes files of one.
	sparePoolsMax = 4
	// sparesRefusedFor is how long none are asked for after a refusal.
	sparesRefusedFor = time.Second
)

// spareShape is what the files of a pool have in common.
type spareShape struct {
	bytes      uint64
	sector     uint32
	code       blocktree.Code
	durability stripe.Durability
}

// spare is a file that nobody has taken yet.
type spare struct {
	meta.Result               // Inode, Layout and Lease
	asked       time.Duration // when it was asked for, on Clock.Boot
}

// sparePool has files of one shape. All of it is under Client.mu.
type sparePool struct {
	free    []spare       // the oldest first
	batch   int           // how many the last command made
	made    time.Duration // when that was, on Clock.Boot; 0: never
	used    time.Duration // when one was taken last
	refused time.Duration // until when none are asked for
	filling chan struct{} // closed when those that are being made are there, or will not be; nil: none are
}

// Spare returns a file without a name, of length 0, that the client's session keeps and holds (docs/design/0079): of the size, sectors and code of file, in the cluster of its Path, where nothing else of that counts. It comes from a pool, which is refilled in the background by one command for many, and grows with its use. The first one waits for a command; nothing is kept of what is not used for SpareAge. Handle.Name
// gives it a name; a Handle that is closed without one forgets the file. Kinds: Unsupported, and there is none to be had: who asks makes a file by CreateHeld (a cluster of a version before; who may not; too many). Unavailable, Closed.
func (c *Client) Spare(ctx context.Context, file meta.CreateFile, d stripe.Durability, o OpenOptions) (*Handle, error) {
	taken, err := c.TakeSpares(ctx, file, d, 1, true)
	if err != nil {
		return nil, err
	}
	return taken[0].Use(file, d, o)
}

// TakenSpare is a spare that was taken for somebody and has no use yet: the session of a client keeps and holds it until it is used, or left. Any number of callers may use it at once.
type TakenSpare struct {
	client  *Client
	session *session
	shape   spareShape
	r       meta.Result
	over    bool // it was used, or is gone; under Client.mu
}

// TakeSpares takes n spares at most, of those that are at hand, as Spare does. Where there is none it waits for the first, if it may. Who takes them uses, or leaves, each; those that the session does not keep any more, or that have places at hosts which are draining, are gone (Use). Kinds as of Spare.
func (c *Client) TakeSpares(ctx context.Context, file meta.CreateFile, d stripe.Durability, n int, waits bool) (taken []*TakenSpare, err error) {
	const op = "cluster.Spare"
	at, leave, err := c, func() {}, error(nil)
	if file.Path != "" {
		if at, leave, err = c.enterAt(ctx, file.Path); err != nil {
			return nil, blocktree.E(op, blocktree.Unsupported, err)
		}
	}
	defer leave()
	shape := spareShape{file.SizeBytes, file.SectorBytes, file.Code, d}
	for len(taken) < n {
		s, err := at.theSession(ctx)
		if err != nil {
			return taken, unlessTaken(taken, err)
		}
		t, wait, err := at.takeSpare(s, shape)
		switch {
		case err != nil:
			return taken, unlessTaken(taken, blocktree.E(op, blocktree.KindOf(err), err))
		case t != nil:
			taken = append(taken, t)
			continue
		case len(taken) > 0:
			return taken, nil
		case !waits:
			return nil, blocktree.E(op, blocktree.Unsupported, nil)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, blocktree.E(op, blocktree.Unavailable, ctx.Err())
		case <-at.ctx.Done():
			return nil, blocktree.E(op, blocktree.Closed, nil)
		}
	}
	return taken, nil
}

// unlessTaken is the error of who could take nothing.
func unlessTaken(taken []*TakenSpare, err error) error {
	if len(taken) > 0 {
		return nil
	}
	return err
}

// ID is the identity of the file.
func (t *TakenSpare) ID() blocktree.FileID { return t.r.Inode.ID }

// Of reports whether it is of the cluster of a client.
func (t *TakenSpare) Of(c *Client) bool { return t.client == c }

// Use opens the file for who is to name it. Of file the size, sectors and code, and d, are to be those it was taken for, and its Path is to be in the same cluster. After an error who has it leaves it. Unsupported: it is of another shape, was used, or is gone.
func (t *TakenSpare) Use(file meta.CreateFile, d stripe.Durability, o OpenOptions) (*Handle, error) {
	c, s := t.client, t.session
	if t.shape != (spareShape{file.SizeBytes, file.SectorBytes, file.Code, d}) || !t.end() {
		return nil, blocktree.E("cluster.Spare", blocktree.Unsupported, nil)
	}
	h, err := c.take(s, file.Path, t.r.Inode, t.r, c.term(s), joinDelay, true)
	if err != nil {
		c.leave(s.id, nil, []blocktree.FileID{t.r.Inode.ID})
		return nil, err
	}
	h.naming.session = s
	h.naming.unnamed.Store(true)
	h.touch.off.Store(true) // when it was written is said with its name
	h.setTouch(o.TouchEvery)
	return h, nil
}

// Leave gives it back, unless it was used or is gone. It does not wait for that.
func (t *TakenSpare) Leave() {
	if t.end() {
		t.client.leave(t.session.id, nil, []blocktree.FileID{t.r.Inode.ID})
	}
}

// end reports whether it was there yet, to who has it from then on.
func (t *TakenSpare) end() bool {
	c := t.client
	c.mu.Lock()
	defer c.mu.Unlock()
	there := !t.over && c.session == t.session && !c.closed
	t.over = true
	delete(t.session.taken, t)
	return there
}

// term is until when the leases of a session hold.
func (c *Client) term(s *session) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.until
}

// takeSpare takes a spare of a shape, or says what to wait for, and sees to it that there will be more. Unsupported: there is none to be had.
func (c *Client) takeSpare(s *session, shape spareShape) (t *TakenSpare, wait <-chan struct{}, err error) {
	now := c.cfg.Clock.Boot()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.session != s {
		return nil, nil, blocktree.E("", blocktree.Unsupported, nil)
	}
	p := s.pools[shape]
	if p == nil {
		if len(s.pools) >= sparePoolsMax {
			return nil, nil, blocktree.E("", blocktree.Unsupported, nil)
		}
		p = &sparePool{batch: sparesMin, used: now}
		if s.pools == nil {
			s.pools = map[spareShape]*sparePool{}
		}
		s.pools[shape] = p
		c.wg.Go(func() { c.tendSpares(s, shape, p) })
	}
	p.used = now
	c.dropOld(s, p, now-SpareAge)
	if n := len(p.free); n > 0 {
		t = &TakenSpare{client: c, session: s, shape: shape, r: p.free[n-1].Result}
		p.free = p.free[:n-1]
		if s.taken == nil {
			s.taken = map[*TakenSpare]struct{}{}
		}
		s.taken[t] = struct{}{}
	}
	if len(p.free) < p.batch/2 && p.filling == nil && now >= p.refused {
		if p.made != 0 && now-p.made < sparesFast {
			p.batch = min(2*p.batch, sparesMost)
		}
		p.filling = make(chan struct{})
		n := p.batch
		c.wg.Go(func() { c.fillSpares(s, shape, p, n) })
	}
	if t == nil && p.filling == nil {
		return nil, nil, blocktree.E("", blocktree.Unsupported, nil)
	}
	if t == nil {
		return nil, p.filling, nil
	}
	return t, nil, nil
}

// fillSpares has n spares made.
func (c *Client) fillSpares(s *session, shape spareShape, p *sparePool, n int) {
	command := meta.Command{ID: meta.NewCommandID(), Op: meta.MakeSpares{Session: s.id, SizeBytes: shape.bytes, SectorBytes: shape.sector, Code: shape.code, Durability: shape.durability,
		N: uint8(n), Time: c.cfg.Clock.Now().UnixNano()}}
	asked := c.cfg.Clock.Boot()
	ctx, cancel := context.WithTimeout(c.ctx, blocktree.LeaseTerm)
	r, err := c.proposeHere(ctx, command)
	cancel()
	if err != nil && !isRefusal(err) && !isOlder(err) {
		c.settle(blocktree.FileID{}, command)
	}
	if err == nil && r.Kind == blocktree.Fenced {
		c.loseSession(s, r.Err("session"))
	}
	if err == nil {
		err = r.Err("spares")
	}
	made := sparesOf(&r, n)
	now := c.cfg.Clock.Boot()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || made == nil {
		p.refused = now + sparesRefusedFor
	} else if c.session == s {
		for _, r := range made {
			p.free = append(p.free, spare{r, asked})
		}
		p.made = now
	}
	close(p.filling)
	p.filling = nil
}

// sparesOf are the results of each of n spares, of which r tells the first; nil if that makes no sense.
func sparesOf(r *meta.Result, n int) (made []meta.Result) {
	if r.Kind != blocktree.Other || r.Inode == nil || r.Lease == nil || !fits(r.Layout, r.Inode) || r.Layout.Epoch != r.Lease.Epoch {
		return nil
	}
	for k := range blocktree.Inode(n) {
		i, l, lease := *r.Inode, *r.Layout, *r.Lease
		i.ID.Inode += k
		l.File, lease.File = i.ID, i.ID
		made = append(made, meta.Result{Inode: &i, Layout: &l, Lease: &lease})
	}
	return made
}

// tendSpares forgets what is not used any more.
func (c *Client) tendSpares(s *session, shape spareShape, p *sparePool) {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(SpareAge / 3):
		}
		c.mu.Lock()
		old := c.cfg.Clock.Boot() - SpareAge
		unused := p.used <= old && p.filling == nil
		if c.dropOld(s, p, old); c.session != s || unused && len(p.free) == 0 {
			delete(s.pools, shape)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
	}
}

// dropOld gives back the spares of a pool that were asked for until then; Client.mu is held.
func (c *Client) dropOld(s *session, p *sparePool, until time.Duration) {
	var ids []blocktree.FileID
	for len(p.free) > 0 && p.free[0].asked <= until {
		ids = append(ids, p.free[0].Inode.ID)
		p.free = p.free[1:]
	}
	c.leaveLocked(s.id, nil, ids)
}

// dropSpares gives back all spares, whose hosts are others than new ones would have, also those that were taken and have no use yet.
func (c *Client) dropSpares() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.session; s != nil {
		for _, p := range s.pools {
			c.dropOld(s, p, c.cfg.Clock.Boot())
		}
		c.leaveLocked(s.id, nil, s.dropTaken(func(*TakenSpare) bool { return true }))
	}
}

// dropTaken has some of the spares that were taken, and have no use yet, be gone, and returns them; Client.mu is held.
func (s *session) dropTaken(drops func(*TakenSpare) bool) (ids []blocktree.FileID) {
	for t := range s.taken {
		if drops(t) {
			t.over = true
			delete(s.taken, t)
			ids = append(ids, t.ID())
		}
	}
	return ids
}

func idsOf(spares []meta.Result) (ids []blocktree.FileID) {
	for i := range spares {
		ids = append(ids, spares[i].Inode.ID)
	}
	return ids
}

// confirm gives back the spares of a session whose leases a renewal has not confirmed: that came before they were made, if not for worse. Client.mu is held.
func (c *Client) confirm(s *session, firm map[meta.FirmLease]bool) {
	unfirm := func(r *meta.Result) bool { return !firm[meta.FirmLease{File: r.Inode.ID, Epoch: r.Lease.Epoch}] }
	ids := s.dropTaken(func(t *TakenSpare) bool { return unfirm(&t.r) })
	for _, p := range s.pools {
		p.free = slices.DeleteFunc(p.free, func(r spare) bool {
			gone := unfirm(&r.Result)
			if gone {
				ids = append(ids, r.Inode.ID)
			}
			return gone
		})
	}
	c.leaveLocked(s.id, nil, ids)
}
