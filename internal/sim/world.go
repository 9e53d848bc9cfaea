package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
)

// Config is the shape of a cluster: how many nodes, and the code of its files.
type Config struct {
	Nodes int
	Code  blocktree.Code
}

// String prints the config as "4 nodes 2+2".
func (c Config) String() string { return fmt.Sprintf("%d nodes %v", c.Nodes, c.Code) }

// Configs are the shapes that a sweep goes through.
func Configs() []Config {
	return []Config{
		{3, blocktree.Code{Data: 2, Parity: 1}},
		{4, blocktree.Code{Data: 2, Parity: 2}},
		{3, blocktree.Code{Data: 1, Parity: 1}},
		{6, blocktree.Code{Data: 4, Parity: 2}},
		{5, blocktree.Code{Data: 2, Parity: 3}},
		{4, blocktree.Code{Data: 1, Parity: 2}},
	}
}

// Options choose one world.
type Options struct {
	Config int // index into Configs
	Seed   uint64
	Flush  bool      // files of durability flush, and what loses their unsynced data
	Liars  bool      // members that do not keep their promises, in shapes that bear any
	Mutant string    // a rule to drop, "" for the protocol as it is
	Trace  io.Writer // nil: no trace
	// Forgetful members keep no layout in memory longer than they need it.
	Forgetful bool
}

// Result is what became of a world.
type Result struct {
	Failure  string // "" if nothing was violated; else its name, a colon and what happened
	Hash     uint64 // of everything that happened, in order
	Steps    int
	Counters Counters
}

// World is one seeded run. Everything in it happens on the caller's goroutine.
type World struct {
	opt  Options
	cfg  Config
	prof profile
	rnd  *rand.Rand
	// luck is for what was added to worlds later, so that a seed's world is otherwise what it was before.
	luck  *rand.Rand
	asks  zeroAsks
	early earlyReads

	now   int64 // virtual milliseconds
	clock int64 // ticks at every call and return of a history
	q     queue
	steps int
	hash  uint64

	nodes   []*node
	meta    *meta
	drains  *drains
	resizes *resizes
	liars   *liars
	clients []*client
	writes  []*write // by value-1
	byVer   map[versionKey]*write
	eras    [][]era // by file, by loss number

	spoilt     *spoilt
	damaged    map[sectorKey]bool // sectors that a shard was ever damaged of
	finalReads int                // that have not come back yet
	round      int                // of final reads

	makers  bool // holders are told that a file was made for them: under a later epoch than the first that says nothing (0067)
	quiet   bool // the finale: no faults, no new work
	over    bool
	failure string
	stale   string // the first leaseless read that went by a layout of before it was called for
	count   Counters
}

type versionKey struct {
	file    int
	region  blocktree.RegionIndex
	version blocktree.Version
}

// stepsMax ends a world that goes round in circles.
const stepsMax = 60000

// violation unwinds a world at the first thing that must not happen.
type violation string

// Run lives one world to its end. A panic of the machines (their own assertions) is a failure like any other.
func Run(o Options) (res Result) {
	w := newWorld(o)
	defer func() {
		if p := recover(); p != nil {
			v, ok := p.(violation)
			if !ok {
				v = violation(fmt.Sprintf("panic: %v", p))
				if o.Trace != nil {
					fmt.Fprintf(o.Trace, "%s\n", debug.Stack())
				}
			}
			w.failure = string(v)
		}
		res = Result{Failure: w.failure, Hash: w.hash, Steps: w.steps, Counters: w.count}
		if o.Trace != nil {
			fmt.Fprintf(o.Trace, "%s\n", w.summary())
		}
	}()
	w.run()
	return res
}

func newWorld(o Options) *World {
	w := &World{
		opt: o, cfg: Configs()[o.Config], rnd: rand.New(rand.NewPCG(o.Seed, 0x5ec7)), luck: rand.New(rand.NewPCG(o.Seed, 0x5ba7e)), asks: newZeroAsks(o.Seed), early: newEarlyReads(o.Seed),
		hash:  14695981039346656037,
		byVer: map[versionKey]*write{}, damaged: map[sectorKey]bool{},
	}
	w.count.Worlds = 1
	w.prof = w.choose()
	if o.Seed%10 == 0 { // by the seed itself: the other worlds are what they were
		w.prof.lookEvery = 2 * time.Millisecond
	}
	w.makers = o.Seed%48 >= 24 // half of the worlds of each shape
	w.chooseMembers()
	if o.Flush {
		w.chooseFlush()
	}
	w.resizes, w.liars = newResizes(w), newLiars(w)
	w.meta, w.drains = newMeta(w), newDrains(w)
	w.eras = make([][]era, len(w.meta.files))
	for i := range w.cfg.Nodes {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	for range w.prof.stores {
		w.nodes = append(w.nodes, newStore(w, len(w.nodes)))
	}
	for i := range w.prof.writers + w.prof.readers {
		w.clients = append(w.clients, newClient(w, i, i >= w.prof.writers))
	}
	w.liars.choose()
	return w
}

func (w *World) run() {
	for _, n := range w.nodes {
		n.start()
	}
	for _, c := range w.clients {
		c.start()
	}
	if w.prof.faultEvery > 0 {
		w.after(w.upTo(w.prof.faultEvery), w.fault)
	}
	w.comeAndGo()
	w.drains.begin()
	w.resizes.begin()
	if w.opt.Flush && !w.prof.calm {
		w.after(1+w.luck.Int64N(w.prof.volatileEvery), w.volatileFault)
	}
	w.after(w.prof.active, w.finale)
	for len(w.q.h) > 0 && !w.over {
		e := w.q.pop()
		w.now = e.at
		w.steps++
		if w.steps > stepsMax {
			w.failStuck(fmt.Sprintf("after %d steps, %d ms", w.steps, w.now))
		}
		w.note(uint64(e.at), uint64(e.kind)<<32|uint64(e.who)<<16|uint64(e.peer))
		w.happen(&e)
	}
	if !w.over {
		w.fail("no convergence", "nothing left to happen")
	}
	for _, c := range w.clients {
		c.countHolder()
		if c.reader {
			w.count.observeStats(c.r.Stats())
		}
	}
	w.endLiars()
	w.checkHistories()
}

func (w *World) happen(e *event) {
	switch e.kind {
	case evCall:
		e.fn()
	case evToNode:
		w.nodes[e.who].receive(e.msg, e.peer, e.gen)
	case evSync:
		if n := w.nodes[e.who]; n.gen == e.gen {
			n.synced(e.arg)
		}
	case evApply:
		w.nodes[e.who].applySome()
	case evRead:
		if n := w.nodes[e.who]; n.gen == e.gen {
			e.fn()
		}
	case evToClient, evTick, evWork, evClient:
		c := w.clients[e.who]
		switch {
		case c.gen != e.gen:
		case c.pausedUntil > w.now:
			e.at = c.pausedUntil
			w.q.push(*e)
		default:
			c.happen(e)
		}
	}
}

// fail ends the world. name is the invariant that is broken.
func (w *World) fail(name, format string, args ...any) {
	panic(violation(name + ": " + fmt.Sprintf(format, args...)))
}

// ---- time and chance ----

func (w *World) after(d int64, fn func()) { w.q.push(event{at: w.now + d, kind: evCall, fn: fn}) }

func (w *World) chance(p float64) bool { return p > 0 && w.rnd.Float64() < p }

// upTo returns 1 … n.
func (w *World) upTo(n int64) int64 { return 1 + w.rnd.Int64N(n) }

// delay is how long something on the way takes: mostly short, sometimes long enough to be overtaken by everything.
func (w *World) delay() int64 {
	d := w.upTo(4)
	if !w.quiet && w.chance(w.prof.slow) {
		d += w.upTo(w.prof.slowMost)
	}
	return d
}

func (w *World) tick() int64 { w.clock++; return w.clock }

// mutant reports whether the rule of that name is dropped.
func (w *World) mutant(name string) bool { return w.opt.Mutant == name }

// note folds something that happened into the hash of the trace.
func (w *World) note(a, b uint64) {
	w.hash = (w.hash ^ a) * 1099511628211
	w.hash = (w.hash ^ b) * 1099511628211
}

func (w *World) tracing() bool { return w.opt.Trace != nil }

func (w *World) trace(format string, args ...any) {
	if w.opt.Trace != nil {
		fmt.Fprintf(w.opt.Trace, "%6d "+format+"\n", append([]any{w.now}, args...)...)
	}
}

func (w *World) summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "config %d (%v) seed %d flush %v liars %v mutant %q: %d steps, %d ms, hash %016x\n", w.opt.Config, w.cfg, w.opt.Seed, w.opt.Flush, w.opt.Liars, w.opt.Mutant, w.steps, w.now, w.hash)
	if w.failure != "" {
		fmt.Fprintf(&b, "FAILURE %s\n", w.failure)
	}
	return b.String()
}

// ---- the network ----

// toNode sends a message of client c on its way to a node.
func (w *World) toNode(c *client, m *stripe.Message) {
	i := w.nodeOf(m.Node)
	w.count.observeRequest(c, m)
	w.checkMark(c, m)
	if w.tracing() {
		w.trace("c%d -> n%d  %s", c.idx, i, describe(m))
	}
	w.note(uint64(m.Kind)<<8|uint64(m.Version.Sequence), uint64(m.Epoch)<<32|uint64(m.Seq)<<16|uint64(m.View))
	m = w.onWire(m)
	for range w.copies(c.links[i].blockedOut) {
		w.q.push(event{at: w.now + w.delay(), kind: evToNode, who: i, peer: c.idx, gen: c.gen, msg: m})
	}
	if m.Kind == stripe.KindPrepare && w.chance(w.prof.forge) {
		w.forge(c, m)
	}
}

// forge plays a holder that seals anew under an old version: once the node has the first write durably, it gets another
// one under the same version. It must refuse.
func (w *World) forge(c *client, m *stripe.Message) {
	n, gen, file := w.nodes[w.nodeOf(m.Node)], c.gen, c.file
	w.after(w.upTo(40), func() {
		if w.quiet || !n.up || n.disk.find(w, file, m.Record.First, m.Version) < 0 || n.incFor(file) != m.Incarnation {
			return
		}
		rec, second := *m.Record, *m
		rec.Digest[0] ^= 1
		if rec.Kind == stripe.RecordData {
			rec.Payload = append([]byte(nil), rec.Payload...)
			rec.Payload[0] ^= 1
		}
		second.Record, second.ID = &rec, 1<<40
		w.count.Forged++
		n.receive(&second, c.idx, gen)
	})
}

// toClient sends an answer of a node on its way to a client.
func (w *World) toClient(n *node, c *client, gen int, m *stripe.Message) {
	w.count.observeAnswer(m)
	if w.tracing() {
		w.trace("c%d <- n%d  %s", c.idx, n.idx, describe(m))
	}
	w.note(uint64(m.Kind)<<8|uint64(m.Err), uint64(len(m.Extents))<<32|uint64(len(m.Regions)))
	m = w.onWire(m)
	for range w.copies(c.links[n.idx].blockedIn) {
		w.q.push(event{at: w.now + w.delay(), kind: evToClient, who: c.idx, peer: n.idx, gen: gen, msg: m})
	}
}

// copies is how often a message arrives.
func (w *World) copies(blockedUntil int64) int {
	switch {
	case w.quiet:
		return 1
	case blockedUntil > w.now || w.chance(w.prof.loss):
		w.count.Lost++
		return 0
	case w.chance(w.prof.dup):
		w.count.Duplicated++
		return 2
	}
	return 1
}

// onWire sends the message through the codec in worlds that do so.
func (w *World) onWire(m *stripe.Message) *stripe.Message {
	if !w.prof.wire {
		return m
	}
	header, parts := stripe.EncodeMessage(m)
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	out, err := stripe.DecodeMessage(header, body)
	if err != nil {
		w.fail("codec", "%s: %v", describe(m), err)
	}
	return out
}

func (w *World) nodeOf(id blocktree.NodeID) int { return int(id) - 1 }
