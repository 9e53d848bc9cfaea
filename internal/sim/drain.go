package sim

import (
	"math/rand/v2"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// drains is which nodes of a world are to lose their places, and what has become of that. It has luck of its own, for the reason
// that World.luck has.
type drains struct {
	w     *World
	luck  *rand.Rand
	nodes []blocktree.NodeID
	gen   int // counts changes
}

func newDrains(w *World) *drains {
	return &drains{w: w, luck: rand.New(rand.NewPCG(w.opt.Seed, 0xd4a1))}
}

// begin has nodes drained in some of the worlds that have more nodes than places.
func (d *drains) begin() {
	w := d.w
	if w.prof.calm || len(w.nodes) <= w.cfg.Code.Shards() || d.luck.Float64() < 0.4 {
		return
	}
	w.after(1+d.luck.Int64N(w.prof.active), d.drain)
	w.after(1+d.luck.Int64N(w.prof.active), d.forge)
}

// drain begins or ends the drain of a node, and looks again later.
func (d *drains) drain() {
	w := d.w
	if w.quiet {
		return
	}
	w.after(1+d.luck.Int64N(w.prof.active/2), d.drain)
	n := w.nodes[d.luck.IntN(len(w.nodes))].id
	switch {
	case slices.Contains(d.nodes, n):
		if d.luck.Float64() < 0.5 {
			w.count.DrainsEnded++
			d.set(slices.DeleteFunc(slices.Clone(d.nodes), func(x blocktree.NodeID) bool { return x == n }))
		}
	case w.meta.current[n] == (blocktree.Incarnation{}) || d.others(n) < w.cfg.Code.Shards():
		w.count.DrainRefused++
	default:
		w.count.Drained++
		d.set(append(slices.Clone(d.nodes), n))
	}
}

// others counts the nodes that could have places without n.
func (d *drains) others(n blocktree.NodeID) int {
	count := 0
	for _, x := range d.w.nodes {
		if x.id != n && !slices.Contains(d.nodes, x.id) && d.w.meta.current[x.id] != (blocktree.Incarnation{}) {
			count++
		}
	}
	return count
}

func (d *drains) set(nodes []blocktree.NodeID) {
	d.nodes = nodes
	d.gen++
	d.w.trace("draining %v", nodes)
}

// allowed is what Raft knows of a change and a layout does not: who drains.
func (d *drains) allowed(c stripe.Change, l *stripe.Layout) bool {
	if d.w.mutant("moved-to-draining") {
		return true
	}
	switch c.Kind {
	case stripe.ChangePlace:
		return !slices.Contains(d.nodes, c.Nodes[1])
	case stripe.ChangeMove:
		return slices.Contains(d.nodes, c.Nodes[0]) && !slices.Contains(d.nodes, c.Nodes[1])
	case stripe.ChangePromote:
		return l.View(c.Region).Heir != c.Nodes[0] || !slices.Contains(d.nodes, c.Nodes[0])
	}
	return true
}

// check demands I16 and I19 of a change that was made.
func (d *drains) check(old, next *stripe.Layout, c stripe.Change) {
	w := d.w
	switch c.Kind {
	case stripe.ChangeMove:
		w.count.Moves++
		if !slices.Contains(d.nodes, c.Nodes[0]) {
			w.fail("I19 who drains", "node %v has an heir: %s", c.Nodes[0], describeLayout(next))
		}
		fallthrough
	case stripe.ChangePlace:
		if slices.Contains(d.nodes, c.Nodes[1]) {
			w.fail("I19 who drains", "node %v gets a place: %s", c.Nodes[1], describeLayout(next))
		}
	case stripe.ChangeStay:
		w.count.Stays++
	case stripe.ChangePromote:
		if old.View(c.Region).Heir == c.Nodes[0] {
			w.count.Moved++
			if slices.Contains(d.nodes, c.Nodes[0]) {
				w.fail("I19 who drains", "node %v inherits a place: %s", c.Nodes[0], describeLayout(next))
			}
		}
	case stripe.ChangeRemove:
		return
	}
	for r := range old.Regions() {
		if was, is := old.View(r).Count(stripe.InSync), next.View(r).Count(stripe.InSync); is < was {
			w.fail("I16 a move keeps who counts", "region %d has %d of %d left: %s", r, is, was, describeLayout(next))
		}
	}
}

// early is the layout after a move in which the old member leaves at once.
func (d *drains) early(l *stripe.Layout, r blocktree.RegionIndex) *stripe.Layout {
	n := counted(l, 0, blocktree.Incarnation{}) // a copy
	v := n.Own[r]
	v.Members[v.HeirPlace].State = stripe.Out
	v.Heir, v.HeirPlace = 0, 0
	n.Own[r] = v
	return n
}

// forge plays a holder that moves places as it likes. Raft must refuse.
func (d *drains) forge() {
	w := d.w
	if w.quiet {
		return
	}
	w.after(1+d.luck.Int64N(w.prof.active), d.forge)
	l := w.meta.files[d.luck.IntN(len(w.meta.files))].layout
	r := blocktree.RegionIndex(d.luck.IntN(int(l.Regions())))
	v := l.View(r)
	from, to := v.Members[d.luck.IntN(len(v.Members))].Node, w.nodes[d.luck.IntN(len(w.nodes))].id
	c := stripe.Change{File: l.File, Epoch: l.Epoch, Seq: l.Seq, Kind: stripe.ChangeMove, Region: r, Nodes: []blocktree.NodeID{from, to},
		Incarnation: w.meta.currentOf(l)(to)}
	if slices.Contains(d.nodes, from) && !slices.Contains(d.nodes, to) {
		return
	}
	if _, err, ok := w.meta.change(c); ok && err != blocktree.Other {
		w.count.MoveRefused++
	}
}

// done reports whether nobody that drains has a place in a file, or too few others are there.
func (d *drains) done(l *stripe.Layout) bool {
	others := 0
	for _, n := range d.w.nodes {
		if n.up && !slices.Contains(d.nodes, n.id) {
			others++
		}
	}
	return others < l.Code.Shards() || !slices.ContainsFunc(d.nodes, l.HasPlace)
}

// hear tells a holder who drains, some time after that changed.
func (c *client) hearOfDrains() {
	d := c.w.drains
	if c.h == nil || c.drainGen == d.gen || c.pausedUntil > c.w.now || !c.w.quiet && (c.raftBlocked > c.w.now || d.luck.Float64() < 0.7) {
		return
	}
	c.drainGen = d.gen
	c.input(func() {
		if c.h != nil {
			c.h.Draining(d.nodes)
		}
	})
}
