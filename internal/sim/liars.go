package sim

import (
	"math/rand/v2"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/history"
)

// liars are the members of a world that do not keep their promises (docs/design/0029). Each has an honest Member and disk, which crash and come back
// as any; what it says, and what of that it does, is for the liar to choose. They have luck of their own.
type liars struct {
	w     *World
	luck  *rand.Rand
	nodes []*node
	kinds []lie
	// untilMs is how long they go on in the finale.
	until  int64
	silent bool // they lie no more
	// heldBack is when a change was held back last.
	heldBack int64
	undone   map[uint32]bool
	torn     map[sectorKey]torn
}

// liar is what one of them does at the moment.
type liar struct {
	lie    lie
	share  float64 // of its answers
	to     uint64  // clients that are lied to
	leaves uint16  // kinds of messages that it answers and does nothing about, while it feigns
	err    blocktree.Kind
}

// liarsMost is how many members may lie: as many as shards can be spared, and no more than leave as many others as a read needs before it does not
// believe one (stripe's needed). With 1+1 that is nobody.
func liarsMost(code blocktree.Code, inSync int) int {
	return min(inSync-code.Data, inSync-max(code.Data, inSync/2+1))
}

func newLiars(w *World) *liars {
	x := &liars{w: w, luck: rand.New(rand.NewPCG(w.opt.Seed, 0x11a5)), undone: map[uint32]bool{}, torn: map[sectorKey]torn{}}
	x.until = []int64{0, 3000}[x.luck.IntN(2)]
	return x
}

// choose says who lies, and in which ways in this world.
func (x *liars) choose() {
	w := x.w
	most := liarsMost(w.cfg.Code, w.cfg.Code.Shards())
	if !w.opt.Liars || most < 1 {
		return
	}
	for _, i := range x.luck.Perm(w.cfg.Nodes)[:1+x.luck.IntN(most)] {
		n := w.nodes[i]
		n.liar = &liar{}
		x.nodes = append(x.nodes, n)
	}
	w.count.Liars += uint64(len(x.nodes))
	for k := lie(1); k < lieEnd; k++ {
		if x.luck.Float64() < 0.5 && x.bearable(k) {
			x.kinds = append(x.kinds, k)
		}
	}
	if len(x.kinds) == 0 {
		x.kinds = []lie{lieBytes}
	}
	for _, n := range x.nodes {
		x.change(n)
	}
}

// bearable reports whether the world may have a lie. What cannot be told from the truth is a limit that 0029 states.
func (x *liars) bearable(k lie) bool {
	code := x.w.cfg.Code
	switch k {
	case lieTooHigh: // with k = 1 a version that one member made up looks like one that it alone has kept: it is copied
		return code.Data > 1
	}
	return true
}

// change has a liar do something else, now and then.
func (x *liars) change(n *node) {
	if x.silent {
		return
	}
	l := n.liar
	l.lie = x.kinds[x.luck.IntN(len(x.kinds))]
	l.share = []float64{1, 1, 0.5, 0.1}[x.luck.IntN(4)]
	l.to = x.luck.Uint64()
	if x.luck.Float64() < 0.6 {
		l.to = ^uint64(0)
	}
	l.leaves = uint16(x.luck.Uint32())
	l.err = refusals[x.luck.IntN(len(refusals))]
	if x.luck.Float64() < 0.1 {
		l.share = 0
	}
	x.w.trace("n%d lies now: %s, %v of its answers", n.idx, l.lie, l.share)
	x.w.after(1+x.luck.Int64N(250), func() { x.change(n) })
}

// stop ends the lies some time after the finale has begun, unless the world is over by then.
func (x *liars) stop() {
	x.w.after(x.until, func() {
		x.silent = true
		for _, n := range x.nodes {
			n.liar.share = 0
		}
		x.w.trace("nobody lies any more")
	})
}

// lies reports whether a liar's next word to a client is a lie.
func (n *node) lies(c *client) bool {
	return n.liar != nil && n.liar.share > 0 && n.liar.to>>c.idx&1 == 1 && n.w.liars.luck.Float64() < n.liar.share
}

// liarsIn counts the members in sync of a region's view that lie.
func (w *World) liarsIn(v *stripe.View) (count int) {
	for _, m := range v.Members {
		if m.State == stripe.InSync && w.nodes[w.nodeOf(m.Node)].liar != nil {
			count++
		}
	}
	return count
}

// bears reports whether every region of a file can bear all liars of the world, in sync there or not yet, should a node not count: what the protocol promises
// in a world with liars it promises only while that is so. The world takes no honest member's memory, and holds removals back on their way to Raft, where it
// would not be.
func (w *World) bears(l *stripe.Layout, not *node) bool {
	lying := len(w.liars.nodes)
	for r := blocktree.RegionIndex(0); lying > 0 && r < l.Regions(); r++ {
		honest := 0
		for _, m := range l.View(r).Members {
			if n := w.nodes[w.nodeOf(m.Node)]; m.State == stripe.InSync && n != not && n.liar == nil && n.trusted(l) {
				honest++
			}
		}
		if honest < l.Code.Data || lying > liarsMost(l.Code, honest+lying) {
			return false
		}
	}
	return true
}

// bearsWithout is bears for all files.
func (w *World) bearsWithout(n *node) bool {
	return !slices.ContainsFunc(w.meta.files, func(x metaFile) bool { return !w.bears(x.layout, n) })
}

// heldBack has a holder whose removal of honest members is on its way for ever hear of them again, as it would if they were up; or, should it not let go of it,
// end: what Raft lets it do is the world's affair.
func (c *client) heldBack(h *stripe.Holder, x *stripe.Change) {
	if len(c.w.liars.nodes) == 0 || c.h != h {
		return
	}
	c.waited++
	c.w.liars.heldBack = c.w.now
	c.later(metaTimeout+1, func() {
		switch {
		case c.h != h:
		case c.waited%10 == 0:
			c.drop()
		default:
			for _, id := range x.Nodes {
				if n := c.w.nodes[c.w.nodeOf(id)]; n.up && c.links[n.idx].up {
					c.input(func() { h.NodeUp(id, n.incFor(c.file)) })
				}
			}
		}
	})
}

// without drops what liars have doomed from what was seen of a sector: the write, and the reads that returned it. The rest must have an order.
func (x *liars) without(h history.History) history.History {
	if len(x.undone) == 0 {
		return h
	}
	return slices.DeleteFunc(slices.Clone(h), func(o history.Op) bool { return x.undone[o.Value] })
}
