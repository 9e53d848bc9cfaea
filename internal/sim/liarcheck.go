package sim

import (
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// What docs/design/0029 does not promise, each as narrow as it can be said: all else is demanded in a world with liars as in one without.

// noteKnown keeps when honest members in sync first commit a write: from then on readers and take-overs hear of it.
func (w *World) noteKnown(n *node, file int, rec *stripe.Held) {
	x := w.byVer[versionKey{file, rec.Region, rec.Version}]
	if x == nil || n.liar != nil || len(w.liars.nodes) == 0 {
		return
	}
	v := w.meta.files[file].layout.View(rec.Region)
	if slot, ok := v.Shard(n.id); ok && v.Members[slot].State == stripe.InSync {
		w.knows(n, x)
	}
}

// notePromoted is noteKnown of all that a joiner has committed that is about to count.
func (w *World) notePromoted(n *node, file int, region blocktree.RegionIndex) {
	for _, x := range w.writes {
		if x.file == file && x.region == region && len(x.at) > 0 && n.liar == nil && len(w.liars.nodes) > 0 && n.disk.index[file][x.first].version == x.version {
			w.knows(n, x)
		}
	}
}

func (w *World) knows(n *node, x *write) {
	if x.known == nil {
		x.known = map[int]int64{}
	}
	if x.known[n.idx] == 0 {
		x.known[n.idx] = w.tick()
	}
}

// aloneByLiars reports whether what opened of a piece came from liars only, k of them, who say that it is committed: then what is not, or was undone, is read as
// the key opens it (0029, "Not promised").
func (w *World) aloneByLiars(x *write, p stripe.Piece) bool {
	k := w.cfg.Code.Data
	if x != nil && x.revived {
		return true
	}
	if x == nil || x.state == acked || p.Kind != stripe.Data || len(w.liars.nodes) < k {
		return false
	}
	for _, s := range p.Shards[:k] {
		if w.nodes[w.nodeOf(s.Answer.Node)].liar == nil {
			return false
		}
	}
	w.count.Alone++
	if w.quiet { // whoever compares with what was there overwrites it
		for s := p.First; s < p.First+blocktree.SectorIndex(p.Count); s++ {
			w.liars.torn[sectorKey{x.file, s}] = torn{version: x.version}
		}
	}
	return true
}

// noteRevived notes that a copy-up gives an honest member what was undone, aborted or void, or was in flight and never got to an honest one, which takes k liars who kept their shards of it. It cannot be told from what k members alone have
// kept when the others lost it: it is read from now on, and who has not got it is taken for one that lost it (0029, "Not promised"), until it is overwritten.
func (w *World) noteRevived(n *node, file int, rec *stripe.Held) {
	x := w.byVer[versionKey{file, rec.Region, rec.Version}]
	if x == nil || n.liar != nil || !rec.Installed || len(w.liars.nodes) < w.cfg.Code.Data {
		return
	}
	void := x.doomed || x.state == voided || x.state == aborted || x.state == undone
	if !void && (x.state != open || w.honestHas(x)) { // else a take-over has not heard of it from anybody
		return
	}
	w.trace("liars have write %d (%v) revived at n%d", x.value, x.version, n.idx)
	if !x.revived {
		x.revived = true
		w.count.Revived++
	}
	for s := rec.First; s < rec.First+blocktree.SectorIndex(rec.Count); s++ {
		if n.disk.index[file][s].version.Less(x.version) {
			w.liars.torn[sectorKey{file, s}] = torn{version: x.version}
		}
	}
}

// honestHas reports whether an honest member in sync holds all of a write, or something newer.
func (w *World) honestHas(x *write) bool {
	l := w.meta.files[x.file].layout
	return slices.ContainsFunc(l.View(x.region).Members, func(m stripe.ViewMember) bool {
		n := w.nodes[w.nodeOf(m.Node)]
		holds := m.State == stripe.InSync && n.liar == nil
		for s := x.first; s < x.first+blocktree.SectorIndex(x.count); s++ {
			holds = holds && n.disk.holds(w, x.file, s, x.version)
		}
		return holds
	})
}

// doomByLiar notes a write that a take-over does not keep as a liar denied it: that said to the fence that it does not hold it, and no honest member of the
// view said that it is acknowledged. If it was acknowledged, or read, it is undone if that take-over is completed, and may be else: it counts for nothing from now on.
func (w *World) doomByLiar(c *client, x *write) {
	denied := false
	for _, m := range c.h.Layout().View(x.region).Members {
		n := w.nodes[w.nodeOf(m.Node)]
		holds, knows, asked := c.told(n, x)
		switch {
		case n.liar != nil: // it may have left since
			denied = denied || asked && !holds
		case m.State == stripe.InSync && knows:
			return
		}
	}
	if x.dropped = x.dropped && !denied; denied && !x.doomed {
		x.doomed = true
		w.liars.undone[x.value] = true
	}
}

// undoneByLiar reports whether a write that is decided void was acknowledged or read, and doomed by a liar.
func (w *World) undoneByLiar(x *write) bool {
	if x.over = w.clock; !x.doomed || x.state != acked && !x.seen {
		return false
	}
	w.undo(x)
	return true
}

// doomedZeros reports whether a write of zeros to a sector is doomed: it may be what somebody was told of.
func (w *World) doomedZeros(file int, s blocktree.SectorIndex) bool {
	return len(w.liars.undone) > 0 && slices.ContainsFunc(w.writes, func(x *write) bool {
		return x.doomed && x.zero && x.file == file && s >= x.first && s < x.first+blocktree.SectorIndex(x.count)
	})
}

// abort is void for a write that failed for want of space.
func (w *World) abort(x *write) {
	if w.doomRefused(x); x.doomed && x.seen {
		w.undo(x)
		return
	}
	w.void(x, aborted)
}

// doomRefused notes that a write counts for nothing any more, as it fails for want of space and a liar may be who refused it.
func (w *World) doomRefused(x *write) {
	if w.liarRefused(x) {
		x.doomed, x.over, w.liars.undone[x.value] = true, w.clock, true
	}
}

// noteAbort notes a write that a holder has all members drop. Should it lose its epoch now the caller never hears of that, and no take-over finds anything of the write, or one
// keeps it, which some still have.
func (c *client) noteAbort(m *stripe.Message) {
	if m.Kind != stripe.KindAbort || !m.Last || len(c.w.liars.nodes) == 0 {
		return
	}
	if x := c.w.byVer[versionKey{c.file, m.Region, m.Version}]; x.state == open && !x.doomed {
		c.w.doomRefused(x)
		x.dropped = x.doomed
	}
}

// keepDropped is for a write that all members were to drop, and that is acknowledged: who had refused it left first, and those that stay were sent it again. It counts as any.
func (w *World) keepDropped(x *write) {
	if x.dropped {
		x.doomed, x.dropped = false, false
		delete(w.liars.undone, x.value)
	}
}

// liarRefused reports whether a liar has a place in the region of a write: it told a reader that it holds what it had refused for want of space.
func (w *World) liarRefused(x *write) bool {
	l := w.meta.files[x.file].layout
	return slices.ContainsFunc(l.View(x.region).Members, func(m stripe.ViewMember) bool {
		return w.nodes[w.nodeOf(m.Node)].liar != nil // it may have left since
	})
}

// earlyByLiar reports whether a read returned what is in flight though an honest member in sync does not hold it: a liar said that it is committed, and whoever does
// not hold it cannot be reached by who reads (0029, "Not promised").
func (w *World) earlyByLiar(c *client, o *op, x *write) bool {
	if x == nil || len(w.liars.nodes) == 0 || x.state != open {
		return false
	}
	l := w.meta.files[x.file].layout
	for _, m := range l.View(x.region).Members {
		n := w.nodes[w.nodeOf(m.Node)]
		if m.State == stripe.InSync && n.liar == nil && !c.reached(n, o) && !n.disk.holds(w, x.file, x.first, x.version) {
			w.count.Early++
			return true
		}
	}
	return false
}

// undo notes that a write is gone that was acknowledged or read.
func (w *World) undo(x *write) {
	w.trace("a liar has write %d (%v) undone", x.value, x.version)
	w.count.Undone++
	x.state = undone
	w.tearAgain(x)
}

// tearAgain notes that what had overwritten torn sectors is gone: they are what they were, unless something else that is acknowledged lies over them.
func (w *World) tearAgain(x *write) {
	for s := x.first; s < x.first+blocktree.SectorIndex(x.count); s++ {
		t, ok := w.liars.torn[sectorKey{x.file, s}]
		over := func(y *write) bool {
			return y.state == acked && y.file == x.file && t.version.Less(y.version) && s >= y.first && s < y.first+blocktree.SectorIndex(y.count)
		}
		if ok && t.over != 0 && t.version.Less(x.version) && !slices.ContainsFunc(w.writes, over) {
			t.over = 0
			w.liars.torn[sectorKey{x.file, s}] = t
		}
	}
}

// undoneMeanwhile reports whether a read that was called for before a write was undone returns it, or its holder hears of it now: all had answered before.
func (w *World) undoneMeanwhile(x *write, called int64) bool {
	if x == nil || !x.doomed || x.state != voided && x.state != aborted && x.state != undone || called > x.over {
		return false
	}
	if x.state != undone {
		w.undo(x)
	}
	return true
}

// torn is a sector of which a take-over has kept a version that only some honest members hold, until it is overwritten.
type torn struct {
	version blocktree.Version
	over    int64 // when it was
}

// judgeDecision looks at what a take-over keeps of a region, and what not, when it first says so: some member may go by it though it is never completed.
func (w *World) judgeDecision(c *client, r *stripe.Repair) {
	for _, x := range w.writes {
		if len(w.liars.nodes) == 0 || x.file != c.file || x.region != r.Region || len(x.at) == 0 || x.version.Epoch >= c.epoch {
			continue
		}
		if !r.Floor.Less(x.version) || slices.Contains(r.Winners, x.version) {
			w.tearByLiar(c, x)
		} else {
			w.doomByLiar(c, x)
		}
	}
}

// tearByLiar notes what a take-over keeps that some honest member in sync said it does not hold: a liar must have said that it is acknowledged, and fewer
// than a read needs have denied it.
func (w *World) tearByLiar(c *client, x *write) {
	claimed, denied, members, honest, flying := false, 0, 0, false, false
	for _, m := range c.h.Layout().View(x.region).Members {
		n := w.nodes[w.nodeOf(m.Node)]
		holds, knows, asked := c.told(n, x)
		claimed = claimed || n.liar != nil && knows
		flying = flying || n.liar == nil && holds && !knows
		if m.State == stripe.InSync && asked {
			members++
		}
		if m.State == stripe.InSync && asked && !holds {
			denied++
			honest = honest || n.liar == nil
		}
	}
	if t, ok := w.liars.torn[sectorKey{x.file, x.first}]; ok && t.version == x.version {
		return // by a take-over before this one, which was not completed
	}
	if !honest || !flying || x.state == voided || x.state == aborted {
		return
	}
	if !claimed || denied >= max(w.cfg.Code.Data, members/2+1) || members-denied < w.cfg.Code.Data {
		w.fail("rule 5 what all hold is kept", "write %d (%v) is kept by epoch %d, and %d deny it", x.value, x.version, c.epoch, denied)
	}
	w.trace("a liar has write %d (%v) kept", x.value, x.version)
	x.torn = true
	w.count.Torn++
	for s := x.first; s < x.first+blocktree.SectorIndex(x.count); s++ {
		w.liars.torn[sectorKey{x.file, s}] = torn{version: x.version}
	}
}

// overwriteTorn has a holder overwrite what is torn of its file, as whoever is told that a sector cannot be read would. It reports whether there was any.
func (w *World) overwriteTorn(c *client) (found bool) {
	l := c.h.Layout()
	for s := blocktree.SectorIndex(0); uint64(s) < l.Size(); s++ {
		if t, ok := w.liars.torn[sectorKey{c.file, s}]; ok && t.over == 0 && len(c.ops) == 0 {
			found = true
			c.beginWrite(&op{file: c.file, region: l.RegionOf(s), first: s, count: 1})
		}
	}
	return found
}

// honestHold reports whether an honest member in sync told the fence that it holds a write in flight.
func (w *World) honestHold(c *client, x *write) bool {
	return slices.ContainsFunc(c.h.Layout().View(x.region).Members, func(m stripe.ViewMember) bool {
		n := w.nodes[w.nodeOf(m.Node)]
		holds, knows, _ := c.told(n, x)
		return n.liar == nil && m.State == stripe.InSync && holds && !knows
	})
}

// failStuck fails a world that does not get whole, unless what is torn holds it up: where no more than k members are in sync, none can join before such a sector is
// overwritten, and nothing is written before one has joined (0029, "Not promised").
func (w *World) failStuck(why string) {
	for f := range w.meta.files {
		l := w.meta.files[f].layout
		for s := blocktree.SectorIndex(0); uint64(s) < l.Size(); s++ {
			t, ok := w.liars.torn[sectorKey{f, s}]
			if v := l.View(l.RegionOf(s)); ok && t.over == 0 && v.Count(stripe.InSync) < l.Code.MinWrite() {
				w.count.TornStuck++
				w.over = true
				return
			}
		}
	}
	if len(w.liars.nodes) > 0 && w.now-w.liars.heldBack < 10*metaTimeout { // the world does not let a region come to what it could not bear
		w.count.HeldBack++
		w.over = true
		return
	}
	w.fail("no convergence", "%s", why)
}

// mendTorn notes that sectors were overwritten.
func (w *World) mendTorn(x *write) {
	for s := x.first; s < x.first+blocktree.SectorIndex(x.count); s++ {
		if t, ok := w.liars.torn[sectorKey{x.file, s}]; ok && t.over == 0 && t.version.Less(x.version) {
			t.over = w.clock
			w.liars.torn[sectorKey{x.file, s}] = t
		}
	}
}

// isTorn reports whether some sector of a run is torn, or was at a time.
func (w *World) isTorn(file int, first blocktree.SectorIndex, count uint32, at int64) bool {
	for s := first; len(w.liars.torn) > 0 && s < first+blocktree.SectorIndex(count); s++ {
		if t, ok := w.liars.torn[sectorKey{file, s}]; ok && (t.over == 0 || at <= t.over) {
			return true
		}
	}
	return false
}

// staleByLiar reports whether a read was shown a sector as it was before a write that had been acknowledged, or read, when it was called for. That takes a liar
// in sync, which says that it does not hold the write, and that no honest member that can be reached had committed it by then. A holder knows what it has acknowledged; of what it
// has not, it cannot know who has read it.
func (w *World) staleByLiar(c *client, o *op, s blocktree.SectorIndex, v blocktree.Version) bool {
	if len(w.liars.nodes) == 0 {
		return false
	}
	l := o.layout
	if !c.reader {
		l = c.h.Layout()
	}
	view := l.View(o.region)
	if w.liarsIn(&view) == 0 {
		return false
	}
	unknown := false
	for _, x := range w.writes {
		was := x.state == acked && x.ackedAt < o.call && c.reader || x.seen && x.seenAt <= o.call && (c.reader || x.ackedAt == 0 || x.ackedAt > o.call)
		if x.file == o.file && x.region == o.region && s >= x.first && s < x.first+blocktree.SectorIndex(x.count) && v.Less(x.version) && was && !x.doomed {
			if w.reachesWhoKnows(c, o, &view, x) {
				return false
			}
			unknown = true
		}
	}
	if unknown {
		w.count.Stale++
	}
	return unknown
}

// reached reports whether a client could reach a node while an operation went on.
func (c *client) reached(n *node, o *op) bool {
	l := &c.links[n.idx]
	return l.up && l.downAt < o.call
}

// reachesWhoKnows reports whether a client could reach an honest member in sync that had committed a write when an operation was called for.
func (w *World) reachesWhoKnows(c *client, o *op, v *stripe.View, x *write) bool {
	return slices.ContainsFunc(v.Members, func(m stripe.ViewMember) bool {
		n := w.nodes[w.nodeOf(m.Node)]
		return m.State == stripe.InSync && x.known[n.idx] != 0 && x.known[n.idx] <= o.call && c.reached(n, o)
	})
}

func (c *Counters) lied(k lie) {
	c.Lies++
	c.LiesOf[k]++
}

func (c *Counters) named(k stripe.SuspectKind) {
	c.Named++
	c.NamedAs[k]++
}

// endLiars counts how a world with liars ended.
func (w *World) endLiars() {
	switch {
	case len(w.liars.nodes) == 0:
	case w.liars.silent:
		w.count.AfterLiars++
	default:
		w.count.BesideLiars++
	}
}
