package sim

import (
	"math/rand/v2"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// resizeEach is how many worlds there are to one whose files change their size (docs/design/0021): those of a residue of the seed that has all shapes, so that
// the others are what they would be without.
const (
	resizeEach = 11
	resizeAt   = 7
	// Of these, in how many a holder writes on while it makes its file smaller (docs/design/0047): of every liveEach worlds those at liveAt and liveToo.
	liveEach = 5 * resizeEach
	liveAt   = resizeAt + resizeEach
	liveToo  = resizeAt + 3*resizeEach
)

// resizeRegions is how many regions a file may gain.
const resizeRegions = 3

// resizes is what is played of files whose size changes. It has luck of its own.
type resizes struct {
	w    *World
	luck *rand.Rand
	on   bool
	live bool                           // a holder writes on while it cuts
	born map[fileRegion]blocktree.Epoch // of regions that no file began with: the epoch under which they came to be
}

type fileRegion struct {
	file   int
	region blocktree.RegionIndex
}

func newResizes(w *World) *resizes {
	return &resizes{w: w, luck: rand.New(rand.NewPCG(w.opt.Seed, 0x512e)), on: w.opt.Seed%resizeEach == resizeAt,
		live: w.opt.Seed%liveEach == liveAt || w.opt.Seed%liveEach == liveToo, born: map[fileRegion]blocktree.Epoch{}}
}

// sectorsMax is how many sectors a file that begins with l may ever have.
func (z *resizes) sectorsMax(l *stripe.Layout) uint64 {
	if !z.on {
		return l.Sectors
	}
	return (uint64(l.Regions()) + resizeRegions) * l.RegionSectors
}

func (z *resizes) begin() {
	if z.on {
		z.w.after(1+z.luck.Int64N(z.w.prof.active/2), z.grow)
	}
}

// grow makes a file larger, whoever holds it, and looks again later.
func (z *resizes) grow() {
	w := z.w
	if w.quiet {
		return
	}
	w.after(1+z.luck.Int64N(w.prof.active/4), z.grow)
	file := z.luck.IntN(len(w.meta.files))
	x := &w.meta.files[file]
	to := min(x.layout.Size()+1+z.luck.Uint64N(2*x.layout.RegionSectors), x.sectorsMax)
	if to > x.layout.Size() && w.meta.reachable() {
		w.meta.resize(file, to)
	}
}

// resize gives a file another size if its layout can have that.
func (m *meta) resize(file int, to uint64) blocktree.Kind {
	w := m.w
	old := m.files[file].layout
	var hosts []blocktree.NodeID
	for _, n := range w.nodes {
		if m.current[n.id] != (blocktree.Incarnation{}) && !n.replaced && !slices.Contains(w.drains.nodes, n.id) {
			hosts = append(hosts, n.id)
		}
	}
	next, err := old.Resize(to, hosts, m.currentOf(old))
	if err != nil || !m.enough(next, nil) { // the second: a disk is lost, and Raft has not heard of it
		w.count.ResizeRefused++
		return blocktree.Unavailable
	}
	w.resizes.note(file, old, next)
	m.put(file, next, "resize")
	return blocktree.Other
}

// note keeps what a resize has made, and demands Z5 of new regions.
func (z *resizes) note(file int, old, next *stripe.Layout) {
	w := z.w
	switch {
	case next.Size() < old.Size():
		w.count.Cut++
	case next.Sectors == old.Sectors:
		w.count.GrownBack++
	default:
		w.count.Grown++
	}
	for r := old.Regions(); r < next.Regions(); r++ {
		w.count.Born++
		z.born[fileRegion{file, r}] = next.Epoch
		for _, m := range next.View(r).Members {
			if m.State == stripe.InSync && slices.Contains(w.drains.nodes, m.Node) {
				w.fail("Z5 who has places in new regions", "node %v drains: %s", m.Node, describeLayout(next))
			}
		}
	}
}

// bornUnder reports whether a region came to be under an epoch.
func (z *resizes) bornUnder(file int, r blocktree.RegionIndex, e blocktree.Epoch) bool {
	at, ok := z.born[fileRegion{file, r}]
	return ok && at == e
}

// acquired is what a mutant makes of a new epoch.
func (z *resizes) acquired(old, next *stripe.Layout) {
	if z.w.mutant("born-kept") {
		next.Born = old.Born
	}
}

// cutting is how far a holder is that makes its file smaller.
type cutting struct {
	to     uint64
	step   cutStep
	asking bool
	failed bool
	live   bool             // others write before the new end meanwhile (docs/design/0047)
	lo, hi uint64           // live: the operations after lo, up to hi, are waited for
	seq    blocktree.ViewID // of the layout that has the new end, once it is known
}

type cutStep uint8

const (
	cutWaits   cutStep = iota // for what is in flight
	cutZeros                  // writes zeros
	cutFlushes                // makes them durable
	cutAsks                   // asks Raft
)

// mayCut has a holder begin to make its file smaller now and then.
func (c *client) mayCut() bool {
	z := c.w.resizes
	if !z.on || c.h == nil || !c.recovered {
		return false
	}
	if size := c.h.Layout().Size(); c.cutting == nil && !c.w.quiet && z.luck.Float64() < 0.15 && size > 1 {
		c.cutting = &cutting{to: 1 + z.luck.Uint64N(size-1), live: z.live, hi: c.n}
	}
	x := c.cutting
	return x != nil && (!x.live || x.seq != 0 || !c.cutHeldUp())
}

// cutHeldUp reports whether the next step has to wait: for all that is in flight or, if others go on, for what was before the cut, and what is the cut's own.
func (c *client) cutHeldUp() bool {
	x := c.cutting
	return x.asking || slices.ContainsFunc(c.ops, func(o *op) bool { return !x.live || o.id > x.lo && o.id <= x.hi })
}

// goOnCutting does the next step, once the one before is done.
func (c *client) goOnCutting() {
	x := c.cutting
	if x.seq != 0 {
		c.cutMade(x)
		return
	}
	if c.cutHeldUp() {
		return
	}
	if x.failed {
		c.w.count.CutGivenUp++
		c.cutting = nil
		return
	}
	x.step++
	x.lo = c.n
	defer func() { x.hi = c.n }()
	switch x.step {
	case cutZeros:
		if !c.w.mutant("cut-untrimmed") {
			c.zeroFrom(blocktree.SectorIndex(x.to))
		}
	case cutFlushes:
		if !c.w.mutant("cut-unflushed") {
			c.flush()
		}
	case cutAsks:
		c.askCut(x, c.h.Layout().Seq)
	}
}

// zeroFrom writes zeros to the end of the file.
func (c *client) zeroFrom(first blocktree.SectorIndex) {
	l := c.h.Layout()
	for end := blocktree.SectorIndex(l.Size()); first < end && c.h != nil; {
		r := l.RegionOf(first)
		at, n := l.Run(r)
		count := min(at+blocktree.SectorIndex(n), end) - first
		c.beginZero(&op{file: c.file, region: r, first: first, count: uint32(count)})
		first += count
	}
}

// beginZero is beginWrite of zeros that are sealed at once.
func (c *client) beginZero(o *op) {
	w := c.w
	c.begun(o)
	x := &write{value: uint32(len(w.writes) + 1), file: c.file, region: o.region, first: o.first, count: o.count, zero: true, era: o.era}
	w.writes = append(w.writes, x)
	o.write = x
	h := c.h
	c.input(func() { x.version = h.Begin(o.region) })
	if c.h == h {
		w.byVer[versionKey{c.file, o.region, x.version}] = x
		c.submit(o)
	}
}

// askCut asks Raft to move the end, until it is known what came of that: meanwhile nothing is written.
func (c *client) askCut(x *cutting, seq blocktree.ViewID) {
	h, file, epoch := c.h, c.file, c.epoch
	x.asking = true
	again := func() {
		if c.h == h && c.cutting == x {
			c.askCut(x, h.Layout().Seq)
		}
	}
	c.ask(func() (func(), bool) {
		l, err := c.w.meta.cut(file, epoch, seq, x.to)
		return func() {
			switch {
			case c.h != h || c.cutting != x:
			case err == blocktree.StaleView && l.Epoch == epoch && l.Size() != x.to:
				c.askCut(x, l.Seq)
			default: // it is done, by this or a copy of it, or another epoch has begun, or it cannot be
				x.seq = l.Seq
				c.cutMade(x)
			}
		}, true
	}, again)
}

// cutMade has the holder go on once it knows the layout: until then it would write behind the end.
func (c *client) cutMade(x *cutting) {
	if c.h.Layout().Seq >= x.seq {
		c.cutting = nil
		return
	}
	c.input(func() { c.h.Refresh() })
}

// cut moves the end of a file down, for the holder of an epoch who has seen a view.
func (m *meta) cut(file int, epoch blocktree.Epoch, seq blocktree.ViewID, to uint64) (*stripe.Layout, blocktree.Kind) {
	w, old := m.w, m.files[file].layout
	switch {
	case w.mutant("cut-unfenced") && to < old.Size():
	case old.Epoch != epoch:
		w.count.CutFenced++
		return old, blocktree.Fenced
	case old.Seq != seq:
		return old, blocktree.StaleView
	}
	if to < old.Size() { // a growth may have come between, which is no harm
		w.resizes.checkCut(file, old, to)
	}
	err := m.resize(file, to)
	return m.files[file].layout, err
}

// checkCut demands Z2: the newest of each sector that is cut is zeros, acknowledged, and stable.
func (z *resizes) checkCut(file int, old *stripe.Layout, to uint64) {
	w := z.w
	for s := blocktree.SectorIndex(to); s < blocktree.SectorIndex(old.Size()); s++ {
		var newest *write
		for _, x := range w.writes {
			if x.file == file && (x.state == acked || x.state == open && len(x.at) > 0) && s >= x.first && s < x.first+blocktree.SectorIndex(x.count) &&
				(newest == nil || newest.version.Less(x.version)) {
				newest = x
			}
		}
		switch {
		case newest == nil:
		case !newest.zero || newest.state != acked:
			w.fail("Z2 what is cut is zeros", "file %d sector %d of %d: write %d (%v), zero %v, state %d", file, s, old.Size(), newest.value, newest.version, newest.zero, newest.state)
		case w.isFlush(file):
			w.demandStable("Z2 what is cut is zeros", newest)
		}
	}
}

// checkEnd demands Z3 of a write that is acknowledged.
func (z *resizes) checkEnd(x *write) {
	l := z.w.meta.files[x.file].layout
	if end := uint64(x.first) + uint64(x.count); l.Epoch == x.version.Epoch && end > l.Size() {
		z.w.fail("Z3 no write behind the end", "write %d (%v) to %d of %d sectors", x.value, x.version, end, l.Size())
	}
	if z.bornUnder(x.file, x.region, x.version.Epoch) {
		z.w.count.BornWrites++
	}
}

// inside cuts a write to what the file has, or will have, or as much as a mutant thinks.
func (z *resizes) inside(c *client, o *op) *op {
	l := c.h.Layout()
	size := l.Size()
	if x := c.cutting; x != nil && !z.w.mutant("cut-open") {
		size = min(size, x.to)
	}
	if !z.on || z.w.mutant("writebehind") {
		return o
	}
	if uint64(o.first) >= size {
		first, _ := l.Run(l.RegionOf(blocktree.SectorIndex(size - 1)))
		o.region, o.first = l.RegionOf(first), first
	}
	o.count = uint32(min(uint64(o.count), size-uint64(o.first)))
	return o
}

// hearOfSizes has a holder that nobody tells ask for the newest layout.
func (c *client) hearOfSizes() {
	z := c.w.resizes
	if !z.on || c.h == nil || c.pausedUntil > c.w.now {
		return
	}
	own, l := c.h.Layout(), c.w.meta.files[c.file].layout
	if own.Size() != l.Size() && (c.w.quiet || z.luck.Float64() < 0.3) {
		c.input(func() {
			if c.h != nil {
				c.h.Refresh()
			}
		})
	}
}
