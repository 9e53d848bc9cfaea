package sim

import (
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// chooseMembers says whether stores come and go in this world, and whether spares take over.
func (w *World) chooseMembers() {
	if w.prof.calm {
		return
	}
	if w.luck.Float64() < 0.25 {
		w.prof.stores = 1 + w.luck.IntN(2)
	}
	if (w.prof.stores > 0 || w.cfg.Nodes > w.cfg.Code.Shards()) && w.luck.Float64() < 0.5 {
		w.prof.spareAfter = 5 + w.luck.Int64N(70)
	}
}

// newStore makes a node that is no host of any file and does not run yet.
func newStore(w *World, idx int) *node {
	n := newNode(w, idx)
	n.away, n.freshInc = true, true
	return n
}

// comeAndGo has each of the stores that are no hosts start as a spare, or replace another at some time.
func (w *World) comeAndGo() {
	for range w.prof.stores {
		if w.prof.spareAfter > 0 && w.luck.Float64() < 0.5 {
			w.after(1+w.luck.Int64N(w.prof.active/2), w.addStore)
		} else {
			w.after(1+w.luck.Int64N(w.prof.active), func() { w.replaceStore(5) })
		}
	}
	if w.prof.spareAfter > 0 {
		w.after(1+w.luck.Int64N(w.prof.active), w.forgePlace)
		if w.luck.Float64() < 0.7 {
			w.after(1+w.luck.Int64N(w.prof.active), w.vanish)
		}
	}
}

// vanish takes a node away for so long that spares get places of its, and are copied up.
func (w *World) vanish() {
	n := w.nodes[w.luck.IntN(w.cfg.Nodes)]
	if w.quiet || n.away {
		return
	}
	w.count.Vanished++
	n.crash()
	n.away = true
	w.after(w.prof.spareAfter+100+w.luck.Int64N(500), func() {
		n.away = false
		n.start()
	})
}

// unused is a store that was never started, nil if there is none.
func (w *World) unused() *node {
	for _, n := range w.nodes[w.cfg.Nodes:] {
		if n.away && n.gen == 0 {
			return n
		}
	}
	return nil
}

func (w *World) addStore() {
	if n := w.unused(); n != nil && !w.quiet {
		n.away = false
		n.start()
	}
}

// replaceStore has an unused store replace a host, running or not, as `btnode node replace` does: in all files at once. The
// old one may be gone, or go on and not know. Where that is refused it is tried again.
func (w *World) replaceStore(tries int) {
	to := w.unused()
	if to == nil || w.quiet {
		return
	}
	hosts := w.meta.files[0].layout.Hosts
	from := hosts[w.luck.IntN(len(hosts))]
	inSync := false
	var next []*stripe.Layout
	for f := range w.meta.files {
		l := w.meta.files[f].layout
		for r := range l.Regions() {
			v := l.View(r)
			i, ok := v.Shard(from)
			inSync = inSync || ok && v.Members[i].State == stripe.InSync
		}
		n, err := l.Replace(from, to.id)
		// Without the second, the data would be lost by a disk that was lost before, of which Raft has not heard.
		if err != nil && slices.Contains(l.Hosts, from) || n != nil && !w.meta.enough(n, nil) {
			w.count.ReplaceRefused++
			if tries > 0 {
				w.after(1+w.luck.Int64N(60), func() { w.replaceStore(tries - 1) })
			}
			return
		}
		if n == nil {
			n = l // it has no place in this file
		}
		next = append(next, n)
	}
	w.count.Replaced++
	if inSync {
		w.count.ReplacedInSync++
	}
	to.away = false
	w.trace("n%d replaces n%d", to.idx, w.nodeOf(from))
	for f, l := range next {
		if w.mutant("replaced-counts") {
			l = counted(l, to.id, to.incFor(f))
		}
		w.meta.put(f, l, "replace")
	}
	w.nodes[w.nodeOf(from)].replaced = true
	if old := w.nodes[w.nodeOf(from)]; w.luck.Float64() < 0.5 {
		old.crash()
		old.away = true
	}
	w.after(1+w.luck.Int64N(30), to.start)
}

// counted is a layout in which a node that is out is in sync: what the mutants make of a change.
func counted(l *stripe.Layout, node blocktree.NodeID, inc blocktree.Incarnation) *stripe.Layout {
	n := *l
	n.BaseOut = map[blocktree.NodeID]bool{}
	for h, out := range l.BaseOut {
		n.BaseOut[h] = out && h != node
	}
	n.Incarnations = map[blocktree.NodeID]blocktree.Incarnation{}
	for h, i := range l.Incarnations {
		n.Incarnations[h] = i
	}
	n.Incarnations[node] = inc
	n.Own = map[blocktree.RegionIndex]stripe.View{}
	for r, v := range l.Own {
		v.Members = slices.Clone(v.Members)
		for i := range v.Members {
			if v.Members[i].Node == node {
				v.Members[i].State = stripe.InSync
			}
		}
		n.Own[r] = v
	}
	return &n
}

// forgePlace plays a holder that gives away the place of a member that is in sync. Raft must refuse.
func (w *World) forgePlace() {
	if w.quiet {
		return
	}
	w.after(1+w.luck.Int64N(w.prof.active), w.forgePlace)
	file := w.luck.IntN(len(w.meta.files))
	l := w.meta.files[file].layout
	r := blocktree.RegionIndex(w.luck.IntN(int(l.Regions())))
	v := l.View(r)
	victim := v.Members[w.luck.IntN(len(v.Members))]
	spare := w.nodes[w.luck.IntN(len(w.nodes))]
	if _, there := v.Shard(spare.id); there || victim.State != stripe.InSync || w.meta.currentOf(l)(spare.id) == (blocktree.Incarnation{}) {
		return
	}
	c := stripe.Change{File: l.File, Epoch: l.Epoch, Seq: l.Seq, Kind: stripe.ChangePlace, Region: r,
		Nodes: []blocktree.NodeID{victim.Node, spare.id}, Incarnation: w.meta.currentOf(l)(spare.id)}
	if w.mutant("placed-over-sync") {
		out := counted(l, 0, blocktree.Incarnation{}) // a copy
		v.Members[slices.Index(v.Members, victim)].State = stripe.Out
		out.Own[r] = v
		if n, err := out.Apply(c, w.meta.currentOf(l)); err == nil {
			w.meta.put(file, n, "place over a member in sync")
		}
		return
	}
	if _, err := l.Apply(c, w.meta.currentOf(l)); err == nil {
		w.fail("a place in sync is not given away", "region %d, n%d for %v: %s", r, spare.idx, victim.Node, describeLayout(l))
	}
	w.count.PlaceRefused++
}

// missNodes tells the holder of nodes that have been silent for longer than the world's patience.
func (c *client) missNodes() {
	after := c.w.prof.spareAfter
	for i, n := range c.w.nodes {
		l := &c.links[i]
		switch {
		case l.up:
			l.downSince = 0
		case l.downSince == 0:
			l.downSince = max(c.w.now, 1)
		case after > 0 && c.h != nil && c.w.now-l.downSince >= after && c.pausedUntil <= c.w.now:
			c.input(func() {
				if c.h != nil {
					c.h.NodeGone(n.id)
				}
			})
		}
	}
}
