package stripe

import (
	"slices"
	"time"

	"blocktree"
)

// ReaderConfig makes a Reader; zero times mean MemberTimeout and WriteStallTimeout. LookEvery is HolderConfig's.
type ReaderConfig struct {
	MemberTimeout, StallTimeout, LookEvery time.Duration
	Mutant                                 string // tests only
}

// Reader reads files without a lease. It changes nothing anywhere.
type Reader struct {
	core
	reads []*read
	begun uint64 // reads that ever began
}

// NewReader starts a Reader at time now of the driver's clock.
func NewReader(cfg ReaderConfig, now time.Duration) *Reader {
	r := &Reader{}
	r.init(now, cfg.MemberTimeout, cfg.StallTimeout, cfg.LookEvery, cfg.Mutant)
	return r
}

// Tick moves the time. What that makes late is seen to within LookEvery.
func (r *Reader) Tick(now time.Duration) {
	if !r.tick(now) {
		return
	}
	for _, p := range r.scanSlow() {
		r.resend(p)
	}
	for _, x := range slices.Clone(r.reads) {
		if x.overlooks && !x.patient && r.now-x.overlookedAt >= r.memberTimeout { // those that it hoped for instead are no better
			x.finish(blocktree.StaleView, nil)
		}
		x.tick()
	}
}

// NodeUp tells that a node can be reached; what it has not answered is sent again.
func (r *Reader) NodeUp(node blocktree.NodeID, inc blocktree.Incarnation) {
	r.resend(r.nodeUp(node, inc))
	for _, x := range slices.Clone(r.reads) {
		x.pump()
	}
}

// resend asks a peer again all that it has not answered: a message or its answer may have got lost.
func (r *Reader) resend(p *peer) {
	for c := p.head; c != nil; c = c.next {
		c.since, c.slow = r.now, false
		m := *c.msg
		r.again(c, &m)
	}
}

// NodeDown tells that a node is dead.
func (r *Reader) NodeDown(node blocktree.NodeID) {
	p := r.peer(node)
	p.up, p.down = false, true
	for _, x := range slices.Clone(r.reads) {
		x.peerDown(p)
	}
}

// Read reads a run within one region under a layout that Raft gave after the read was asked for (rule 6). The outcome is a
// Done; StaleView, Recovering and Unavailable mean: get the layout anew and try again.
func (r *Reader) Read(op uint64, l *Layout, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) {
	r.start(&read{op: op, region: region, first: first, count: count, layout: l})
}

// ReadAll is Holder.ReadAll for one without a lease.
func (r *Reader) ReadAll(op uint64, l *Layout, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32, care Care) {
	r.start(readAll(&read{op: op, region: region, first: first, count: count, layout: l}, care))
}

// Zeros is Holder.Zeros for one without a lease, under a layout as Read has it.
func (r *Reader) Zeros(op uint64, l *Layout, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) {
	r.start(&read{op: op, region: region, first: first, count: count, layout: l, zeros: true})
}

// GiveUp is Holder.GiveUp.
func (r *Reader) GiveUp(op uint64) {
	for _, x := range r.reads {
		if x.zeros && x.op == op {
			r.stats.GivenUp++
			x.finish(blocktree.Canceled, nil)
			return
		}
	}
}

func (r *Reader) start(x *read) {
	x.c, x.host, x.skip, x.started = &r.core, r, -1, r.now
	if x.region >= x.layout.Regions() || x.count == 0 || x.count > x.layout.RunSectorsMax() && !x.zeros {
		r.done(x.op, blocktree.Invalid, nil)
		return
	}
	if at, n := x.layout.Run(x.region); x.first < at || uint64(x.first-at) >= n || uint64(x.count) > n-uint64(x.first-at) {
		r.done(x.op, blocktree.OutOfRange, nil)
		return
	}
	r.begun++
	x.number = r.begun
	r.reads = append(r.reads, x)
	x.start()
}

// Step takes one answer. Answers that nobody waits for are ignored.
func (r *Reader) Step(a *Message) {
	c := r.calls[a.ID]
	if c == nil || !a.Answer || a.Node != c.peer.node || a.Kind != c.msg.Kind || a.Epoch != c.msg.Epoch || a.File != c.msg.File {
		return
	}
	r.drop(c)
	c.owner.onAnswer(c, a)
}

// Ready returns what is to be done (no Metas). Its slices are valid until the next Ready.
func (r *Reader) Ready() HolderReady { return r.swap() }

// Stats returns the counts since NewReader.
func (r *Reader) Stats() HolderStats { return r.stats }

func (r *Reader) begin(x *read) { x.view = x.layout.View(x.region) }

func (r *Reader) settled(blocktree.RegionIndex, blocktree.Version) bool { return false }

func (r *Reader) watermark(blocktree.RegionIndex) blocktree.Version { return blocktree.Version{} }

// possible: a reader does not know what holders give out.
func (r *Reader) possible(blocktree.RegionIndex, blocktree.Version) bool  { return true }
func (r *Reader) premature(blocktree.RegionIndex, blocktree.Version) bool { return false }
func (r *Reader) accuse(Suspect) bool                                     { return true }

// leaving: the view is the newest.
func (r *Reader) leaving(*read) bool { return false }

func (r *Reader) undecided(x *read) { x.finish(blocktree.Unavailable, nil) }

// refusal is that a member refused a read, under which layout and why.
type refusal struct {
	epoch blocktree.Epoch
	seq   blocktree.ViewID
	why   blocktree.Kind
	begun uint64 // the reads that had begun when it did so first
}

// refused ends a read whose layout is not the newest, or whose file is between two holders. A member that says so again of the same layout, to a read that began later, is
// one that cannot answer: else one that lies, or was left out of a repair, would keep everybody from reading. Of reads that were under way each is tried again: one view
// change is refused to all of them. As Raft may have been asked for the layout of a later one before that, too, that one does not hope for the others forever (Tick).
func (r *Reader) refused(x *read, c *call, err blocktree.Kind) bool {
	was, is := c.peer.refusal, refusal{x.layout.Epoch, x.layout.Seq, err, r.begun}
	again := was.epoch == is.epoch && was.seq == is.seq && was.why == is.why
	if again {
		is.begun = was.begun
	}
	c.peer.refusal = is
	if again && x.number > was.begun && r.mut != mutMindRefusals {
		if !x.overlooks {
			x.overlooks, x.overlookedAt = true, r.now
		}
		return x.over
	}
	switch err {
	case blocktree.Fenced, blocktree.StaleView, blocktree.StaleMember:
		x.finish(blocktree.StaleView, nil)
	case blocktree.Recovering, blocktree.NotFound:
		x.finish(err, nil)
	}
	return x.over
}

func (r *Reader) finished(x *read, err blocktree.Kind, res *ReadResult) {
	if i := slices.Index(r.reads, x); i >= 0 {
		r.reads = slices.Delete(r.reads, i, i+1)
	}
	if err == blocktree.Other {
		r.stats.ReadsDone++
	}
	r.done(x.op, err, res)
}
