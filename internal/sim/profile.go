package sim

import "time"

// faultKind is one thing that can go wrong.
type faultKind uint8

const (
	faultCrash    faultKind = iota // a node loses power and comes back
	faultPower                     // all nodes do
	faultLink                      // a client and a node lose each other, one way or both, reported or not
	faultIsolate                   // a node loses everybody
	faultRaft                      // a node's Raft log stands still
	faultClient                    // a client crashes
	faultPause                     // a client is stopped and continued
	faultWipe                      // a node comes back with an empty disk or an old one, and another incarnation
	faultSlowDisk                  // a node's disk takes long
	faultFullDisk                  // a node's disk is full for a while
	faultDamage                    // a stored shard fails its checksum
	faultMeta                      // nobody reaches Raft for a while
	faultSplit                     // a client and some nodes lose everybody else and Raft
	faultKinds
)

// profile is what a seed does with a world before it starts ("swarm testing", Groce et al. 2012: worlds that lack
// some kinds of fault reach states that worlds with all of them do not).
type profile struct {
	files, regions int
	regionSectors  uint64
	writers        int
	readers        int
	active         int64 // ms until faults and work stop
	workEvery      int64
	window         int     // operations in flight of one holder
	loss, dup      float64 // of messages
	slow           float64 // chance of a long delay
	slowMost       int64
	faultEvery     int64 // ms between faults on average, 0: never
	faults         []faultKind
	wild           bool    // leases go to whoever asks; holders never hear of a term, so they confirm every read
	wire           bool    // every message goes through its encoding
	lateReads      bool    // a node reads its store some time after it checked the request
	lateSeal       bool    // writes come out of order after Begin
	suffixLoss     bool    // a crash loses a suffix of what was not synced, else any subset
	forge          float64 // chance that a version is used a second time
	calm           bool    // full disks and nothing else: nobody may leave a view
	zeros          float64
	readShare      float64
	digestSectors  uint64 // of one block that a copy-up compares
	syncMost       int64
	stores         int   // that are no hosts at first
	spareAfter     int64 // ms after which a silent node's places go to spares, 0: never
	applyMost      int64
	lookEvery      time.Duration // of the machines of clients

	durable       []bool // by file: its durability is ack. Beyond the end: it is.
	flushShare    float64
	flushAfter    int64 // ms until a holder syncs unasked for
	flushBytes    int
	volatileEvery int64 // ms between losses of what was not synced, on average
}

// Times of the world in virtual ms; only their order of size matters, and that memberTimeout is a few round trips.
const (
	memberTimeout = 70
	joinDelay     = 25
	leaseTerm     = 240
	leaseMargin   = 24
	metaTimeout   = 60
	stallTimeout  = 900
	readStall     = 200
	tickEvery     = 12
)

func (w *World) choose() profile {
	pick := func(xs ...int64) int64 { return xs[w.rnd.IntN(len(xs))] }
	prob := func(xs ...float64) float64 { return xs[w.rnd.IntN(len(xs))] }
	p := profile{
		files: int(pick(1, 1, 1, 1, 2)), regions: int(pick(2, 2, 3)), regionSectors: uint64(pick(3, 4, 6)),
		writers: int(pick(2, 2, 3)), readers: int(pick(1, 2, 3)),
		active: pick(300, 500, 800, 1000), workEvery: pick(8, 15, 25), window: int(pick(1, 3, 6)),
		loss: prob(0, 0, 0.01, 0.04), dup: prob(0, 0.02, 0.1), slow: prob(0, 0.02, 0.1), slowMost: pick(20, 80, 300),
		faultEvery: pick(0, 40, 80, 80, 160), wild: w.chance(0.3), wire: w.chance(0.06), lateReads: w.chance(0.4),
		lateSeal: w.chance(0.4), suffixLoss: w.chance(0.5), zeros: prob(0, 0.15, 0.4), readShare: prob(0.2, 0.5),
		digestSectors: uint64(pick(1, 2, 3, 8)),
		syncMost:      pick(2, 6, 15), applyMost: pick(3, 15, 60), forge: prob(0, 0, 0.02), calm: w.chance(0.03),
	}
	for k := range faultKinds {
		if w.chance(0.45) {
			p.faults = append(p.faults, k)
		}
	}
	if p.calm {
		p.faults, p.faultEvery, p.loss, p.slow, p.applyMost, p.syncMost = []faultKind{faultFullDisk}, 30, 0, 0, 3, 6
	}
	if len(p.faults) == 0 {
		p.faultEvery = 0
	}
	return p
}

func (w *World) fault() {
	if w.quiet {
		return
	}
	w.after(w.upTo(2*w.prof.faultEvery), w.fault)
	n := w.nodes[w.rnd.IntN(len(w.nodes))]
	c := w.clients[w.rnd.IntN(w.prof.writers)]
	long := w.upTo([]int64{20, 100, 250}[w.rnd.IntN(3)])
	kind := w.prof.faults[w.rnd.IntN(len(w.prof.faults))]
	w.trace("fault %d n%d c%d for %d ms", kind, n.idx, c.idx, long)
	switch kind {
	case faultCrash:
		n.crash()
		w.after(long, n.start)
	case faultPower:
		w.count.PowerLosses++
		for _, n := range w.nodes {
			n.crash()
			w.after(w.upTo(long), n.start)
		}
	case faultLink:
		any := w.clients[w.rnd.IntN(len(w.clients))]
		any.cut(n, long, w.rnd.IntN(3), w.chance(0.7))
	case faultIsolate:
		n.raftBlocked = max(n.raftBlocked, w.now+long)
		for _, c := range w.clients {
			c.cut(n, long, 2, w.chance(0.8))
		}
	case faultRaft:
		n.raftBlocked = max(n.raftBlocked, w.now+long)
	case faultClient:
		c.crash()
	case faultPause:
		w.count.Pauses++
		c.pausedUntil = max(c.pausedUntil, w.now+w.upTo(2*leaseTerm))
	case faultWipe:
		if n.mayLose() {
			n.crash()
			n.loseDisk()
			w.after(long, n.start)
		}
	case faultSlowDisk:
		n.slowUntil = w.now + long
	case faultFullDisk:
		n.fullUntil = w.now + long
	case faultDamage:
		n.damage()
	case faultMeta:
		w.meta.downUntil = w.now + long
	case faultSplit:
		w.split(c)
	}
}

// split cuts the network in two for longer than a lease: one writer, perhaps a reader and some nodes here, everybody else
// and Raft there.
func (w *World) split(c *client) {
	w.count.Splits++
	until := leaseTerm + w.upTo(2*leaseTerm)
	here := w.rnd.IntN(1<<len(w.nodes)-2) + 1
	with := w.clients[w.prof.writers+w.rnd.IntN(w.prof.readers)]
	together := w.chance(0.5)
	report := w.chance(0.7)
	for i, n := range w.nodes {
		if here>>i&1 == 1 {
			n.raftBlocked = max(n.raftBlocked, w.now+until)
		}
		for _, x := range w.clients {
			if side := x == c || x == with && together; side != (here>>i&1 == 1) {
				x.cut(n, until, 2, report)
			}
		}
	}
	for _, x := range w.clients {
		if x == c || x == with && together {
			x.raftBlocked = w.now + until
		}
	}
}
