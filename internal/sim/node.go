package sim

import (
	"encoding/binary"
	"sort"

	"blocktree"
	"blocktree/cluster/stripe"
)

// node is one storage node: the production Member with a driver, a disk and a Raft replica around it.
type node struct {
	w   *World
	idx int
	id  blocktree.NodeID
	inc blocktree.Incarnation
	vol blocktree.Incarnation // what files of durability flush know it by

	up    bool
	gen   int // counts lives, so that events of an earlier one are ignored
	m     *stripe.Member
	disk  *disk
	ends  []int  // log length after each record that this life of the member handed out
	asks  []ask  // by request id - 1
	says  []said // by file
	busy  bool   // a sync is under way
	want  bool   // something waits for one
	wrote int    // length of the log that a kill of the process leaves

	applied     int // of meta.log
	applying    bool
	catching    []catchUp
	raftBlocked int64
	slowUntil   int64
	fullUntil   int64
	freshInc    bool // Raft has not heard of inc yet
	lostDisk    bool // once: it may not have had what it acknowledged
	replaced    bool // another store has its place, and it is no host of the cluster any more
	away        bool // does not run, as it has not been started ever, or is gone for good

	liar *liar // nil: it keeps its promises
}

// ask remembers whose request the member knows by a number.
type ask struct {
	client, gen int
	id          uint64
	log         int // how long the log was when it came
}

type catchUp struct {
	file   blocktree.FileID
	target int
}

func newNode(w *World, idx int) *node {
	n := &node{w: w, idx: idx, id: blocktree.NodeID(idx + 1)}
	n.inc, n.vol = incarnation(n.id, 1), incarnation(n.id, 1)
	n.disk = newDisk(w.meta)
	n.says = make([]said, len(w.meta.files))
	return n
}

func incarnation(id blocktree.NodeID, start int) (inc blocktree.Incarnation) {
	binary.BigEndian.PutUint64(inc[:], uint64(id)<<32|uint64(start))
	return inc
}

// start is a process start: replay the log from the newest checkpoint, learn what Raft's replica knows, serve.
func (n *node) start() {
	if n.up || n.away {
		return
	}
	n.up = true
	n.gen++
	n.asks, n.ends, n.busy, n.catching, n.applying = nil, nil, false, nil, false
	d := n.disk
	c := d.rewind()
	n.m = stripe.NewMember(n.id, n.inc)
	if c.snapshot != nil {
		m, err := stripe.RestoreMember(n.id, n.inc, c.snapshot)
		if err != nil {
			n.w.fail("snapshot", "node %d: %v", n.idx, err)
		}
		n.m = m
	}
	n.m.ServeVolatile(n.vol)
	n.m.SetMutant(n.w.opt.Mutant)
	if n.w.opt.Forgetful {
		n.m.KeepLayouts(1)
	}
	for i := c.pos; i < len(d.log); i++ {
		if d.log[i].lost || n.w.mutant("control-forgotten") && d.log[i].rec.Kind == stripe.RecordControl {
			continue
		}
		if err := n.m.Apply(d.log[i].rec, refOf(i)); err != nil {
			n.w.fail("replay", "node %d: %v", n.idx, err)
		}
		n.drainReplay(i)
	}
	n.wrote = len(d.log)
	d.synced = len(d.log)   // what a restart finds it makes durable before it serves
	for f := range n.says { // its log may hold a repair that it has not told of
		n.says[f].repaired = max(n.says[f].repaired, n.says[f].fenced)
	}
	for f := range n.w.meta.files {
		if l := n.w.meta.known(f, n.applied); l != nil {
			n.m.Learn(l)
		}
	}
	n.drain()
	n.announce()
	n.wakeRaft()
	for _, cl := range n.w.clients {
		cl.connect(n, n.w.upTo(10))
	}
	n.w.trace("n%d up, %d records, applied %d, incarnation %v", n.idx, len(d.log), n.applied, n.inc)
}

// crash is the loss of power.
func (n *node) crash() {
	if !n.up {
		n.losePower()
		return
	}
	n.up = false
	n.gen++
	unborne := n.liar == nil && !n.w.bearsWithout(n)
	if unborne { // power fails just after a sync
		n.disk.synced = len(n.disk.log)
	}
	lost := n.disk.loseTail(n.w)
	n.w.count.Crashes++
	n.w.count.LostRecords += uint64(lost)
	if lost > 0 {
		n.w.count.CrashesWithLoss++
	}
	n.disk.synced, n.wrote = len(n.disk.log), len(n.disk.log)
	if !unborne {
		n.forgetVolatile()
	}
	if n.applied > 0 && n.w.chance(0.5) { // Raft's state machine need not be synced: the log is replayed
		n.applied -= n.w.rnd.IntN(min(n.applied, 4) + 1)
	}
	n.m = nil
	for _, c := range n.w.clients {
		c.lost(n, true)
	}
	n.w.trace("n%d down, lost %d", n.idx, lost)
}

// mayLose reports whether the data survive if this node's disk does not: every region keeps k members that are in
// sync and have theirs. (More lost disks than that are a loss, which the protocol of the world does not have yet.)
func (n *node) mayLose() bool {
	for f := range n.w.meta.files {
		if !n.w.meta.enough(n.w.meta.files[f].layout, n) {
			return false
		}
	}
	return true
}

// trusted reports whether the node still has all by which a layout counts on it.
func (n *node) trusted(l *stripe.Layout) bool {
	return l.Incarnations[n.id] == n.incOf(l) && !l.Marked[n.id]
}

// fenceSaid is when, in ticks of the histories' clock, a node first answered a fence of an epoch.
type fenceSaid struct {
	epoch blocktree.Epoch
	at    int64
}

// said is what a node's answers have told of its promises for one file.
type said struct {
	knows            blocktree.ViewID // it has this view change durably
	fenced, repaired blocktree.Epoch
	fences           []fenceSaid
	reset            map[blocktree.RegionIndex]blocktree.Epoch
}

// notice keeps what an answer promises.
func (n *node) notice(a *stripe.Message) {
	if a.Err != blocktree.Other {
		return
	}
	s := &n.says[n.w.meta.fileOf(a.File)]
	switch a.Kind {
	case stripe.KindFence:
		if a.Epoch > s.fenced {
			s.fences = append(s.fences, fenceSaid{a.Epoch, n.w.tick()})
		}
		s.knows, s.fenced = max(s.knows, a.Seq), max(s.fenced, a.Epoch)
	case stripe.KindRepair:
		s.knows, s.repaired = max(s.knows, a.Seq), max(s.repaired, a.Epoch)
	case stripe.KindLearn:
		s.knows = max(s.knows, a.Seq)
	case stripe.KindReset:
		if s.reset == nil {
			s.reset = map[blocktree.RegionIndex]blocktree.Epoch{}
		}
		s.reset[a.Region] = max(s.reset[a.Region], a.Epoch)
		s.knows = max(s.knows, a.View)
	default:
		s.knows = max(s.knows, a.View)
	}
}

// loseDisk replaces the disk by an empty one, by what it was some time ago, by one with holes in its log, or by one whose
// shards are of another place.
func (n *node) loseDisk() {
	w := n.w
	n.lostDisk = true
	if w.spoilt != nil && w.spoilt.node == n {
		w.mend()
	}
	switch w.rnd.IntN(5) {
	case 0, 1:
		n.disk = newDisk(w.meta)
		w.count.Wipes++
	case 2:
		n.disk.rollBack(w.rnd.IntN(len(n.disk.log) + 1))
		w.count.RollBacks++
	case 3:
		n.disk.makeHoles(w)
		w.count.Holed++
	case 4:
		n.disk.misplace(w)
		w.count.Misplaced++
	}
	n.disk.synced = len(n.disk.log)
	if w.mutant("incarnation-kept") {
		return
	}
	n.says = make([]said, len(w.meta.files))
	n.inc = incarnation(n.id, n.gen+2)
	n.vol = n.inc
	n.freshInc = true
}

// announce tells Raft of a new incarnation until it knows.
func (n *node) announce() {
	if !n.freshInc || !n.up {
		return
	}
	w, gen := n.w, n.gen
	w.after(w.delay(), func() {
		if n.gen != gen || !n.freshInc {
			return
		}
		if w.meta.reachable() && n.raftBlocked <= w.now || w.quiet {
			w.meta.started(n)
			n.freshInc = false
			return
		}
		w.after(20, n.announce)
	})
}

// ---- the driver of the member ----

func (n *node) receive(m *stripe.Message, client, gen int) {
	if !n.up || n.feign(m, n.w.clients[client], gen) {
		return
	}
	n.asks = append(n.asks, ask{client, gen, m.ID, len(n.disk.log)})
	mine := *m
	mine.ID = uint64(len(n.asks))
	n.m.Step(&mine)
	n.drain()
}

// drain carries out what the member asks for until it asks for nothing.
func (n *node) drain() {
	for {
		r := n.m.Ready()
		n.want = r.SyncTo > 0
		if len(r.Records)+len(r.Answers)+len(r.Commits)+len(r.Drops)+len(r.Resets)+len(r.Reads)+len(r.CatchUp) == 0 {
			break
		}
		n.append(r.Records)
		for _, x := range r.Commits {
			if !x.Void {
				n.w.checkIndexed(n, n.w.meta.fileOf(x.File), x)
			}
		}
		n.index(r, len(n.disk.log))
		for _, a := range r.Answers {
			n.notice(a)
		}
		for _, t := range r.Reads {
			n.read(t)
		}
		for _, a := range r.Answers {
			n.answer(a)
		}
		for _, f := range r.CatchUp {
			n.catchUp(f)
		}
	}
	n.sync()
}

// drainReplay carries out what the member asks for after record pos was replayed.
func (n *node) drainReplay(pos int) {
	r := n.m.Ready()
	if len(r.Records)+len(r.Answers)+len(r.Reads) > 0 {
		n.w.fail("replay", "node %d: %d records, %d answers, %d reads from a replay", n.idx, len(r.Records), len(r.Answers), len(r.Reads))
	}
	if !n.w.mutant("replay-forgets-index") {
		n.index(r, pos+1)
	}
}

// append stores records at the end of the log; one that does not fit is not stored, and the member is told.
func (n *node) append(recs []*stripe.Record) {
	if len(recs) == 0 {
		return
	}
	full := n.fullUntil > n.w.now && !n.w.quiet && (n.liar != nil || len(n.w.liars.nodes) == 0)
	refs := make([]stripe.Ref, len(recs))
	var noSpace []int
	for i, rec := range recs {
		n.ends = append(n.ends, len(n.disk.log)+1)
		if full && rec.Kind != stripe.RecordControl && n.w.chance(0.7) {
			noSpace = append(noSpace, i)
			n.ends[len(n.ends)-1]--
			n.w.count.NoSpace++
			continue
		}
		refs[i] = refOf(len(n.disk.log))
		n.disk.log = append(n.disk.log, entry{rec: rec})
	}
	n.m.Located(refs, noSpace)
	n.writeOut()
	if n.w.mutant("unsynced-answers") {
		n.m.Durable(uint64(len(n.ends)))
	}
}

func (n *node) index(r stripe.MemberReady, pos int) {
	for _, x := range r.Resets {
		f := n.w.meta.fileOf(x.File)
		n.disk.reset(f, x, pos)
	}
	for _, x := range r.Commits {
		if x.Void {
			continue
		}
		n.disk.commit(n.w.meta.fileOf(x.File), x, posOf(x.Ref), n.w.mutant("commits-by-order"))
	}
	for _, x := range r.Drops {
		if !x.Void {
			n.disk.drop(posOf(x.Ref))
		}
	}
}

// sync starts a group commit if there is something to make durable.
func (n *node) sync() {
	if n.busy || n.disk.synced == len(n.disk.log) || n.w.opt.Flush && !n.want && n.w.luck.Float64() > 0.03 {
		return
	}
	n.busy = true
	d := n.w.upTo(n.w.prof.syncMost)
	if n.slowUntil > n.w.now && !n.w.quiet {
		d += n.slowUntil - n.w.now
	}
	n.w.q.push(event{at: n.w.now + d, kind: evSync, who: n.idx, gen: n.gen, arg: len(n.disk.log)})
}

// synced is the end of a group commit that covered the first pos records.
func (n *node) synced(pos int) {
	n.busy = false
	n.disk.synced, n.wrote = pos, max(n.wrote, pos)
	n.m.Durable(uint64(sort.SearchInts(n.ends, pos+1)))
	n.drain()
	if (n.disk.synced == len(n.disk.log) || n.w.mutant("checkpoint-early")) && n.w.chance(0.05) {
		n.disk.mark(n.m.Snapshot())
		n.w.count.Checkpoints++
	}
}

func (n *node) answer(m *stripe.Message) {
	a := n.asks[m.ID-1]
	if m.Kind == stripe.KindSync && m.Err == blocktree.Other && n.disk.synced < a.log {
		n.w.fail("F7 a sync is one", "node %d answers a SYNC that came when its log had %d records, and %d are durable", n.idx, a.log, n.disk.synced)
	}
	out := *m
	out.ID = a.id
	said := &out
	if n.liar != nil {
		said = n.speak(n.w.clients[a.client], said)
	}
	n.w.toClient(n, n.w.clients[a.client], a.gen, said)
}

// ---- the node's Raft replica ----

// wakeRaft lets the replica apply what it has not applied yet, in some time.
func (n *node) wakeRaft() {
	if n.applying || !n.up || n.applied == len(n.w.meta.log) {
		return
	}
	n.applying = true
	d := n.w.upTo(n.w.prof.applyMost)
	if n.w.quiet {
		d = 2
	} else if n.raftBlocked > n.w.now {
		d += n.raftBlocked - n.w.now
	}
	n.w.q.push(event{at: n.w.now + d, kind: evApply, who: n.idx, gen: n.gen})
}

func (n *node) applySome() {
	n.applying = false
	if !n.up {
		return
	}
	to := len(n.w.meta.log)
	if !n.w.quiet && n.w.chance(0.3) {
		to = n.applied + n.w.rnd.IntN(to-n.applied+1)
	}
	for ; n.applied < to; n.applied++ {
		n.m.Learn(n.w.meta.log[n.applied].layout)
	}
	rest := n.catching[:0]
	var done []blocktree.FileID
	for _, c := range n.catching {
		if c.target <= n.applied {
			done = append(done, c.file)
		} else {
			rest = append(rest, c)
		}
	}
	n.catching = rest
	for _, f := range done {
		n.m.CaughtUp(f)
	}
	n.drain()
	n.wakeRaft()
}

// catchUp asks the leader how far the log is and waits to have applied that; out of reach, it fails after a while.
func (n *node) catchUp(f blocktree.FileID) {
	w, gen := n.w, n.gen
	if n.m.Layout(f) == nil {
		if l := w.meta.known(w.meta.fileOf(f), n.applied); l != nil {
			n.m.Learn(l)
		}
		if !n.m.Waits(f) {
			n.m.CaughtUp(f)
			return
		}
	}
	w.after(w.delay(), func() {
		if n.gen != gen {
			return
		}
		if w.meta.reachable() && n.raftBlocked <= w.now || w.quiet {
			n.catching = append(n.catching, catchUp{f, len(w.meta.log)})
			n.wakeRaft()
		}
		failed := n.raftBlocked > w.now || !w.meta.reachable()
		if failed || n.applied == len(w.meta.log) {
			w.after(w.delay()*5, func() {
				if n.gen == gen {
					n.caughtUp(f, failed)
				}
			})
		}
	})
}

// caughtUp ends a catch-up that had nothing to wait for, or that failed.
func (n *node) caughtUp(f blocktree.FileID, failed bool) {
	for i, c := range n.catching {
		if c.file == f && c.target <= n.applied {
			n.catching = append(n.catching[:i], n.catching[i+1:]...)
			n.m.CaughtUp(f)
			n.drain()
			return
		}
	}
	if failed {
		n.m.CaughtUp(f)
		n.drain()
	}
}
