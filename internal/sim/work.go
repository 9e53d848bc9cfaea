package sim

import (
	"encoding/binary"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/history"
)

// write is one write as the world knows it: what was sent under which version, and what became of it.
type write struct {
	value   uint32
	file    int
	region  blocktree.RegionIndex
	first   blocktree.SectorIndex
	count   uint32
	zero    bool
	version blocktree.Version
	state   writeState
	seen    bool // a read has returned it
	seenAt  int64
	known   map[int]int64 // when each honest node in sync first committed it, as far as it did
	doomed  bool          // a take-over that a liar was heard in does not keep it, or it was refused for want of space, as far as is known by a liar
	dropped bool          // only the latter, and its caller has not heard of that
	torn    bool          // a take-over kept it at some honest members, and others do not hold it, by a liar
	revived bool          // k liars, who kept it though it is void, had it copied to an honest member
	over    int64         // when it was decided void
	at      []int         // place of its operation in the history of each sector
	era     uint64
	ackedAt int64
	flushed bool // a FLUSH has ended that was to make it durable, or a take-over is complete that has kept it
}

type writeState uint8

const (
	open     writeState = iota // outcome unknown
	acked                      // acknowledged to its caller
	aborted                    // its caller was told that it did not happen
	voided                     // a complete take-over has decided that it did not happen
	canceled                   // Begin without Write
	lost                       // it may have been acknowledged, but was not flushed, and a loss took it
	undone                     // acknowledged or read, and a liar had a take-over undo it (0029)
)

// work starts something new: a lease for who has none, an operation for who has one.
func (c *client) work() {
	w := c.w
	switch {
	case c.reader:
		if len(c.ops) < w.early.window() {
			c.file = w.rnd.IntN(len(w.meta.files))
			if o := w.maybeZeros(c.randomRun(true)); c.mayOpenAnew(o) {
				c.openAnew(o)
			} else {
				c.readLeaseless(o, nil)
			}
		}
	case c.h == nil:
		if !c.acquiring {
			c.file = w.rnd.IntN(len(w.meta.files))
		}
		c.acquire()
	case c.closing:
		if len(c.ops) == 0 {
			c.release()
		}
	case c.mayCut():
		c.goOnCutting()
	case w.chance(0.01):
		c.closing = c.cutting == nil
	case len(c.ops) >= w.prof.window:
	case w.chance(w.prof.readShare):
		c.readHolder(w.maybeZeros(c.randomRun(true)), nil)
	case w.chance(max(0.05, w.prof.flushShare)):
		c.flush()
	default:
		c.beginWrite(w.resizes.inside(c, c.randomRun(false)))
	}
}

// release gives the lease back: nothing is in flight, so the next holder need not wait.
func (c *client) release() {
	w, file, me, epoch := c.w, c.file, c.process(), c.epoch
	c.w.trace("c%d releases", c.idx)
	c.drop()
	c.ask(func() (func(), bool) {
		w.meta.release(file, me, epoch)
		return func() {}, true
	}, func() {})
}

// randomRun is a run of sectors within a region, with a taste for the first ones so that clients meet.
func (c *client) randomRun(read bool) *op {
	w := c.w
	l := w.meta.files[c.file].layout
	if c.h != nil {
		l = c.h.Layout()
	}
	r := blocktree.RegionIndex(w.rnd.IntN(int(l.Regions())))
	first, n := l.Run(r)
	at := min(w.rnd.IntN(int(n)), w.rnd.IntN(int(n)))
	count := min(w.upTo(4), int64(n)-int64(at))
	return &op{file: c.file, read: read, region: r, first: first + blocktree.SectorIndex(at), count: uint32(count)}
}

func (c *client) begun(o *op) *op {
	c.n++
	o.id, o.call, o.era, o.newest = c.n, c.w.tick(), c.heard[o.file], c.w.meta.files[o.file].layout.Seq
	c.ops = append(c.ops, o)
	return o
}

func (c *client) beginWrite(o *op) {
	w := c.w
	c.begun(o)
	x := &write{value: uint32(len(w.writes) + 1), file: c.file, region: o.region, first: o.first, count: o.count, zero: w.chance(w.prof.zeros), era: o.era}
	w.writes = append(w.writes, x)
	o.write = x
	h := c.h
	c.input(func() { x.version = h.Begin(o.region) })
	if x.version.Epoch != c.epoch {
		w.fail("version", "Begin gave %v under epoch %d", x.version, c.epoch)
	}
	if _, ok := w.byVer[versionKey{c.file, o.region, x.version}]; ok {
		w.fail("version", "Begin gave %v a second time", x.version)
	}
	w.byVer[versionKey{c.file, o.region, x.version}] = x
	seal := func() {
		switch {
		case c.h != h:
		case w.chance(0.02):
			x.state = canceled
			c.remove(o)
			c.input(func() { h.Cancel(o.region, x.version) })
		default:
			c.submit(o)
		}
	}
	if w.opt.Flush && w.luck.Float64() < 0.02 { // the watermark stands, and much is flushed and kept above it
		c.later(1+w.luck.Int64N(400), seal)
		return
	}
	if w.prof.lateSeal && w.chance(0.5) {
		c.later(w.upTo(12), seal)
		return
	}
	seal()
}

// submit gives the sealed write to the holder. Its operations enter the history here with the call time of Begin.
func (c *client) submit(o *op) {
	w, x := c.w, o.write
	for s := x.first; s < x.first+blocktree.SectorIndex(x.count); s++ {
		h := w.history(x.file, x.era, s)
		x.at = append(x.at, len(*h))
		*h = append(*h, history.Op{Call: o.call, Ret: history.Unknown, Value: x.value, Write: true})
	}
	sw := &stripe.Write{Kind: stripe.RecordZero, Region: x.region, First: x.first, Count: x.count, Version: x.version}
	binary.BigEndian.PutUint64(sw.Digest[:], mix(uint64(x.value), 77))
	if !x.zero {
		sw.Kind, sw.ShardBytes = stripe.RecordData, shardBytes
		sw.Shards, sw.Seals = encode(w.cfg.Code, x.value, x.first, x.count)
		sw.Memory = sw
	}
	w.count.Writes++
	if w.tracing() {
		w.trace("c%d op %d writes value %d (zero %v) to %d+%d as %v", c.idx, o.id, x.value, x.zero, x.first, x.count, x.version)
	}
	c.input(func() { c.h.Write(o.id, sw) })
}

func (c *client) flush() {
	o := c.begun(&op{flush: true, file: c.file})
	for _, p := range c.ops {
		if p.write != nil && len(p.write.at) > 0 {
			o.before = append(o.before, p.write)
		}
	}
	c.input(func() { c.h.Flush(o.id) })
}

func (c *client) readHolder(o *op, then func(*stripe.ReadResult)) {
	c.begun(o)
	o.then = then
	if c.w.tracing() {
		c.w.trace("c%d op %d reads %d+%d under its lease", c.idx, o.id, o.first, o.count)
	}
	c.input(func() {
		if o.zeros {
			c.h.Zeros(o.id, o.region, o.first, o.count)
		} else {
			c.h.Read(o.id, o.region, o.first, o.count)
		}
	})
}

// readLeaseless asks Raft for the layout: the read was called for before that.
func (c *client) readLeaseless(o *op, then func(*stripe.ReadResult)) {
	c.begun(o)
	o.then = then
	if c.w.early.on {
		c.readEarly(o)
	} else {
		c.tryRead(o)
	}
}

func (c *client) tryRead(o *op) {
	w := c.w
	if !slices.Contains(c.ops, o) {
		return
	}
	o.tries++
	if o.tries > 5 && o.then == nil {
		c.leave(o)
		c.remove(o)
		w.count.ReadsGivenUp++
		return
	}
	if w.early.on {
		c.await(o)
		return
	}
	file := o.file
	c.ask(func() (func(), bool) {
		l := w.newestFor(file)
		return func() {
			if l != nil && slices.Contains(c.ops, o) && !c.lossHeard(o, l) {
				c.readUnder(o, l)
			}
		}, true
	}, func() { c.tryRead(o) })
}

// readUnder has the machine read under a layout.
func (c *client) readUnder(o *op, l *stripe.Layout) {
	if c.w.tracing() {
		c.w.trace("c%d op %d reads %d+%d by %s", c.idx, o.id, o.first, o.count, describeLayout(l))
	}
	o.layout, o.heard = l, 0
	c.input(func() {
		switch {
		case o.zeros:
			c.r.Zeros(o.id, l, o.region, o.first, o.count)
		case o.careful != nil:
			c.r.ReadAll(o.id, l, o.region, o.first, o.count, o.careful.care)
		default:
			c.r.Read(o.id, l, o.region, o.first, o.count)
		}
	})
}

// newestFor is what Raft answers a leaseless reader that asks for the layout of a file.
func (w *World) newestFor(file int) *stripe.Layout {
	if w.mutant("layout-cached") && !w.quiet {
		return w.meta.known(file, max(len(w.meta.files), w.mostBehind()))
	}
	return w.meta.files[file].layout
}

// mostBehind is how much of Raft's log the node has applied that has applied the least.
func (w *World) mostBehind() int {
	least := len(w.meta.log)
	for _, n := range w.nodes {
		if n.up {
			least = min(least, n.applied)
		}
	}
	return least
}

func (c *client) remove(o *op) {
	if i := slices.Index(c.ops, o); i >= 0 {
		c.ops = slices.Delete(c.ops, i, i+1)
	}
}

// finish is the end of an operation.
func (c *client) finish(d stripe.Done) {
	w := c.w
	i := slices.IndexFunc(c.ops, func(o *op) bool { return o.id == d.Op })
	if slices.Contains(c.mends, d.Op) || slices.Contains(c.left, d.Op) {
		return
	}
	if i < 0 {
		w.fail("done", "client %d: operation %d ended twice or never began", c.idx, d.Op)
	}
	o := c.ops[i]
	w.note(d.Op, uint64(d.Err))
	if w.tracing() {
		w.trace("c%d op %d done: %v %s", c.idx, o.id, d.Err, describeResult(d.Read))
	}
	if c.early(o, d) {
		return
	}
	if o.careful != nil && o.careful.partial && d.Err == blocktree.Corrupt {
		d.Err = blocktree.Unavailable
	}
	if c.reader && (d.Err == blocktree.StaleView || d.Err == blocktree.Recovering || d.Err == blocktree.Unavailable || d.Err == blocktree.Timeout || d.Err == blocktree.StaleMember) {
		w.count.ReadsRetried++
		o.careful, o.layout = nil, nil
		c.later(w.upTo(15), func() { c.tryRead(o) })
		return
	}
	if d.Err == blocktree.Other && d.Read != nil && !o.zeros && len(w.liars.nodes) > 0 {
		res, over := c.useKey(o, d.Read)
		if !over {
			return
		}
		if d.Read = res; res == nil {
			d.Err = blocktree.Corrupt
		}
	}
	c.remove(o)
	switch {
	case d.Err != blocktree.Other:
		c.failed(o, d.Err)
	case o.flush:
		for _, x := range o.before {
			if slices.ContainsFunc(c.ops, func(p *op) bool { return p.write == x }) {
				w.fail("flush", "client %d: write %d (%v) is unfinished", c.idx, x.value, x.version)
			}
		}
		w.count.Flushes++
		w.flushed(c, o)
	case o.write != nil:
		w.acknowledge(c, o.write)
	case o.zeros:
		w.recordZeros(c, o, d.Read)
	default:
		w.recordRead(c, o, d.Read)
	}
}

// failed is the end of an operation with an error.
func (c *client) failed(o *op, err blocktree.Kind) {
	w := c.w
	w.count.Failed[err]++
	if c.cutting != nil && (o.write != nil || o.flush) {
		c.cutting.failed = true
	}
	if err == blocktree.Corrupt && !w.damagedIn(o) && !w.isTorn(o.file, o.first, o.count, o.call) {
		w.fail("F8 readable", "client %d op %d: %s: too few shards that fit, and none was ever damaged", c.idx, o.id, describeOp(o))
	}
	if w.quiet && c.h != nil && !c.h.Fenced() && err != blocktree.NoSpace && err != blocktree.Unavailable {
		w.trace("c%d op %d failed in the finale: %v", c.idx, o.id, err)
	}
	if o.write != nil && err == blocktree.NoSpace {
		w.abort(o.write)
		w.count.Aborted++
	}
	if o.then != nil {
		o.then(nil)
	}
}

// acknowledge is the moment in which a write becomes a promise.
func (w *World) acknowledge(c *client, x *write) {
	w.keepDropped(x)
	w.checkAcknowledged(c, x)
	w.resizes.checkEnd(x)
	if x.state != lost && x.state != undone {
		x.state = acked
	}
	t := w.tick()
	x.ackedAt = t
	for i, at := range x.at {
		(*w.history(x.file, x.era, x.first+blocktree.SectorIndex(i)))[at].Ret = t
	}
	w.mendTorn(x)
	w.count.Acknowledged++
	if w.makers && x.version.Epoch == 1 {
		w.count.FirstWrites++
	}
}

// recordRead checks what a read returned and puts it into the histories.
func (w *World) recordRead(c *client, o *op, res *stripe.ReadResult) {
	t := w.tick()
	next, stale := o.first, false
	for _, p := range res.Pieces {
		if p.First != next || p.Count == 0 {
			w.fail("read", "client %d op %d: a piece at %d where %d was expected", c.idx, o.id, p.First, next)
		}
		next += blocktree.SectorIndex(p.Count)
		values := w.valuesOf(c, o, p)
		stale = stale || values == nil
		for i, v := range values {
			if w.isTorn(o.file, p.First+blocktree.SectorIndex(i), 1, o.call) {
				w.count.TornReads++
				continue
			}
			if w.staleByLiar(c, o, p.First+blocktree.SectorIndex(i), p.Version) {
				stale = true
				continue
			}
			h := w.history(o.file, o.era, p.First+blocktree.SectorIndex(i))
			*h = append(*h, history.Op{Call: o.call, Ret: t, Value: v})
		}
	}
	if next != o.first+blocktree.SectorIndex(o.count) {
		w.fail("read", "client %d op %d: ends at %d", c.idx, o.id, next)
	}
	if c.reader {
		w.checkQuorum(c, o)
		w.checkNewest(c, o)
		w.count.LeaselessReads++
	} else {
		w.checkLease(c, o)
		w.count.HolderReads++
	}
	if o.then != nil && stale {
		o.then(nil)
	} else if o.then != nil {
		o.then(res)
	}
}

// valuesOf is what the sectors of a piece were written with.
func (w *World) valuesOf(c *client, o *op, p stripe.Piece) []uint32 {
	out := make([]uint32, p.Count)
	if p.Kind == stripe.Absent {
		if !p.Version.IsZero() {
			w.fail("read", "client %d op %d: absent at version %v", c.idx, o.id, p.Version)
		}
		return out
	}
	x := w.byVer[versionKey{o.file, w.meta.files[o.file].layout.RegionOf(p.First), p.Version}]
	meanwhile := w.undoneMeanwhile(x, o.call)
	if w.aloneByLiars(x, p) || w.earlyByLiar(c, o, x) {
		return nil
	}
	switch {
	case meanwhile:
	case x == nil || len(x.at) == 0:
		w.fail("read", "client %d op %d: version %v was never written", c.idx, o.id, p.Version)
	case x.state == aborted || x.state == voided || x.state == canceled || x.state == undone || x.state == lost && o.era > x.era:
		w.fail("void version read", "client %d op %d: version %v (value %d, state %d)", c.idx, o.id, p.Version, x.value, x.state)
	case x.era > o.era:
		w.fail("F6 nothing of after a loss", "client %d op %d opened the file under loss %d: version %v (value %d) is of loss %d", c.idx, o.id, o.era, p.Version, x.value, x.era)
	case p.First < x.first || p.First+blocktree.SectorIndex(p.Count) > x.first+blocktree.SectorIndex(x.count) || x.zero != (p.Kind == stripe.Zero):
		w.fail("read", "client %d op %d: piece %d+%d of kind %d is not of write %d", c.idx, o.id, p.First, p.Count, p.Kind, x.value)
	}
	if p.Kind == stripe.Data && len(w.liars.nodes) == 0 { // else the key has opened it
		values, err := decodeRun(w.cfg.Code, p.First, p.Count, p.Shards)
		if err != nil {
			w.fail("undecodable", "client %d op %d: %d+%d of %v: %v", c.idx, o.id, p.First, p.Count, p.Version, err)
		}
		for _, v := range values {
			if v != x.value {
				w.fail("wrong bytes", "client %d op %d: %d+%d of %v holds %d, not %d", c.idx, o.id, p.First, p.Count, p.Version, v, x.value)
			}
		}
	}
	if x.seen = true; x.seenAt == 0 {
		x.seenAt = w.clock
	}
	for i := range out {
		out[i] = x.value
	}
	return out
}
