package sim

import (
	"math/rand/v2"
	"reflect"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// earlyReads is the luck of leaseless readers that do as cluster.Reader does (docs/design/0078): they read under the layout that they heard last while they ask Raft for the newest, and go by one layout
// for all that one request takes. One world in four has such readers. The others are as they would be without: there a read asks for the layout first.
type earlyReads struct {
	luck *rand.Rand
	on   bool
}

// newEarlyReads draws by a number under which hardly a world that TestMutantsDie names has such readers: those were found before.
func newEarlyReads(seed uint64) earlyReads {
	e := earlyReads{luck: rand.New(rand.NewPCG(seed, 0xf34f4))}
	e.on = e.luck.Float64() < 0.25
	return e
}

// window is how many leaseless reads a client has in flight: one question for the layout is then for several, and some wait for the next.
func (e *earlyReads) window() int {
	if e.on {
		return 3
	}
	return 1
}

// heardLayouts is what a reader knows of the layouts of a file.
type heardLayouts struct {
	last    *stripe.Layout // that Raft gave; nil: none yet
	request uint64         // for which that was asked for by itself; 0: none
	asking  bool           // a question is under way
	waiting []*op          // for the next one
}

// readEarly begins a read that was called for. One of the request for which the layout was asked for needs no other question.
func (c *client) readEarly(o *op) {
	x := &c.layouts[o.file]
	if x.request != 0 && (x.request == o.request || c.w.mutant("within-any")) {
		c.w.count.WithinReads++
		c.beginEarly(o, x.last, true)
		return
	}
	c.tryRead(o)
	if x.last != nil && !o.zeros && o.layout == nil && slices.Contains(c.ops, o) {
		c.w.count.EarlyReads++
		c.beginEarly(o, x.last, false)
	}
}

// await has a read wait for a layout that is asked for from now on.
func (c *client) await(o *op) {
	x := &c.layouts[o.file]
	if !slices.Contains(x.waiting, o) {
		x.waiting = append(x.waiting, o)
	}
	c.askLayout(o.file)
}

// askLayout asks for the layout of a file, for all reads that wait, one question at a time.
func (c *client) askLayout(file int) {
	x := &c.layouts[file]
	if x.asking || len(x.waiting) == 0 {
		return
	}
	x.asking = true
	reads := x.waiting
	x.waiting = nil
	c.ask(func() (func(), bool) {
		l := c.w.newestFor(file)
		return func() {
			if c.w.mutant("heard-before") {
				reads, x.waiting = append(reads, x.waiting...), nil
			}
			c.hearLayout(file, reads, l)
			x.asking = false
			c.askLayout(file)
		}, true
	}, func() {
		for _, o := range reads {
			c.tryRead(o)
		}
		x.asking = false
		c.askLayout(file)
	})
}

// hearLayout is the answer to the question that reads have waited for.
func (c *client) hearLayout(file int, reads []*op, l *stripe.Layout) {
	x := &c.layouts[file]
	x.last, x.request = l, 0
	for _, o := range reads {
		switch {
		case !slices.Contains(c.ops, o):
		case c.lossHeard(o, l):
			c.leave(o)
		case o.layout == nil || !reflect.DeepEqual(o.layout, l) && !c.w.mutant("heard-another"):
			if o.layout != nil {
				c.w.count.EarlyAnew++
			}
			c.beginEarly(o, l, true)
		case o.found != nil:
			c.w.count.EarlyFound++
			o.sure = true
			c.finish(*o.found)
		default:
			o.sure = true
		}
	}
}

// leave forgets what the machine may be at for a read: what it finds is nobody's.
func (c *client) leave(o *op) {
	if c.w.early.on && o.layout != nil && o.found == nil {
		c.left = append(c.left, o.id)
	}
}

// beginEarly has the machine read under a layout, of which sure says that it was the newest after the read was called for.
func (c *client) beginEarly(o *op, l *stripe.Layout, sure bool) {
	if o.layout != nil {
		c.leave(o)
		c.n++
		o.id = c.n
	}
	o.sure, o.found = sure, nil
	c.readUnder(o, l)
}

// early takes what the machine says of a read under a layout that nobody has said to be the newest yet, of which nothing is told.
func (c *client) early(o *op, d stripe.Done) bool {
	if !c.reader || !c.w.early.on || o.sure || c.w.mutant("told-unheard") {
		return false
	}
	if d.Err == blocktree.Other {
		o.found = &d
	} else {
		o.layout = nil
	}
	return true
}

// openAnew opens the file of a read for the request that this is part of: it asks for the layout once, and one to three reads go by that, at once or some time later.
func (c *client) openAnew(o *op) {
	w, x := c.w, &c.layouts[o.file]
	*x = heardLayouts{asking: true} // nobody else asks before this is known
	c.begun(o)
	c.ask(func() (func(), bool) {
		l := w.newestFor(o.file)
		return func() {
			c.hear(l)
			c.requests++
			x.last, x.request, x.asking = l, c.requests, false
			o.request, o.era = c.requests, l.Loss
			reads := []*op{o}
			for range w.early.luck.IntN(3) {
				c.file = o.file
				p := c.begun(c.randomRun(true))
				p.call, p.newest, p.request = o.call, o.newest, o.request
				reads = append(reads, p)
			}
			for _, p := range reads {
				c.later(w.early.luck.Int64N(40), func() {
					if slices.Contains(c.ops, p) {
						c.readEarly(p)
					}
				})
			}
			c.askLayout(o.file)
		}, true
	}, func() {
		c.remove(o)
		w.count.ReadsGivenUp++
		x.asking = false
		c.askLayout(o.file)
	})
}

// mayOpenAnew reports whether a read opens its file anew: nothing is asked or read of it now.
func (c *client) mayOpenAnew(o *op) bool {
	return c.w.early.on && !c.w.quiet && !c.layouts[o.file].asking && !slices.ContainsFunc(c.ops, func(p *op) bool { return p.file == o.file }) && c.w.early.luck.Float64() < 0.2
}

// checkNewest demands of a leaseless read that its layout was the newest at some moment after it was called for (rule 6). It is said at the end, of a world in which nothing else is wrong.
func (w *World) checkNewest(c *client, o *op) {
	if o.layout.Seq < o.newest && w.stale == "" {
		w.stale = describeOp(o) + " of client " + string(rune('0'+c.idx)) + " went by " + describeLayout(o.layout)
	}
}
