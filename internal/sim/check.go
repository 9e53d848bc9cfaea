package sim

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// sentRepair is one region's decision as a holder has announced it.
type sentRepair struct {
	region  blocktree.RegionIndex
	floor   blocktree.Version
	winners []blocktree.Version
}

// remember keeps the decisions that a holder sends, and demands that it does not change its mind.
func (c *client) remember(m *stripe.Message) {
	if m.Kind != stripe.KindRepair {
		return
	}
	for _, r := range m.Repairs {
		i := slices.IndexFunc(c.sent, func(s sentRepair) bool { return s.region == r.Region })
		if i < 0 {
			c.sent = append(c.sent, sentRepair{r.Region, r.Floor, slices.Clone(r.Winners)})
			c.w.judgeDecision(c, &r)
			continue
		}
		if s := c.sent[i]; s.floor != r.Floor || !slices.Equal(s.winners, r.Winners) {
			c.w.fail("I4 repairs agree", "client %d epoch %d region %d: floor %v winners %v, before %v %v", c.idx, c.epoch, r.Region, r.Floor, r.Winners, s.floor, s.winners)
		}
	}
}

// released keeps which writes the machine has given back, whose memory a driver uses for others then (0040).
func (c *client) released(x *stripe.Write) {
	if c.given[x] {
		c.w.fail("I20 released once", "client %d epoch %d: %v a second time", c.idx, c.epoch, x.Version)
	}
	if c.given == nil {
		c.given = map[*stripe.Write]bool{}
	}
	c.given[x] = true
}

// notReleased demands that a message that has a write's shards says so, and is not of one that was given back.
func (c *client) notReleased(m *stripe.Message) {
	x, ok := m.Memory.(*stripe.Write)
	if m.Kind == stripe.KindPrepare && m.Record.Kind == stripe.RecordData && !ok {
		c.w.fail("I20 what has a write's shards names it", "client %d epoch %d: %v", c.idx, c.epoch, m.Record.Version)
	}
	if ok && c.given[x] {
		c.w.fail("I20 nothing is sent of what was released", "client %d epoch %d: %v to node %v", c.idx, c.epoch, x.Version, m.Node)
	}
}

// void records that a write has not happened. Nobody may have been told that it has.
func (w *World) void(x *write, as writeState) {
	if x.era < w.meta.files[x.file].decided && !x.flushed && (as == voided || as == lost) { // and that was said
		if x.state == acked {
			w.count.VolatileLost++
		}
		x.state = lost
		return
	}
	if x.state == acked || x.seen {
		w.fail("I4 acknowledged is not voided", "write %d (%v, %d+%d): state %d seen %v", x.value, x.version, x.first, x.count, x.state, x.seen)
	}
	if x.state == open {
		x.state = as
	}
}

// checkDecision is called when a take-over is complete: every version of an older epoch is decided now.
func (w *World) checkDecision(c *client) {
	w.count.Recoveries++
	x := &w.meta.files[c.file]
	for e := range x.ended {
		if _, ok := x.taken[e]; !ok && e < c.epoch {
			x.taken[e] = w.tick()
		}
	}
	l := c.h.Layout()
	first := l.Loss > x.decided
	x.decided = max(x.decided, l.Loss)
	pending := false
	for _, s := range c.sent {
		pending = pending || len(s.winners) > 0
		w.count.Winners += uint64(len(s.winners))
		for _, x := range w.writes {
			if x.file != c.file || x.region != s.region || x.version.Epoch >= c.epoch || !s.floor.Less(x.version) || x.version.IsZero() || x.state == canceled || x.state == lost || x.state == undone {
				continue
			}
			if !slices.Contains(s.winners, x.version) {
				if x.state == open {
					w.count.Voided++
				}
				if !w.undoneByLiar(x) {
					w.void(x, voided)
				}
			} else if (x.state == voided || x.state == aborted) && (len(w.liars.nodes) == 0 || w.honestHold(c, x)) {
				w.fail("I4 repairs agree", "write %d (%v) was void and wins", x.value, x.version)
			}
		}
	}
	if pending {
		w.count.RepairsWithWinners++
	}
	if first {
		w.beginEra(c.file, l.Loss)
	}
	w.keep(c)
	w.trace("c%d has recovered file %d under epoch %d: %+v", c.idx, c.file, c.epoch, c.sent)
}

// checkAcknowledged demands I1 and I6 at the moment of an acknowledgement.
func (w *World) checkAcknowledged(c *client, x *write) {
	if x.era < w.meta.files[x.file].layout.Loss { // it may be lost meanwhile: the client hears of that when it next asks for anything
		return
	}
	if w.undoneMeanwhile(x, 0) {
		return
	}
	if x.state == voided || x.state == aborted || x.state == lost {
		w.fail("I4 void is not acknowledged", "client %d: write %d (%v) is void since", c.idx, x.value, x.version)
	}
	l := w.meta.files[x.file].layout
	inSync := 0
	for _, m := range l.View(x.region).Members {
		n := w.nodes[w.nodeOf(m.Node)]
		if m.State != stripe.InSync || l.Marked[m.Node] {
			continue
		}
		if inSync++; !n.trusted(l) || n.liar != nil || x.doomed { // it has lost its disk this very moment, and nobody knows
			continue
		}
		for s := x.first; s < x.first+blocktree.SectorIndex(x.count); s++ {
			if !n.holds(x.file, s, x.version) {
				w.fail("I1 acknowledged is durable", "client %d: write %d (%v), sector %d, node %d", c.idx, x.value, x.version, s, n.idx)
			}
		}
	}
	own := c.h.Layout()
	view := own.View(x.region)
	for _, m := range view.Members {
		if n := w.nodes[w.nodeOf(m.Node)]; m.State == stripe.InSync && n.liar == nil && own.Incarnations[m.Node] == n.incOf(own) && n.says[x.file].knows < view.ID {
			w.fail("I6 view known before acknowledged", "client %d: write %d (%v) under view %d, node %d has answered under %d", c.idx, x.value, x.version, view.ID, n.idx, n.says[x.file].knows)
		}
	}
	if own.Epoch == l.Epoch && own.Seq == l.Seq && inSync < l.Code.MinWrite() {
		w.fail("I1 acknowledged by MinWrite", "client %d: write %d (%v) on %d members", c.idx, x.value, x.version, inSync)
	}
}

// checkQuorum demands of a leaseless read that enough members have answered it (rule 6).
func (w *World) checkQuorum(c *client, o *op) {
	code := o.layout.Code
	s := 0
	for _, m := range o.layout.View(o.region).Members {
		if m.State == stripe.InSync && !o.layout.Marked[m.Node] {
			s++
		}
	}
	if need := max(code.Data, s-code.MinWrite()+1); bits.OnesCount32(o.heard) < need {
		w.fail("rule 6 quorum", "client %d op %d: %d of %d members were heard, not %d", c.idx, o.id, bits.OnesCount32(o.heard), s, need)
	}
}

// checkLease demands of a holder's read that its epoch was still the newest at some moment after the read was called for
// (rule 6). Members that have not been fenced yet would let it pass. Where they were asked instead of Raft, no later holder
// may have recovered before that.
func (w *World) checkLease(c *client, o *op) {
	over := w.meta.files[o.file].ended
	if c.witnessing {
		over = w.meta.files[o.file].taken
		w.checkWitnesses(c, o)
	}
	if t, ok := over[c.epoch]; ok && t < o.call {
		w.fail("rule 6 lease", "client %d op %d was called for when epoch %d was over", c.idx, o.id, c.epoch)
	}
}

// checkWitnesses demands of a holder's read that Raft did not confirm that no member of its region had been fenced by a later
// holder when it was called for (I14).
func (w *World) checkWitnesses(c *client, o *op) {
	for _, m := range c.h.Layout().View(o.region).Members {
		for _, f := range w.nodes[w.nodeOf(m.Node)].says[o.file].fences {
			if n := w.nodes[w.nodeOf(m.Node)]; n.liar == nil && m.State != stripe.Out && f.epoch > c.epoch && f.at < o.call {
				w.fail("I14 witnesses", "client %d op %d under epoch %d: node %d had been fenced under %d", c.idx, o.id, c.epoch, w.nodeOf(m.Node), f.epoch)
			}
		}
	}
}

// checkSuspects demands that nobody is called a liar who keeps its promises (0029, L2). In a world without its rules nobody need.
func (w *World) checkSuspects(xs []stripe.Suspect) {
	for _, x := range xs {
		n := w.nodes[w.nodeOf(x.Node)]
		if n.liar != nil {
			w.count.named(x.Kind)
		} else if !n.lostDisk && (w.opt.Mutant == "" || w.opt.Liars) && !w.isTorn(w.meta.fileOf(x.File), x.First, x.Count, 0) {
			w.fail("L2 the honest are not named", "node %d: %v at %d+%d", n.idx, x.Kind, x.First, x.Count)
		}
	}
}

// checkMayRead demands of a member that is between a fence and its repair that it answers no reads (rule 5), nor before it is repaired
// after a loss.
func (w *World) checkMayRead(n *node, file int, q *stripe.Message) {
	s := &n.says[file]
	if n.liar != nil {
		return
	}
	l := w.meta.files[file].layout
	if w.resizes.bornUnder(file, q.Region, q.Epoch) || q.Epoch == 1 && s.fenced <= 1 && l.LossEpoch != 1 {
		return // there is nothing older
	}
	if !w.prof.lateReads && s.repaired < s.fenced && s.reset[q.Region] < s.fenced {
		w.fail("rule 5 no reads while recovering", "node %d answers under epoch %d: fenced under %d, repaired under %d", n.idx, q.Epoch, s.fenced, s.repaired)
	}
	if at := l.LossEpoch; !w.prof.lateReads && q.Epoch >= at && s.repaired < at && s.reset[q.Region] < at {
		w.fail("no reads before a loss is decided", "node %d answers under epoch %d: repaired under %d, lost under %d", n.idx, q.Epoch, s.repaired, at)
	}
}

// checkRemoval demands in a world where nothing happens but full disks that nobody leaves for that (rule 9); a joining
// member may.
func (w *World) checkRemoval(old *stripe.Layout, c stripe.Change) {
	for r := blocktree.RegionIndex(0); w.prof.calm && r < old.Regions(); r++ {
		for _, m := range old.View(r).Members {
			if m.State == stripe.InSync && slices.Contains(c.Nodes, m.Node) && w.nodes[w.nodeOf(m.Node)].liar == nil {
				w.fail("rule 9 no removal for want of space", "nodes %v: %s", c.Nodes, describeLayout(old))
			}
		}
	}
}

// checkLayout demands I7 of every layout that Raft has.
func (w *World) checkLayout(l *stripe.Layout) {
	w.count.ViewChanges++
	for r := blocktree.RegionIndex(0); r < l.Regions(); r++ {
		v := l.View(r)
		if v.Count(stripe.InSync) < l.Code.Data {
			w.fail("I7 at least k in sync", "region %d: %s", r, describeLayout(l))
		}
		joining := v.Count(stripe.Joining)
		if v.Heir != 0 {
			joining++
			if _, there := v.Shard(v.Heir); there || v.Members[v.HeirPlace].State != stripe.InSync {
				w.fail("I16 an heir follows one in sync", "region %d: %s", r, describeLayout(l))
			}
		}
		if joining > 1 {
			w.fail("one joins at a time", "region %d: %s", r, describeLayout(l))
		}
		if v.ID > l.Seq || len(v.Members) != l.Code.Shards() {
			w.fail("layout", "region %d: %s", r, describeLayout(l))
		}
	}
}

// checkPromotion demands I5 of a member that is about to count.
func (w *World) checkPromotion(file int, l *stripe.Layout, c stripe.Change) {
	n := w.nodes[w.nodeOf(c.Nodes[0])]
	w.notePromoted(n, file, c.Region)
	if !n.trusted(l) || n.liar != nil {
		return // it has lost its disk this very moment; the mark is on its way
	}
	for _, x := range w.writes {
		if x.file != file || x.region != c.Region || x.state != acked || x.doomed {
			continue
		}
		for s := x.first; s < x.first+blocktree.SectorIndex(x.count); s++ {
			if !n.holds(file, s, x.version) && !w.superseded(n, x, s) {
				w.fail("I5 in sync has all", "node %d is promoted in region %d without sector %d of write %d (%v)", n.idx, c.Region, s, x.value, x.version)
			}
			if x.flushed && !n.disk.holds(w, file, s, x.version) && !w.superseded(n, x, s) {
				w.fail("F1 flushed is durable", "node %d is promoted in region %d with sector %d of write %d (%v) not durable", n.idx, c.Region, s, x.value, x.version)
			}
		}
	}
}

// superseded reports whether the node has durably a later version of the sector, acknowledged or decided.
func (w *World) superseded(n *node, x *write, s blocktree.SectorIndex) bool {
	return slices.ContainsFunc(w.writes, func(y *write) bool {
		return (y.state == acked || y.flushed) && y.file == x.file && y.region == x.region && s >= y.first && s < y.first+blocktree.SectorIndex(y.count) &&
			x.version.Less(y.version) && n.disk.find(w, x.file, s, y.version) >= 0 // durably, or it would not do for what was flushed
	})
}

// checkHistories asks whether some order of all operations explains what was read, for each sector. Every eighth world asks
// porcupine as well as the quick decision, and the two must agree.
func (w *World) checkHistories() {
	for at, h := range w.histories() {
		ok := h.Atomic()
		if !ok || w.opt.Seed%porcupineEach == 0 {
			w.count.Porcupine++
			if h.Linearizable() != ok {
				w.fail("checkers disagree", "file %d sector %d: quick %v", at[0], at[1], ok)
			}
		}
		if w.count.Histories++; !ok {
			w.trace("history: %+v", h)
			w.fail("not linearizable", "file %d sector %d", at[0], at[1])
		}
	}
	w.checkZeros()
	if w.stale != "" {
		w.fail("rule 6 newest layout", "%s", w.stale)
	}
}

// porcupineEach is how many worlds there are to one whose histories porcupine checks too: it takes as long as the rest
// of a world.
const porcupineEach = 8

// checkStored demands, when all is quiet, that every member has its own good shard of what was read, durably.
func (w *World) checkStored(file int, res *stripe.ReadResult) {
	l := w.meta.files[file].layout
	for _, p := range res.Pieces {
		v := l.View(l.RegionOf(p.First))
		for shard, m := range v.Members {
			n := w.nodes[w.nodeOf(m.Node)]
			if n.liar != nil {
				continue
			}
			for s := p.First; s < p.First+blocktree.SectorIndex(p.Count); s++ {
				w.checkShard(file, n, blocktree.ShardIndex(shard), s, p)
			}
		}
	}
}

func (w *World) checkShard(file int, n *node, shard blocktree.ShardIndex, s blocktree.SectorIndex, p stripe.Piece) {
	if w.isTorn(file, s, 1, 0) {
		return
	}
	at := n.find(file, s, p.Version)
	if p.Kind == stripe.Absent {
		if x := n.disk.index[file][s]; !x.version.IsZero() {
			w.fail("I5 in sync has all", "sector %d is absent, but node %d has %v", s, n.idx, x.version)
		}
		return
	}
	if at < 0 {
		w.fail("I5 in sync has all", "sector %d: node %d has no %v", s, n.idx, p.Version)
	}
	if x := n.disk.index[file][s]; x.version == p.Version {
		at = x.at
	} else if p.Version.Less(x.version) {
		w.fail("I2 committed", "sector %d: node %d has committed %v above %v", s, n.idx, x.version, p.Version)
	}
	e := n.disk.log[at]
	if p.Kind != stripe.Data {
		return
	}
	value := w.byVer[versionKey{file, w.meta.files[file].layout.RegionOf(s), p.Version}].value
	got := binary.BigEndian.Uint32(e.rec.Payload[int(s-e.rec.First)*shardBytes:])
	if e.rec.Shard != shard || got != shardOf(w.cfg.Code.Data, value, s, shard) {
		w.fail("wrong shard", "sector %d: node %d keeps a wrong shard %d of %v", s, n.idx, e.rec.Shard, p.Version)
	}
}
