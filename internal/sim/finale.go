package sim

import (
	"fmt"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// finale stops all faults and demands that the world heals: every node comes back, one holder for each file recovers
// and gets everything in sync, and every sector is read under the lease and without one.
func (w *World) finale() {
	w.quiet = true
	w.trace("---- finale")
	for _, n := range w.nodes {
		n.start()
		n.wakeRaft()
	}
	w.mend()
	kept := w.chance(0.5)
	for _, c := range w.clients {
		c.pausedUntil = 0
		if c.reader {
			continue
		}
		if c.h == nil || !kept {
			c.forget()
			c.dead = true
			continue
		}
		c.closing = false
	}
	for _, c := range w.clients {
		for i, n := range w.nodes {
			if l := &c.links[i]; !c.dead && (!l.up || max(l.blockedIn, l.blockedOut) > w.now) {
				l.up, l.downAt = false, w.clock
				c.connect(n, w.upTo(10)+12)
			}
		}
	}
	w.liars.stop()
	w.after(10, w.converge)
	w.after(60000, func() { w.failStuck(w.stuck()) })
}

// holderOf is the client that works on a file in the finale.
func (w *World) holderOf(file int) *client {
	for _, c := range w.clients {
		if !c.reader && !c.dead && c.file == file && c.h != nil {
			return c
		}
	}
	return nil
}

// converge waits until every file has a holder with nothing left to do, then reads everything.
func (w *World) converge() {
	ready := true
	for f := range w.meta.files {
		c := w.holderOf(f)
		if c == nil {
			w.appoint(f)
			ready = false
			continue
		}
		if !c.recovered || len(c.ops) > 0 || !c.h.Settled(c.h.Submitted()) { // a write that failed for waiting may come to be yet
			ready = false
		} else if c.cutting != nil { // it may have begun before the faults ended: what is read is not to change meanwhile
			c.goOnCutting()
			ready = false
		} else if !sameViews(c.h.Layout(), w.meta.files[f].layout) {
			w.nudge(c) // a change that was thought lost: an idle holder hears of it with its next operation
			ready = false
		}
		ready = ready && !w.overwriteTorn(c) && w.whole(w.meta.files[f].layout) && w.drains.done(w.meta.files[f].layout)
	}
	if !ready {
		w.after(20, w.converge)
		return
	}
	w.trace("---- converged, reading everything")
	for f := range w.meta.files {
		if c := w.holderOf(f); w.meta.files[f].layout.Durability == stripe.DurabilityFlush && c != nil {
			c.flush()
		}
	}
	w.after(40, w.readEverything) // let the last commits arrive
}

// sameViews reports whether a holder knows the newest views.
func sameViews(a, b *stripe.Layout) bool {
	for r := blocktree.RegionIndex(0); r < a.Regions(); r++ {
		if a.View(r).ID != b.View(r).ID {
			return false
		}
	}
	return a.Epoch == b.Epoch && a.Sectors == b.Sectors
}

// nudge reads something of every region.
func (w *World) nudge(c *client) {
	l := c.h.Layout()
	for r := blocktree.RegionIndex(0); r < l.Regions(); r++ {
		first, _ := l.Run(r)
		c.readHolder(&op{file: c.file, read: true, region: r, first: first, count: 1}, nil)
	}
}

// appoint lets a client without work try for the lease.
func (w *World) appoint(file int) {
	for _, c := range w.clients {
		if !c.reader && c.h == nil && !c.acquiring {
			if c.dead {
				c.dead = false
				c.start()
			}
			c.file = file
			c.acquire()
			return
		}
	}
	for _, c := range w.clients { // an idle holder that was taken over hears of it with its next operation, and is free then
		if !c.reader && c.h != nil && c.epoch < w.meta.files[c.file].layout.Epoch {
			w.nudge(c)
		}
	}
}

// whole reports whether every region has all members in sync.
func (w *World) whole(l *stripe.Layout) bool {
	for r := blocktree.RegionIndex(0); r < l.Regions(); r++ {
		v := l.View(r)
		if v.Heir != 0 {
			return false
		}
		for _, m := range v.Members {
			if m.State != stripe.InSync || !w.nodes[w.nodeOf(m.Node)].trusted(l) { // lost its disk, and Raft may not know yet
				return false
			}
		}
	}
	return true
}

// readEverything reads every region under the lease and without one; if one of these reads fails, or a late event of the
// time of the faults has changed a view after all, everything begins again.
func (w *World) readEverything() {
	w.round++
	w.finalReads = 0
	reader := w.clients[slices.IndexFunc(w.clients, func(c *client) bool { return c.reader })]
	for f := range w.meta.files {
		l := w.meta.files[f].layout
		c := w.holderOf(f)
		if c == nil || !w.whole(l) {
			w.after(20, w.converge)
			return
		}
		for r := blocktree.RegionIndex(0); r < l.Regions(); r++ {
			first, n := l.Run(r)
			w.finalReads += 2
			for _, x := range []*client{c, reader} {
				w.finalRead(x, &op{file: f, read: true, region: r, first: first, count: uint32(n)})
			}
		}
	}
}

func (w *World) finalRead(c *client, o *op) {
	round := w.round
	then := func(res *stripe.ReadResult) {
		switch {
		case round != w.round:
		case res == nil || !w.whole(w.meta.files[o.file].layout):
			w.round++
			w.after(30, w.converge)
		default:
			w.checkStored(o.file, res)
			w.finalReads--
			w.over = w.finalReads == 0
		}
	}
	if c.reader {
		c.readLeaseless(o, then)
	} else {
		c.readHolder(o, then)
	}
}

// mend ends the one injected damage that is still there, as a drive that reads a block at the tenth try.
func (w *World) mend() {
	if s := w.spoilt; s != nil && s.at < len(s.node.disk.log) {
		s.node.disk.log[s.at].damaged = false
	}
	w.spoilt = nil
}

func (w *World) stuck() string {
	out := ""
	for f := range w.meta.files {
		out += describeLayout(w.meta.files[f].layout)
		if c := w.holderOf(f); c != nil {
			out += "; held by c" + string(rune('0'+c.idx))
			out += fmt.Sprintf(" at s%d", c.h.Layout().Seq)
			if !c.recovered {
				out += ", not recovered"
			}
			for _, o := range c.ops {
				out += ", " + describeOp(o)
			}
		}
		out += "; "
	}
	return out
}
