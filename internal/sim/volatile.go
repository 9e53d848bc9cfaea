package sim

import (
	"encoding/binary"
	"iter"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/history"
)

// What is played of files of durability flush (docs/design/0014): records that are written and not synced, what loses them, and what
// must be left of the files then.

// chooseFlush decides which files are of durability flush, and how much of them is volatile for how long.
func (w *World) chooseFlush() {
	p := &w.prof
	p.durable = []bool{false, w.luck.Float64() < 0.5}
	p.flushShare = []float64{0.05, 0.15, 0.3}[w.luck.IntN(3)]
	p.flushAfter = []int64{25, 100, 400, 5000}[w.luck.IntN(4)]
	p.flushBytes = []int{20, 60, 1 << 20}[w.luck.IntN(3)] * w.cfg.Code.Data
	p.volatileEvery = []int64{60, 150, 400, 1500}[w.luck.IntN(4)]
}

// volatileFault kills processes, or takes the power of more nodes at a time than the code bears.
func (w *World) volatileFault() {
	if w.quiet {
		return
	}
	w.after(1+w.luck.Int64N(2*w.prof.volatileEvery), w.volatileFault)
	long := 1 + w.luck.Int64N([]int64{10, 40, 150}[w.luck.IntN(3)])
	back := func(n *node) { w.after(1+w.luck.Int64N(long), n.start) }
	for range 4 { // with so many members lost, few shards are of regions that can bear it
		w.nodes[w.luck.IntN(len(w.nodes))].damage()
	}
	n := w.nodes[w.luck.IntN(len(w.nodes))]
	switch x := w.luck.Float64(); {
	case x < 0.4:
		n.kill()
		back(n)
	case x < 0.5:
		n.crash()
		back(n)
	case x < 0.6:
		for _, n := range w.nodes {
			n.kill()
			back(n)
		}
	default:
		w.count.MassLosses++
		spared := func(int) bool { return false }
		switch one := w.luck.IntN(len(w.nodes)); w.luck.IntN(3) {
		case 0:
			spared = func(i int) bool { return i == one }
		case 1:
			spared = func(int) bool { return w.luck.Float64() < 0.4 }
		}
		for i, n := range w.nodes {
			if !spared(i) {
				n.crash()
				back(n)
			}
		}
	}
}

// ---- the node ----

// incOf is the incarnation that a file's views are to expect of the node.
func (n *node) incOf(l *stripe.Layout) blocktree.Incarnation {
	if l.Durability == stripe.DurabilityFlush {
		return n.vol
	}
	return n.inc
}

func (n *node) incFor(file int) blocktree.Incarnation { return n.incOf(n.w.meta.files[file].layout) }

// keepsDisk reports whether the node has the disk by which a layout counts on it. What was not synced may be gone.
func (n *node) keepsDisk(l *stripe.Layout) bool {
	if l.Durability == stripe.DurabilityFlush {
		return l.Incarnations[n.id].SameDisk(n.vol)
	}
	return n.trusted(l)
}

// forgetVolatile is a start that cannot vouch for what was not synced.
func (n *node) forgetVolatile() {
	if !n.w.opt.Flush || n.w.mutant("volatile-kept") {
		return
	}
	n.vol = n.inc
	binary.BigEndian.PutUint64(n.vol[8:], (uint64(n.gen)+1)<<8) // members write a place into the last byte; what is drawn differs elsewhere, too
	n.freshInc = true
}

// kill ends the process: what it had written to the log file is there, synced or not. Where the node can tell that this is all it
// had answered for, it goes on as what it was.
func (n *node) kill() {
	if !n.up {
		return
	}
	n.up = false
	n.gen++
	n.w.count.Kills++
	for i := n.wrote; i < len(n.disk.log); i++ {
		n.disk.log[i].lost = true
		n.w.count.Unwritten++
	}
	n.wrote = len(n.disk.log) // not synced before it starts again: power may be lost first
	if n.w.luck.Float64() < 0.5 || n.liar == nil && !n.w.bearsWithout(n) {
		n.w.count.KillsKept++
	} else {
		n.forgetVolatile()
	}
	n.m = nil
	for _, c := range n.w.clients {
		c.lost(n, true)
	}
	n.w.trace("n%d killed, volatile incarnation %x", n.idx, n.vol)
}

// losePower is the loss of power of a node that does not run: what a kill left and nothing has synced is there in part.
func (n *node) losePower() {
	if n.disk.synced == len(n.disk.log) {
		return
	}
	if n.liar == nil && !n.w.bearsWithout(n) {
		return
	}
	n.w.count.KillsThenPower++
	n.disk.loseTail(n.w)
	n.disk.synced, n.wrote = len(n.disk.log), len(n.disk.log)
	n.forgetVolatile()
	n.w.trace("n%d, killed before, loses power", n.idx)
}

// writeOut has what was appended in the log file some time later.
func (n *node) writeOut() {
	if !n.w.opt.Flush {
		return
	}
	pos, records := len(n.disk.log), uint64(len(n.ends))
	n.w.q.push(event{at: n.w.now + n.w.luck.Int64N(4), kind: evRead, who: n.idx, gen: n.gen, fn: func() {
		n.wrote = max(n.wrote, pos)
		n.m.Written(records)
		n.drain()
	}})
}

// find returns the record of a version that covers a sector, as stored as the file's durability demands, or -1.
func (n *node) find(file int, s blocktree.SectorIndex, v blocktree.Version) int {
	if n.w.meta.files[file].layout.Durability == stripe.DurabilityFlush {
		return n.disk.findBelow(n.wrote, n.w, file, s, v)
	}
	return n.disk.find(n.w, file, s, v)
}

// holds reports whether the node has the sector at version v, so stored, or at a newer committed one.
func (n *node) holds(file int, s blocktree.SectorIndex, v blocktree.Version) bool {
	return n.find(file, s, v) >= 0 || v.Less(n.disk.index[file][s].version)
}

// ---- Raft ----

// currentOf gives the incarnations that nodes have started under, as a file goes by them.
func (m *meta) currentOf(l *stripe.Layout) func(blocktree.NodeID) blocktree.Incarnation {
	if l.Durability == stripe.DurabilityFlush {
		return func(n blocktree.NodeID) blocktree.Incarnation { return m.volatile[n] }
	}
	return func(n blocktree.NodeID) blocktree.Incarnation { return m.current[n] }
}

// startedVolatile marks a node in a file of durability flush that expects it under another volatile incarnation.
func (m *meta) startedVolatile(file int, n *node) {
	l := m.files[file].layout
	if !slices.Contains(l.Hosts, n.id) || l.Incarnations[n.id] == n.vol || l.Marked[n.id] && l.Back[n.id] == n.vol {
		return
	}
	m.w.count.Marks++
	next := l.MarkBack(n.id, n.vol)
	if m.w.mutant("back-any-disk") {
		if next.Back == nil {
			next.Back = map[blocktree.NodeID]blocktree.Incarnation{}
		}
		next.Back[n.id] = n.vol
	}
	m.put(file, next, "mark")
}

// acquired is the layout under a new epoch, after a loss if that was one.
func (m *meta) acquired(l *stripe.Layout) *stripe.Layout {
	n := l.Acquire()
	m.w.resizes.acquired(l, n)
	if n.Loss == l.Loss {
		return n
	}
	m.w.count.Losses++
	if m.w.mutant("loss-unsaid") {
		n.Loss, n.LossEpoch = l.Loss, l.LossEpoch
	}
	return n
}

// ---- clients ----

// hear takes note of the loss number under which a file is opened.
func (c *client) hear(l *stripe.Layout) { c.heard[c.w.meta.fileOf(l.File)] = l.Loss }

// lossHeard ends a leaseless read of a file that has lost writes since it was opened: the caller gets an error and opens it anew.
func (c *client) lossHeard(o *op, l *stripe.Layout) bool {
	if l.Loss == o.era || c.w.mutant("loss-unheard") {
		return false
	}
	c.w.count.LossesHeard++
	c.hear(l)
	c.remove(o)
	c.failed(o, blocktree.Lost)
	return true
}

// ---- what must be left ----

// era is what clients saw of a file between two losses.
type era struct {
	begun   bool // somebody has decided how it began: that is in the histories
	sectors []history.History
	zeros   []zeroClaim
}

func (w *World) history(file int, loss uint64, s blocktree.SectorIndex) *history.History {
	for uint64(len(w.eras[file])) <= loss {
		w.eras[file] = append(w.eras[file], era{sectors: make([]history.History, w.meta.files[file].sectorsMax)})
	}
	return &w.eras[file][loss].sectors[s]
}

// histories goes through those of all files and eras. In an era that ended before anybody had decided how it began no write was
// acknowledged: what its first read saw is what it began with.
func (w *World) histories() iter.Seq2[[2]int, history.History] {
	return func(yield func([2]int, history.History) bool) {
		for f := range w.eras {
			for e := range w.eras[f] {
				x := &w.eras[f][e]
				for s := range x.sectors {
					if !yield([2]int{f, s}, w.liars.without(x.history(e, s))) {
						return
					}
				}
			}
		}
	}
}

func (x *era) history(number, sector int) history.History {
	h := x.sectors[sector]
	if at := slices.IndexFunc(h, func(o history.Op) bool { return !o.Write && o.Value != 0 }); number > 0 && !x.begun && at >= 0 {
		h = append(slices.Clone(h), history.Op{Value: h[at].Value, Write: true})
	}
	return h
}

// beginEra is called when a take-over is complete that is the first since a loss: what is left of the file is what all members have
// committed now. Nothing that was flushed may be missing, nothing else that was acknowledged may be there at some and not at others.
func (w *World) beginEra(file int, loss uint64) {
	l := w.meta.files[file].layout // the newest: a removal that the holder has not heard of may have been made
	for _, x := range w.writes {
		if x.file != file || x.era >= loss || x.state != acked && x.state != open || x.version.IsZero() {
			continue
		}
		there := w.committedBy(file, x, l)
		switch {
		case !there && x.flushed:
			w.fail("F1 flushed is durable", "write %d (%v) of %d+%d was flushed and is gone after loss %d", x.value, x.version, x.first, x.count, loss)
		case !there:
			w.void(x, lost)
		case x.flushed:
			w.count.FlushedKept++
		case x.state == acked:
			w.count.VolatileKept++
		}
	}
	w.history(file, loss, 0)
	w.eras[file][loss].begun = true
	for s := blocktree.SectorIndex(0); uint64(s) < l.Sectors; s++ {
		r := l.RegionOf(s)
		var at *indexed
		for _, m := range l.View(r).Members {
			n := w.nodes[w.nodeOf(m.Node)]
			if m.State != stripe.InSync || !n.keepsDisk(l) || n.liar != nil {
				continue
			}
			x := &n.disk.index[file][s]
			if at == nil {
				at = x
			}
			if at.version != x.version {
				w.fail("F5 one state after a loss", "sector %d: %v and, at node %d, %v", s, at.version, n.idx, x.version)
			}
		}
		if at == nil || at.version.IsZero() {
			continue
		}
		x := w.byVer[versionKey{file, r, at.version}]
		if x.state == voided || x.state == aborted || x.state == lost {
			w.fail("F5 one state after a loss", "sector %d is at %v, which is void", s, at.version)
		}
		h := w.history(file, loss, s)
		*h = append(*h, history.Op{Value: x.value, Write: true})
	}
}

// keep is called when a take-over is complete. What it has kept is durable at every member in sync from now on, as if flushed.
func (w *World) keep(c *client) {
	if !w.isFlush(c.file) {
		return
	}
	for _, x := range w.writes {
		if x.file != c.file || x.version.IsZero() || x.version.Epoch >= c.epoch {
			continue
		}
		won := slices.ContainsFunc(c.sent, func(s sentRepair) bool { return s.region == x.region && slices.Contains(s.winners, x.version) })
		if x.state == acked || x.state == open && won {
			w.demandStable("F1 flushed is durable", x)
			x.flushed = true
		}
	}
}

func (w *World) isFlush(file int) bool {
	return w.meta.files[file].layout.Durability == stripe.DurabilityFlush
}

// demandStable fails the world unless a write is durable at every member in sync that has its disk.
func (w *World) demandStable(name string, x *write) {
	if x.doomed || x.torn || x.revived {
		return
	}
	l := w.meta.files[x.file].layout
	for _, m := range l.View(x.region).Members {
		n := w.nodes[w.nodeOf(m.Node)]
		if m.State != stripe.InSync || !n.keepsDisk(l) || n.liar != nil {
			continue
		}
		for s := x.first; s < x.first+blocktree.SectorIndex(x.count); s++ {
			if !n.disk.holds(w, x.file, s, x.version) && !w.superseded(n, x, s) {
				w.fail(name, "write %d (%v), sector %d, node %d", x.value, x.version, s, n.idx)
			}
		}
	}
}

// checkMark demands F2 of a watermark that a member is told.
func (w *World) checkMark(c *client, m *stripe.Message) {
	mark := m.Watermark
	if m.Record != nil {
		mark = m.Record.Watermark
	}
	if c.reader || mark.Epoch != c.epoch || mark.Sequence <= c.marks[m.Region] || !w.isFlush(c.file) {
		return
	}
	for s := c.marks[m.Region] + 1; s <= mark.Sequence; s++ {
		if x := w.byVer[versionKey{c.file, m.Region, blocktree.Version{Epoch: c.epoch, Sequence: s}}]; x != nil && x.state == acked {
			w.demandStable("F2 watermarks are stable", x)
		}
	}
	c.marks[m.Region] = mark.Sequence
}

// checkIndexed demands F3 of a record that a node is about to index.
func (w *World) checkIndexed(n *node, file int, rec *stripe.Held) {
	w.noteKnown(n, file, rec)
	w.noteRevived(n, file, rec)
	if l := w.meta.files[file].layout; !w.isFlush(file) || !n.keepsDisk(l) || n.liar != nil {
		return
	}
	x := w.byVer[versionKey{file, rec.Region, rec.Version}]
	if x == nil || x.state == canceled {
		w.fail("F3 indexed is stable", "node %d indexes %v, which nobody wrote", n.idx, rec.Version)
	}
	w.demandStable("F3 indexed is stable", x)
}

// committedBy reports whether all members in sync have a write or something newer committed, in all its sectors.
func (w *World) committedBy(file int, x *write, l *stripe.Layout) bool {
	for _, m := range l.View(x.region).Members {
		n := w.nodes[w.nodeOf(m.Node)]
		if m.State != stripe.InSync || !n.keepsDisk(l) || n.liar != nil {
			continue
		}
		for s := x.first; s < x.first+blocktree.SectorIndex(x.count); s++ {
			if n.disk.index[file][s].version.Less(x.version) {
				return false
			}
		}
	}
	return true
}

// flushed demands F1 when a FLUSH ends: what was acknowledged before it began, by this holder or an earlier one, is durable at every member in sync that has its disk.
func (w *World) flushed(c *client, o *op) {
	l := w.meta.files[o.file].layout
	if l.Durability != stripe.DurabilityFlush {
		return
	}
	for _, x := range w.writes {
		if x.file != o.file || x.state != acked && x.state != lost || x.ackedAt > o.call && !slices.Contains(o.before, x) || x.era != o.era || x.flushed || x.version.Epoch > c.epoch || x.ackedAt == 0 {
			continue
		}
		if x.state == lost {
			w.fail("F1 flushed is durable", "client %d: write %d (%v) is lost, and a FLUSH after it ends well", c.idx, x.value, x.version)
		}
		w.demandStable("F1 flushed is durable", x)
		x.flushed = true
		w.count.FlushedWrites++
	}
}
