package sim

import (
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// meta stands in for Raft: one linearizable copy of the layouts and leases, and a log that the nodes apply late.
type meta struct {
	w         *World
	files     []metaFile
	log       []metaEntry
	current   map[blocktree.NodeID]blocktree.Incarnation
	volatile  map[blocktree.NodeID]blocktree.Incarnation // likewise, of what files of durability flush go by
	downUntil int64
}

type metaFile struct {
	layout *stripe.Layout
	owner  int                       // process that holds the lease, 0: nobody
	until  int64                     // the lease's term
	ended  map[blocktree.Epoch]int64 // when another owner's epoch began, in ticks of the histories' clock
	taken  map[blocktree.Epoch]int64 // and when the first later holder had recovered
	// decided is the newest loss number under which a take-over is complete.
	decided uint64

	sectorsMax uint64 // that it may ever have
}

type metaEntry struct {
	file   int
	layout *stripe.Layout
}

func newMeta(w *World) *meta {
	m := &meta{w: w, current: map[blocktree.NodeID]blocktree.Incarnation{}, volatile: map[blocktree.NodeID]blocktree.Incarnation{}}
	p := &w.prof
	for f := range p.files {
		l := &stripe.Layout{
			File: blocktree.FileID{Generation: 1, Inode: blocktree.Inode(100 + f)}, Code: w.cfg.Code,
			SectorBytes: uint32(shardBytes * w.cfg.Code.Data), RegionSectors: p.regionSectors,
			Sectors: p.regionSectors*uint64(p.regions) - uint64(w.rnd.IntN(2)), Seq: 1, BaseID: 1,
			Incarnations: map[blocktree.NodeID]blocktree.Incarnation{},
		}
		if f < len(p.durable) && !p.durable[f] {
			l.Durability = stripe.DurabilityFlush
		}
		for i := range w.cfg.Nodes {
			id := blocktree.NodeID(i + 1)
			l.Hosts = append(l.Hosts, id)
			l.Incarnations[id] = incarnation(id, 1)
			m.current[id], m.volatile[id] = incarnation(id, 1), incarnation(id, 1)
		}
		m.files = append(m.files, metaFile{layout: l, sectorsMax: w.resizes.sectorsMax(l), ended: map[blocktree.Epoch]int64{}, taken: map[blocktree.Epoch]int64{}})
		m.log = append(m.log, metaEntry{f, l})
	}
	return m
}

func (m *meta) reachable() bool { return m.w.quiet || m.downUntil <= m.w.now }

func (m *meta) fileOf(id blocktree.FileID) int { return int(id.Inode) - 100 }

// known is the layout of a file at a point of the log, nil if it did not exist.
func (m *meta) known(file, applied int) *stripe.Layout {
	for i := applied - 1; i >= 0; i-- {
		if m.log[i].file == file {
			return m.log[i].layout
		}
	}
	return nil
}

// put makes l the newest layout of its file.
func (m *meta) put(file int, l *stripe.Layout, why string) {
	w := m.w
	m.files[file].layout = l
	m.log = append(m.log, metaEntry{file, l})
	w.note(uint64(l.Epoch)<<32|uint64(l.Seq), 0xface)
	if w.tracing() {
		w.trace("raft %d: %s: %s", len(m.log), why, describeLayout(l))
	}
	w.checkLayout(l)
	for _, n := range w.nodes {
		n.wakeRaft()
	}
}

// started is a node's report of the incarnation it runs under: views that expect another are marked.
func (m *meta) started(n *node) {
	m.current[n.id], m.volatile[n.id] = n.inc, n.vol
	for f := range m.files {
		l := m.files[f].layout
		if l.Durability == stripe.DurabilityFlush {
			m.startedVolatile(f, n)
			continue
		}
		if slices.Contains(l.Hosts, n.id) && l.Incarnations[n.id] != n.inc && !l.Marked[n.id] {
			m.w.count.Marks++
			m.put(f, l.Mark(n.id), "mark")
		}
	}
}

// enough reports whether every region keeps k in-sync members that have their disks, besides not.
func (m *meta) enough(l *stripe.Layout, not *node) bool {
	for r := blocktree.RegionIndex(0); r < l.Regions(); r++ {
		have := 0
		for _, x := range l.View(r).Members {
			if n := m.w.nodes[m.w.nodeOf(x.Node)]; x.State == stripe.InSync && n != not && n.keepsDisk(l) {
				have++
			}
		}
		if have < l.Code.Data {
			return false
		}
	}
	return m.w.bears(l, not)
}

// acquire gives the lease to a process, or says Busy.
func (m *meta) acquire(file, owner int) (*stripe.Layout, blocktree.Kind) {
	x := &m.files[file]
	if x.owner != 0 && x.owner != owner && x.until > m.w.now && !(m.w.prof.wild && m.w.chance(0.6)) {
		return nil, blocktree.Busy
	}
	if x.owner != 0 && x.owner != owner {
		m.w.count.TakeOvers++
	}
	if x.owner != owner { // a late request of the owner itself does it no harm
		x.ended[x.layout.Epoch] = m.w.tick()
	}
	x.owner, x.until = owner, m.w.now+leaseTerm
	m.put(file, m.acquired(x.layout), "acquire")
	return x.layout, blocktree.Other
}

// renew extends the lease of owner.
func (m *meta) renew(file, owner int) bool {
	x := &m.files[file]
	if x.owner == owner {
		x.until = m.w.now + leaseTerm
	}
	return x.owner == owner
}

// release ends the lease of an epoch; a request that comes late must not end the owner's next one.
func (m *meta) release(file, owner int, epoch blocktree.Epoch) {
	if x := &m.files[file]; x.owner == owner && x.layout.Epoch == epoch {
		x.owner = 0
		m.w.count.Releases++
	}
}

// confirm is a ReadIndex: the newest layout, and whether epoch is still its epoch.
func (m *meta) confirm(file int, epoch blocktree.Epoch) (*stripe.Layout, blocktree.Kind) {
	l := m.files[file].layout
	if l.Epoch != epoch {
		return l, blocktree.Fenced
	}
	return l, blocktree.Other
}

// change applies a view change. ok is false if the proposal is lost on the way.
func (m *meta) change(c stripe.Change) (l *stripe.Layout, err blocktree.Kind, ok bool) {
	w := m.w
	file := m.fileOf(c.File)
	old := m.files[file].layout
	if w.mutant("cas-dropped") {
		c.Epoch, c.Seq = old.Epoch, old.Seq
	}
	if !w.drains.allowed(c, old) {
		w.count.ChangesRefused++
		return old, blocktree.Invalid, true
	}
	next, e := old.Apply(c, m.currentOf(old))
	if e != nil {
		w.trace("raft refuses %+v: %v", c, e)
		w.count.ChangesRefused++
		return old, blocktree.KindOf(e), true
	}
	heir := c.Kind == stripe.ChangePromote && old.View(c.Region).Heir == c.Nodes[0]
	if (c.Kind == stripe.ChangeRemove || heir) && !m.enough(next, nil) {
		// A member lost its disk and Raft has not heard of it yet: to remove another now would be a loss of data
		// that the fault, not the protocol, is to blame for. The proposal stays on the way until the mark is there.
		w.trace("held back: %+v", c)
		return nil, 0, false
	}
	switch c.Kind {
	case stripe.ChangeRemove:
		w.count.Removals++
		w.checkRemoval(old, c)
	case stripe.ChangeJoin:
		w.count.Joins++
	case stripe.ChangePlace:
		w.count.Placed++
		if w.mutant("placed-counts") {
			next = counted(next, c.Nodes[1], c.Incarnation)
		}
	case stripe.ChangeMove:
		if w.mutant("movedearly") {
			next = w.drains.early(next, c.Region)
		}
	case stripe.ChangePromote:
		w.count.Promotions++
		w.checkPromotion(file, next, c)
	}
	w.drains.check(old, next, c)
	m.put(file, next, "change")
	return next, blocktree.Other, true
}
