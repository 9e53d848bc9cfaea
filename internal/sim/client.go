package sim

import (
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
)

// client is one process beside the cluster: it acquires the lease of a file and works under it with the production
// Holder, or reads without a lease with the production Reader.
type client struct {
	w      *World
	idx    int
	gen    int // counts lives: a crashed client comes back as another process
	reader bool
	links  []link

	pausedUntil int64
	raftBlocked int64 // cut off from Raft until then
	clockAt     int64 // offset of its clock
	clockRate   int64 // and its error in parts per thousand

	file      int
	acquiring bool
	h         *stripe.Holder
	epoch     blocktree.Epoch
	recovered bool
	dead      bool // does not come back (finale)

	r   *stripe.Reader
	ops []*op // in flight

	witnessed  uint64 // reads that members have confirmed in place of Raft
	witnessing bool   // there are some among those that end now
	n          uint64

	sent     []sentRepair // of this epoch, to check the decision when it is complete
	metas    int
	drainGen int // of what the holder knows of drains
	closing  bool
	mends    []uint64                                     // operations that have a shard installed again
	waited   int                                          // view changes that were held back
	cutting  *cutting                                     // it makes its file smaller
	marks    map[blocktree.RegionIndex]blocktree.Sequence // under this epoch: up to where a watermark was found to be stable
	fences   map[int]*fenced                              // by node: what was taken as its answer to the fence of this epoch, in worlds with liars
	heard    []uint64                                     // by file: the loss number that it has been told of
	given    map[*stripe.Write]bool                       // back by the holder
	layouts  []heardLayouts                               // by file: of a reader, in worlds with early reads
	left     []uint64                                     // operations of the machine whose outcome is nobody's
	requests uint64                                       // that a reader has opened a file for
}

// link is the connection between a client and a node.
type link struct {
	up                    bool
	downSince             int64 // 0: it is up, or nobody has looked
	downAt                int64 // when it went down last, as the histories count; it may be up again
	gen                   int   // of the connection, so that a late report of an earlier one is ignored
	blockedOut, blockedIn int64
}

// op is one operation in flight.
type op struct {
	id      uint64
	file    int
	read    bool
	flush   bool
	zeros   bool // asks where the run is zeros, not for what it holds
	write   *write
	region  blocktree.RegionIndex
	first   blocktree.SectorIndex
	count   uint32
	call    int64
	tries   int
	layout  *stripe.Layout           // leaseless reads: what it goes by
	heard   uint32                   // and the nodes that have answered under it
	newest  blocktree.ViewID         // of the file's layout when it was called for
	request uint64                   // early reads: what it is part of; 0: nothing else
	sure    bool                     // early reads: what it goes by was the newest after it was called for
	found   *stripe.Done             // early reads: what is told if it was
	then    func(*stripe.ReadResult) // finale
	before  []*write                 // flush: what it waits for
	era     uint64                   // loss number under which it began
	careful *careful                 // the read of every shard that it has become, as some sector did not open
}

func newClient(w *World, idx int, reader bool) *client {
	return &client{w: w, idx: idx, reader: reader, links: make([]link, len(w.nodes)), clockAt: w.upTo(1000), clockRate: int64(w.rnd.IntN(21)) - 10}
}

// process is an id that no other life of any client has.
func (c *client) process() int { return c.idx<<20 | c.gen + 1 }

// boot is the client's own monotonic clock.
func (c *client) boot() time.Duration {
	return time.Duration(c.clockAt+c.w.now+c.w.now*c.clockRate/1000) * time.Millisecond
}

func (c *client) start() {
	c.gen++
	c.file = c.w.rnd.IntN(len(c.w.meta.files))
	c.heard = make([]uint64, len(c.w.meta.files))
	for f := range c.heard { // it opens them anew
		c.heard[f] = c.w.meta.files[f].layout.Loss
	}
	if c.reader {
		c.layouts = make([]heardLayouts, len(c.w.meta.files))
		c.r = stripe.NewReader(stripe.ReaderConfig{MemberTimeout: memberTimeout * time.Millisecond, StallTimeout: readStall * time.Millisecond,
			LookEvery: c.w.prof.lookEvery, Mutant: c.w.opt.Mutant}, c.boot())
	}
	c.w.q.push(event{at: c.w.now + c.w.upTo(tickEvery), kind: evTick, who: c.idx, gen: c.gen})
	for _, n := range c.w.nodes {
		if n.up {
			c.connect(n, c.w.delay())
		}
	}
	if !c.w.quiet {
		c.w.q.push(event{at: c.w.now + c.w.upTo(c.w.prof.workEvery), kind: evWork, who: c.idx, gen: c.gen})
	}
}

// crash ends the process; what it had in flight stays unknown for ever.
func (c *client) crash() {
	if c.reader || c.dead {
		return
	}
	c.w.trace("c%d crashes", c.idx)
	c.w.count.ClientCrashes++
	c.forget()
	if !c.w.quiet {
		gen := c.gen
		c.w.after(c.w.upTo(60), func() {
			if c.gen == gen {
				c.start()
			}
		})
	}
}

// forget drops everything that lives in the process.
func (c *client) forget() {
	c.countHolder()
	c.gen++
	c.h, c.acquiring, c.recovered, c.closing, c.cutting, c.ops, c.mends, c.sent, c.pausedUntil = nil, false, false, false, nil, nil, nil, nil, 0
	for i := range c.links {
		c.links[i].up = false
		c.links[i].gen++
	}
}

func (c *client) happen(e *event) {
	switch e.kind {
	case evClient:
		e.fn()
	case evToClient:
		c.w.count.AnswersIn++
		c.input(func() {
			if c.reader {
				c.note(e.msg)
				c.r.Step(e.msg)
			} else if c.h != nil {
				c.takesFence(e.msg)
				c.h.Step(e.msg)
			}
		})
	case evTick:
		c.input(func() {})
		c.missNodes()
		c.hearOfDrains()
		c.hearOfSizes()
		c.w.q.push(event{at: c.w.now + tickEvery, kind: evTick, who: c.idx, gen: c.gen})
	case evWork:
		if !c.w.quiet || c.reader { // what is read in the end is not to change meanwhile
			c.work()
		}
		if !c.w.quiet {
			c.w.q.push(event{at: c.w.now + c.w.upTo(2*c.w.prof.workEvery), kind: evWork, who: c.idx, gen: c.gen})
		}
	}
}

// note keeps which nodes a leaseless read was answered by.
func (c *client) note(m *stripe.Message) {
	for _, o := range c.ops {
		if l := o.layout; m.Err == blocktree.Other && l != nil && m.File == l.File && m.Region == o.region && m.Epoch == l.Epoch &&
			m.View == l.View(o.region).ID && m.First == o.first && m.Count == uint64(o.count) && m.Want != stripe.WantExact {
			o.heard |= 1 << c.w.nodeOf(m.Node)
		}
	}
}

// later schedules fn in this life of the process; a paused one runs it when it goes on.
func (c *client) later(d int64, fn func()) {
	c.w.q.push(event{at: c.w.now + d, kind: evClient, who: c.idx, gen: c.gen, fn: fn})
}

// input is the only way into the machine: the clock first, then f, then everything that it wants done.
func (c *client) input(f func()) {
	if c.reader {
		c.r.Tick(c.boot())
		f()
		c.drainReader()
		return
	}
	if c.h == nil {
		return
	}
	c.h.Tick(c.boot())
	f()
	c.drainHolder()
}

func (c *client) drainHolder() {
	h := c.h
	for c.h == h {
		r := h.Ready()
		if len(r.Messages)+len(r.Metas)+len(r.Done)+len(r.Released)+len(r.Suspects) == 0 {
			break
		}
		c.refusesFences(r.Suspects)
		for _, m := range r.Messages {
			c.asksFence(m)
			c.remember(m)
			c.noteAbort(m)
			c.notReleased(m)
			c.w.toNode(c, m)
		}
		for _, x := range r.Released {
			c.released(x)
		}
		c.w.checkSuspects(r.Suspects)
		for _, q := range r.Metas {
			c.askRaft(q)
		}
		witnessed := h.Stats().Witnessed
		c.witnessing, c.witnessed = witnessed != c.witnessed, witnessed
		for _, d := range r.Done {
			c.finish(d)
		}
	}
	if c.h == nil {
		return
	}
	if !c.recovered && h.Recovered() {
		c.recovered = true
		c.w.checkDecision(c)
	}
	if h.Fenced() {
		c.w.trace("c%d is fenced", c.idx)
		c.w.count.Fenced++
		if h.Lost() {
			c.w.count.LossesMet++
		}
		c.drop()
	}
}

// countHolder adds what the holder has counted, once.
func (c *client) countHolder() {
	if c.h != nil {
		c.w.count.observeStats(c.h.Stats())
	}
}

// drop gives the holder up without a crash; its operations end with unknown outcome.
func (c *client) drop() {
	c.countHolder()
	ops := c.ops
	c.h, c.recovered, c.closing, c.cutting, c.ops, c.mends, c.sent = nil, false, false, nil, nil, nil, nil
	for _, o := range ops {
		if o.then != nil {
			o.then(nil)
		}
	}
}

func (c *client) drainReader() {
	for {
		r := c.r.Ready()
		if len(r.Messages)+len(r.Done)+len(r.Suspects) == 0 {
			return
		}
		c.w.checkSuspects(r.Suspects)
		for _, m := range r.Messages {
			c.w.toNode(c, m)
		}
		for _, d := range r.Done {
			c.finish(d)
		}
	}
}

// ---- connections ----

// connect reports a node up after d ms, if the connection is not broken by then.
func (c *client) connect(n *node, d int64) {
	l := &c.links[n.idx]
	l.gen++
	gen, life := l.gen, n.gen
	c.later(d, func() {
		switch {
		case l.gen != gen || !n.up || n.gen != life:
		case max(l.blockedIn, l.blockedOut) > c.w.now && !c.w.quiet:
			c.connect(n, max(l.blockedIn, l.blockedOut)-c.w.now)
		default:
			l.up = true
			inc := n.incFor(c.file)
			c.input(func() { c.tell(n, inc) })
		}
	})
}

func (c *client) tell(n *node, inc blocktree.Incarnation) {
	if c.reader {
		c.r.NodeUp(n.id, inc)
	} else {
		c.h.NodeUp(n.id, inc)
	}
}

// lost breaks the connection; report says whether the process notices.
func (c *client) lost(n *node, report bool) {
	l := &c.links[n.idx]
	if !l.up || !report {
		return
	}
	l.up, l.downAt = false, c.w.clock
	l.gen++
	gen := l.gen
	if !c.reader {
		c.later(0, func() {
			if !l.up {
				c.input(func() { c.h.NodeSilent(n.id) })
			}
		})
	}
	c.later(c.w.upTo(10), func() {
		if l.gen == gen || !l.up {
			c.input(func() {
				if c.reader {
					c.r.NodeDown(n.id)
				} else {
					c.h.NodeDown(n.id)
				}
			})
		}
	})
}

// cut blocks the way to a node (0), from it (1) or both (2) for d ms.
func (c *client) cut(n *node, d int64, way int, report bool) {
	l := &c.links[n.idx]
	if way != 1 {
		l.blockedOut = max(l.blockedOut, c.w.now+d)
	}
	if way != 0 {
		l.blockedIn = max(l.blockedIn, c.w.now+d)
	}
	c.lost(n, report)
	c.later(d+c.w.upTo(20), func() {
		if n.up {
			c.lost(n, true)
			c.connect(n, 12+c.w.delay())
		}
	})
}

// ---- Raft, from a client ----

// ask sends a request to Raft. exec runs there and gives what the answer does here; ok is false where the request
// does not get through. When nothing comes back in time, silence runs, and the request may still be executed later.
func (c *client) ask(exec func() (reply func(), ok bool), silence func()) {
	w, gen, answered := c.w, c.gen, false
	if !w.quiet && w.chance(w.prof.loss) {
		c.later(metaTimeout, silence)
		return
	}
	w.after(w.delay(), func() {
		if !w.meta.reachable() || c.cutOff() {
			return
		}
		reply, ok := exec()
		if !ok || c.gen != gen || c.cutOff() || !w.quiet && w.chance(w.prof.loss) {
			return
		}
		c.later(w.delay(), func() {
			if !answered {
				answered = true
				reply()
			}
		})
	})
	c.later(metaTimeout, func() {
		if !answered {
			answered = true
			silence()
		}
	})
}

// cutOff reports whether Raft is out of reach.
func (c *client) cutOff() bool { return c.raftBlocked > c.w.now && !c.w.quiet }

// askRaft carries out a MetaRequest.
func (c *client) askRaft(q stripe.MetaRequest) {
	h, epoch, file := c.h, c.epoch, c.file
	if q.Change == nil {
		c.w.count.Confirms++
		if c.w.mutant("confirm-blind") {
			c.later(1, func() { c.metaDone(h, q.ID, h.Layout(), blocktree.Other) })
			return
		}
	}
	c.ask(func() (func(), bool) {
		var l *stripe.Layout
		var err blocktree.Kind
		ok := true
		if q.Change != nil {
			if l, err, ok = c.w.meta.change(*q.Change); !ok {
				c.heldBack(h, q.Change)
			}
		} else {
			l, err = c.w.meta.confirm(file, epoch)
		}
		return func() { c.metaDone(h, q.ID, l, err) }, ok
	}, func() { c.metaDone(h, q.ID, nil, blocktree.Timeout) })
}

func (c *client) metaDone(h *stripe.Holder, id uint64, l *stripe.Layout, err blocktree.Kind) {
	if c.h == h && h != nil {
		c.input(func() { h.MetaDone(id, l, err) })
	}
}

func (c *client) acquire() {
	if c.acquiring {
		return
	}
	c.acquiring = true
	asked, me := c.boot(), c.process()
	c.ask(func() (func(), bool) {
		l, err := c.w.meta.acquire(c.file, me)
		return func() {
			c.acquiring = false
			if err == blocktree.Other {
				c.begin(l, asked)
			}
		}, true
	}, func() { c.acquiring = false })
}

// begin is the start of a holder under a new epoch.
func (c *client) begin(l *stripe.Layout, asked time.Duration) {
	c.w.trace("c%d holds file %d under epoch %d", c.idx, c.file, l.Epoch)
	c.epoch, c.marks, c.fences = l.Epoch, map[blocktree.RegionIndex]blocktree.Sequence{}, map[int]*fenced{}
	c.hear(l)
	c.h = stripe.NewHolder(stripe.HolderConfig{
		Layout: l, First: c.w.makers, Codec: c.codec(l.Code), MemberTimeout: memberTimeout * time.Millisecond,
		DigestSectors: c.w.prof.digestSectors, JoinDelay: joinDelay * time.Millisecond, StallTimeout: stallTimeout * time.Millisecond,
		FlushAfter: time.Duration(c.w.prof.flushAfter) * time.Millisecond, FlushBytes: c.w.prof.flushBytes,
		LookEvery: c.w.prof.lookEvery, Mutant: c.w.opt.Mutant,
	}, c.boot())
	if c.h.Recovered() {
		c.w.count.First++
	}
	c.drainGen = c.w.drains.gen
	c.h.Draining(c.w.drains.nodes)
	c.renewed(asked)
	for _, n := range c.w.nodes {
		if c.links[n.idx].up {
			c.tell(n, n.incFor(c.file))
		}
	}
	c.drainHolder()
	c.renew(c.h)
}

func (c *client) renewed(asked time.Duration) {
	if !c.w.prof.wild {
		until := asked + (leaseTerm-leaseMargin)*time.Millisecond
		if c.w.mutant("lease-overrun") {
			until += 3 * leaseTerm * time.Millisecond
		}
		c.h.Renewed(until)
	}
}

// renew keeps the lease while h is the holder.
func (c *client) renew(h *stripe.Holder) {
	if c.h != h {
		return
	}
	c.later(leaseTerm/4, func() {
		if c.h != h {
			return
		}
		asked, me := c.boot(), c.process()
		c.ask(func() (func(), bool) {
			mine := c.w.meta.renew(c.file, me)
			return func() {
				if mine && c.h == h {
					c.input(func() { c.renewed(asked) })
				}
			}, true
		}, func() {})
		c.renew(h)
	})
}
