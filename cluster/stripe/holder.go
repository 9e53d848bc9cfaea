package stripe

import (
	"slices"
	"time"

	"blocktree"
	"blocktree/internal/invariant"
)

// idleCommit is how long a region must be without writes before its members are told the watermark.
const idleCommit = 50 * time.Millisecond

type phase uint8

const (
	fencing   phase = iota // gathering what the members hold
	repairing              // telling them what became of it
	running
)

// Holder is the machine of one holder of one file. It fences, decides and repairs first; operations given to it before
// wait. See HolderReady for its outputs.
type Holder struct {
	core
	codec         Codec
	joinDelay     time.Duration
	digestSectors uint64
	layout        *Layout
	epoch         blocktree.Epoch
	written       blocktree.Epoch           // see Written
	active        map[blocktree.NodeID]bool // in sync or joining somewhere
	phase         phase
	fenced        bool           // it is over; why says what for
	why           blocktree.Kind // Fenced or Lost
	repairs       [][]Repair     // the decision, in chunks

	regions  map[blocktree.RegionIndex]*hregion
	byIndex  []*hregion // the same, ascending
	dirty    []*hregion // whose watermark the members do not know
	queue    []*hwrite  // writes by submission, until reported
	qhead    int
	unread   uint64 // number of the last write submitted
	above    int    // writes above their watermarks
	flushes  []flush
	vol      volatile
	reads    []*read
	held     []heldRead // complete but for the lease
	job      *join
	joinAt   blocktree.RegionIndex
	joinNot  time.Duration // no new join before
	placeNot time.Duration // no new look for spares before
	moves    moves
	joinSeq  blocktree.ViewID // of the layout in which joiners without a job were last looked for
	allIn    blocktree.ViewID // of a layout in which no member of any region is out
	// joinPauses has the regions whose copy-up was given up; never iterated.
	joinPauses map[blocktree.RegionIndex]joinPause

	mending []*mend // waiting for a member to store a shard
	asked   []*mend // for Repair

	leaseUntil  time.Duration
	changeID    uint64 // the view change that Raft is asked for, 0 for none
	changeKind  ChangeKind
	changeNot   bool          // a change was refused: none before the next Tick
	removalNot  time.Duration // no new look for one member to vote out, of several that cannot be together, before
	removals    []removal     // see leaving.go
	confirmID   uint64
	confirmGen  uint64 // of the confirmation that is out
	confirmWant uint64 // generation that somebody needs
	confirmDone uint64 // of the newest that Raft has given
	accused     []accused
	decideGen   uint64 // that which the decision of a take-over waits for, 0: none
	confirmNot  bool   // not before the next Tick
	witnesses   witnesses
	retry       []*call
}

type heldRead struct {
	r      *read
	result *ReadResult
	gen    uint64
	number uint64        // of those that wait, in the order in which they were done
	at     time.Duration // when it was done
}

// NewHolder starts the machine at time now of the driver's clock; cfg.Layout names the epoch that is this holder's.
func NewHolder(cfg HolderConfig, now time.Duration) *Holder {
	h := &Holder{
		codec: cfg.Codec, joinDelay: cfg.JoinDelay, layout: cfg.Layout, epoch: cfg.Layout.Epoch,
		regions: map[blocktree.RegionIndex]*hregion{}, digestSectors: cfg.DigestSectors,
	}
	if h.digestSectors == 0 {
		h.digestSectors = digestBlockSectors
	}
	h.vol.init(&cfg)
	h.init(now, cfg.MemberTimeout, cfg.StallTimeout, cfg.LookEvery, cfg.Mutant)
	h.active = cfg.Layout.active()
	for _, n := range cfg.Layout.Hosts {
		h.peer(n)
	}
	if first := h.epoch == firstEpoch && h.layout.bornUnder(0, h.epoch); cfg.First && (first || h.mut == mutFirstLater) { // members go by that, too
		h.phase = running
		return h
	}
	for _, p := range h.order {
		if p.toFence = h.active[p.node]; p.toFence {
			h.sendFence(p, 0)
		}
	}
	h.checkFence()
	return h
}

// Recovered reports whether the take-over is complete.
func (h *Holder) Recovered() bool { return h.phase == running && !h.fenced }

// Fenced reports whether it is over: a later epoch exists, or what was acknowledged may be lost (Lost). This holder can do nothing
// any more.
func (h *Holder) Fenced() bool { return h.fenced }

// Lost reports whether it is over because acknowledged writes of a file of durability flush may be lost.
func (h *Holder) Lost() bool { return h.fenced && h.why == blocktree.Lost }

// Layout is the newest layout that the holder goes by; it is not to be changed.
func (h *Holder) Layout() *Layout { return h.layout }

// Stats returns the counts since NewHolder.
func (h *Holder) Stats() HolderStats {
	s := h.stats
	if j := h.job; j != nil {
		s.LeftSectors = uint64(j.cmp.end - j.cmp.next)
		for _, x := range j.todo {
			s.LeftSectors += uint64(x.Count)
		}
	}
	return s
}

// Ready returns what is to be done. Its slices are valid until the next Ready.
func (h *Holder) Ready() HolderReady {
	if h.confirmWant > h.confirmGen && h.confirmID == 0 && !h.confirmNot && !h.fenced {
		h.nextID++
		h.confirmID, h.confirmGen = h.nextID, h.confirmWant
		h.next.Metas = append(h.next.Metas, MetaRequest{ID: h.confirmID})
	}
	return h.swap()
}

// wantConfirm asks for a confirmation that begins after now.
func (h *Holder) wantConfirm() uint64 {
	h.confirmWant = h.confirmGen + 1
	return h.confirmWant
}

// Tick moves the time, which moves in no other way: at once for what asks whether the lease holds; what is late by it, or to be
// tried again, is seen to within LookEvery.
func (h *Holder) Tick(now time.Duration) {
	if !h.tick(now) || h.fenced {
		return
	}
	h.confirmNot, h.changeNot = false, false
	retry := h.retry
	h.retry = nil
	for _, c := range retry {
		if c.retry = false; !c.gone {
			h.again(c, h.refresh(c.msg))
		}
	}
	for _, p := range h.scanSlow() {
		p.timedOut = true
	}
	for _, p := range h.order {
		if !p.up && !p.down && h.now-p.upSince >= h.memberTimeout {
			p.down = true
		}
	}
	h.considerRemoval()
	for _, p := range h.order { // what cannot be removed is asked again
		if p.up && p.head != nil && h.now-p.head.since >= h.memberTimeout && h.changeID == 0 {
			h.resend(p)
		}
	}
	h.tickWrites()
	for _, r := range slices.Clone(h.reads) {
		r.tick()
	}
	h.failHeld()
	h.tickWitnesses()
	h.endMends()
	h.considerJoin()
}

// Refresh asks Raft for the newest layout.
func (h *Holder) Refresh() {
	if !h.fenced {
		h.wantConfirm()
	}
}

// Renewed tells that the lease term is confirmed until a time of the caller's clock, margin already taken off.
func (h *Holder) Renewed(until time.Duration) { h.leaseUntil = max(h.leaseUntil, until) }

// NodeUp tells that a node can be reached and which incarnation it says it has; what it has not answered is sent again.
func (h *Holder) NodeUp(node blocktree.NodeID, inc blocktree.Incarnation) {
	p := h.nodeUp(node, inc)
	if h.fenced {
		return
	}
	if h.allIn != h.layout.Seq && !slices.Contains(h.layout.Hosts, node) {
		h.wantConfirm() // it may have come in the place of one that is missing, of which nobody tells a holder whose writes wait
	}
	if h.active[node] && h.layout.Incarnations[node] != inc {
		p.gone = true
		h.wantConfirm() // Raft knows more: it is marked, or another layout expects it
		h.considerRemoval()
		return
	}
	h.resend(p)
	h.considerRemoval() // of another, which waited for it
	if h.active[node] { // it may have missed the last watermarks
		for _, r := range h.byIndex {
			r.tellAgain()
		}
	}
	for _, r := range slices.Clone(h.reads) {
		r.pump()
	}
}

// resend sends all that a peer has not answered again, in order.
func (h *Holder) resend(p *peer) {
	for c := p.head; c != nil; c = c.next {
		c.since, c.slow = h.now, false
		h.again(c, h.refresh(c.msg))
	}
}

// refresh copies a message under the newest view and watermark.
func (h *Holder) refresh(old *Message) *Message {
	m := *old
	if m.Kind.byView() {
		r := h.region(m.Region)
		m.View = r.view.ID
		if m.Kind != KindReset {
			m.Watermark = r.told()
		}
		if m.Record != nil {
			rec := *m.Record
			if rec.Watermark = r.told(); !rec.Installed && !rec.Watermark.Less(rec.Version) {
				rec.Watermark = m.Record.Watermark
			}
			m.Record = &rec
		}
	} else if m.Seq != 0 { // a witness need not know the newest view
		m.Seq = h.layout.Seq
	}
	m.Incarnation = h.layout.Incarnations[m.Node]
	return &m
}

// NodeSilent tells that nothing is heard of a node for the moment: it may come back as it was, or with another disk. Until NodeUp or NodeDown it
// is not one of those that remain when another is voted out.
func (h *Holder) NodeSilent(node blocktree.NodeID) { h.peer(node).silent = true }

// NodeDown tells that a node is dead: it is voted out at once, if enough remain.
func (h *Holder) NodeDown(node blocktree.NodeID) {
	p := h.peer(node)
	if p.up {
		p.upSince = h.now
	}
	p.up, p.down = false, true
	if h.fenced {
		return
	}
	h.considerRemoval()
	for _, r := range slices.Clone(h.reads) {
		r.peerDown(p)
	}
}

// Step takes one answer. Answers that nobody waits for are ignored.
func (h *Holder) Step(a *Message) {
	c := h.calls[a.ID]
	if c == nil || !a.Answer || a.Node != c.peer.node || a.Kind != c.msg.Kind || a.Epoch != h.epoch || a.File != c.msg.File || h.fenced {
		return
	}
	p := c.peer
	if _, probe := c.owner.(probeCall); probe && a.Err != blocktree.Fenced {
		h.drop(c)
		c.owner.onAnswer(c, a)
		return
	}
	switch a.Err {
	case blocktree.Fenced:
		h.end(blocktree.Fenced)
		return
	case blocktree.StaleView:
		h.staleView(c)
		return
	case blocktree.StaleMember:
		p.gone = true
		h.wantConfirm()
		h.considerRemoval()
		switch o := c.owner.(type) {
		case *read:
			h.drop(c)
			o.onAnswer(c, a)
		case *join:
			if o.cmp.isSource(c) {
				h.drop(c)
				o.onAnswer(c, a)
			}
		}
		return
	case blocktree.Other:
		p.timedOut = false
		known := c.msg.Seq
		if c.msg.Kind.byView() {
			known = c.msg.View
		}
		if known > p.learned {
			p.learned = known
			defer h.reopen()
		}
	}
	h.drop(c)
	c.owner.onAnswer(c, a)
}

// staleView sends a refused call under the newest view, once that is known.
func (h *Holder) staleView(c *call) {
	if c.msg.Kind.byView() && h.region(c.msg.Region).view.ID > c.msg.View || !c.msg.Kind.byView() && h.layout.Seq > c.msg.Seq {
		h.again(c, h.refresh(c.msg))
		return
	}
	h.wantConfirm()
	h.later(c)
}

// later sends a call again at the next Tick or when a newer layout is known. Its patience does not begin anew.
func (h *Holder) later(c *call) {
	if !c.retry {
		c.retry = true
		h.retry = append(h.retry, c)
	}
}

// putBack makes a dropped call outstanding again, to be sent at the next Tick.
func (h *Holder) putBack(c *call) {
	msg := *c.msg
	h.nextID++
	msg.ID = h.nextID
	c.msg, c.gone = &msg, false
	h.calls[msg.ID] = c
	c.prev, c.next = nil, c.peer.head // the oldest come first; it may be a little out of order
	if c.next != nil {
		c.next.prev = c
	} else {
		c.peer.tail = c
	}
	c.peer.head = c
	h.later(c)
}

// failedAnswer treats an answer that means neither yes nor no: the member is busy, or broken.
func (h *Holder) failedAnswer(c *call, a *Message) {
	if a.Err == blocktree.IO {
		c.peer.gone = true
		h.considerRemoval()
		if !h.active[c.peer.node] {
			return
		}
	}
	h.putBack(c)
}

// propose asks Raft for a view change; one at a time.
func (h *Holder) propose(kind ChangeKind, nodes []blocktree.NodeID, region blocktree.RegionIndex, inc blocktree.Incarnation) {
	invariant.Check(h.changeID == 0, "two view changes at once")
	h.nextID++
	h.changeID, h.changeKind = h.nextID, kind
	h.noteChange(kind, nodes, region)
	c := &Change{File: h.layout.File, Epoch: h.epoch, Seq: h.layout.Seq, Kind: kind, Nodes: nodes, Region: region, Incarnation: inc}
	h.next.Metas = append(h.next.Metas, MetaRequest{ID: h.changeID, Change: c})
}

// MetaDone gives the outcome of a MetaRequest and the newest layout, nil where that is unknown.
func (h *Holder) MetaDone(id uint64, l *Layout, err blocktree.Kind) {
	if h.fenced || id == 0 || id != h.changeID && id != h.confirmID {
		return
	}
	if id == h.changeID {
		h.changeID = 0
		h.changeNot = err != blocktree.Other
		if l == nil {
			h.wantConfirm()
			h.confirmNot = true
		} else if err == blocktree.Other {
			h.countChange()
		} else {
			h.joinNot = h.now + h.joinDelay // a refused join waits; removal is judged by the new layout
		}
		if h.changeKind != ChangeRemove && h.changeKind != ChangeStay && (l == nil || err != blocktree.Other) && h.job != nil {
			h.job.refused(l != nil)
		}
	} else {
		gen := h.confirmGen
		h.confirmID = 0
		if l == nil || err != blocktree.Other {
			h.confirmWant, h.confirmNot = gen+1, true
		} else if l.Epoch == h.epoch {
			h.witnesses.asking = false
			h.confirmDone = gen
			h.nameAccused(gen)
			h.confirmed(gen)
		}
	}
	if l != nil {
		h.adopt(l)
		if h.phase == fencing {
			h.checkFence() // it may have waited for that alone
		}
		if h.job != nil && h.changeID == 0 {
			h.job.viewChanged()
		}
	}
	if !h.fenced {
		h.considerRemoval()
		h.considerStay()
	}
}

// adopt goes by a newer layout.
func (h *Holder) adopt(l *Layout) {
	if l.Epoch != h.epoch {
		if l.Epoch > h.epoch {
			h.end(blocktree.Fenced)
		}
		return
	}
	if l.Seq <= h.layout.Seq || l.Sectors < h.layout.Sectors { // what is kept never shrinks
		return
	}
	if l.Lossy() && h.mut != mutHoldOn {
		h.end(blocktree.Lost)
		return
	}
	old, were := h.layout, h.active
	h.layout, h.removals = l, nil
	h.active = l.active()
	for _, n := range l.Hosts {
		h.peer(n)
	}
	for _, p := range h.order {
		if !h.active[p.node] { // out everywhere
			h.dropAll(p)
			p.timedOut, p.gone = false, false
			if were[p.node] {
				p.upSince, p.failures = h.now, p.failures+1
			}
		}
	}
	for _, r := range h.byIndex {
		if v := l.View(r.index); v.ID != r.view.ID {
			if r.setView(v); h.mut != mutToldOnce {
				r.tellAgain() // who knew of this view first has refused what it was told under the one before
			}
		}
	}
	for _, p := range h.order {
		if h.active[p.node] && p.learned < l.Seq && l.touches(p.node, old.Seq) {
			h.sendLearn(p)
		}
	}
	h.endMends()
	if h.job != nil {
		h.job.grown(old)
		h.job.viewChanged()
	}
	if h.phase == running { // else none has begun
		for _, r := range slices.Clone(h.reads) {
			if l.View(r.region).ID != r.view.ID {
				r.restart()
			}
		}
	}
	h.resendStale()
	h.reopen()
	switch h.phase {
	case fencing:
		h.checkFence()
	case repairing:
		h.checkRepair()
	}
}

// resendStale sends what was refused for its view.
func (h *Holder) resendStale() {
	keep := h.retry[:0]
	for _, c := range h.retry {
		switch {
		case c.gone:
		case c.msg.Kind.byView() && c.msg.View < h.region(c.msg.Region).view.ID:
			c.retry = false
			h.again(c, h.refresh(c.msg))
		default:
			keep = append(keep, c)
		}
	}
	clear(h.retry[len(keep):])
	h.retry = keep
}

// learnCall is the owner of KindLearn: what matters is peer.learned.
type learnCall struct{ h *Holder }

func (l learnCall) onSlow(*call) {}

func (l learnCall) onAnswer(c *call, a *Message) {
	if a.Err != blocktree.Other {
		l.h.failedAnswer(c, a)
	}
}

func (h *Holder) sendLearn(p *peer) {
	for c := p.head; c != nil; {
		after := c.next
		if c.msg.Kind == KindLearn {
			h.drop(c)
		}
		c = after
	}
	h.post(&call{peer: p, owner: learnCall{h}, msg: h.message(KindLearn, p)})
}

// message makes a request to p for the whole file.
func (h *Holder) message(k MessageKind, p *peer) *Message {
	return &Message{
		Kind: k, Node: p.node, File: h.layout.File, Epoch: h.epoch, Seq: h.layout.Seq, Incarnation: h.layout.Incarnations[p.node],
	}
}

// unfit reports whether a member is to be voted out, whether it cannot come back as it was, and whether it counts for
// nothing already.
func (h *Holder) unfit(p *peer) (unfit, forGood, lost bool) {
	lost = h.layout.Marked[p.node] || p.up && !p.silent && p.inc != h.layout.Incarnations[p.node] // what a silent one said last is old
	forGood = lost || p.gone
	return forGood || p.down || p.timedOut, forGood, lost
}

// considerRemoval votes out all members that are unfit, in one change; if too few would remain, those alone that
// cannot come back; of these, if need be, those alone that nothing is lost with; if that leaves too few, one that has
// no place where too few would remain; else none: then everything waits (I7). Whoever may still come back as it was is not voted
// out before those that remain are known to live: one of them may have lost its disk, and the others would then be too few, for good.
func (h *Holder) considerRemoval() {
	if h.changeID != 0 || h.changeNot || h.fenced || h.mut == mutNoExclude && h.phase != running {
		return
	}
	var groups [3][]blocktree.NodeID
	for _, p := range h.order {
		if !h.active[p.node] {
			continue
		}
		unfit, forGood, lost := h.unfit(p)
		for i, in := range [len(groups)]bool{unfit, forGood, lost} {
			if in {
				groups[i] = append(groups[i], p.node)
			}
		}
	}
	for i, nodes := range groups {
		sure := i == len(groups)-1 && !h.vol.on // they are lost already, whoever else is
		if len(nodes) > 0 && h.tryRemoval(nodes, sure) {
			return
		}
	}
	if len(groups[0]) < 2 || h.now < h.removalNot {
		return
	}
	for _, n := range groups[0] {
		alone := []blocktree.NodeID{n}
		if h.manned(h.layout, alone, groups[0]) && h.tryRemoval(alone, true) {
			return
		}
	}
	h.removalNot = h.now + h.memberTimeout/16
}

// tryRemoval votes nodes out if enough remain, and sure, or these are known to live.
func (h *Holder) tryRemoval(nodes []blocktree.NodeID, sure bool) bool {
	c := Change{File: h.layout.File, Epoch: h.epoch, Seq: h.layout.Seq, Kind: ChangeRemove, Nodes: nodes}
	next, err := h.layout.Apply(c, nil)
	if err != nil || !sure && !h.manned(next, nodes, nil) && h.mut != mutRemoveBlind {
		return false
	}
	h.propose(ChangeRemove, nodes, 0, blocktree.Incarnation{})
	return true
}
