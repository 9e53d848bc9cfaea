package stripe

import (
	"slices"
	"time"

	"blocktree"
)

type joinState uint8

const (
	joinAsked   joinState = iota // the change that lets it join is with Raft
	joinLearn                    // members learn the joining view
	joinReset                    // the joiner drops what is not committed
	joinForget                   // it forgets what is, too
	joinCopy                     // what differs is found, rebuilt, installed
	joinDrain                    // no version may become readable before the joiner holds it
	joinPromote                  // the change that counts it in is with Raft
)

// join is the copy-up of one region to one member (rule 7; docs/design/0008).
type join struct {
	h      *Holder
	region blocktree.RegionIndex
	node   blocktree.NodeID
	inc    blocktree.Incarnation
	slot   int // place, or behind the last one for an heir
	state  joinState
	seq    blocktree.ViewID // of the joining view

	base    blocktree.Sequence // newer versions of this epoch go to the joiner as any write does
	cmp     compare
	forgot  bool              // the joiner was told to forget what is committed
	todo    []Extent          // to be copied; the version matters of Zero ones only
	copies  map[*copyRun]bool // in flight; only counted, never iterated
	reading int               // of these, read from the others
	rest    time.Duration     // no new run before
	busy    bool              // the last run that ended saw the members kept busy by others
	skipped uint64            // sectors that need no copy
	copied  uint64
	waiting bool // something failed: go on at the next Tick
	tries   int  // that failed since something was installed or compared
	over    bool
}

// considerJoin starts the next copy-up: regions in order, and of a region the members that are out in order of place.
func (h *Holder) considerJoin() {
	if h.phase != running || h.fenced {
		return
	}
	h.considerStay()
	if h.job != nil {
		h.job.waiting = false
		h.job.pump()
		return
	}
	if h.changeID != 0 || h.changeNot || h.codec == nil || h.now < h.joinNot && h.joinSeq == h.layout.Seq {
		return
	}
	if h.joinSeq = h.layout.Seq; h.adoptJoiner() || h.now < h.joinNot {
		return
	}
	if h.anyOut() && h.beginJoin() || h.placeSpare() || h.beginMove() {
		return
	}
	h.joinNot = h.now + min(h.memberTimeout/4, max(h.joinDelay, idleCommit)) // nobody to join: look again later
}

// beginJoin asks for the next join, if there is a member to join.
func (h *Holder) beginJoin() bool {
	out := false
	for n := h.layout.Regions(); n > 0; n-- {
		if h.joinAt >= h.layout.Regions() {
			h.joinAt = 0
		}
		for i, m := range h.layout.View(h.joinAt).Members {
			out = out || m.State == Out
			if h.now < h.joinPauses[h.joinAt].until {
				continue
			}
			p := h.peer(m.Node)
			if m.State != Out || !h.ripe(p) || !h.answers(p) {
				continue
			}
			h.job = &join{h: h, region: h.joinAt, node: m.Node, inc: p.inc, slot: i, copies: map[*copyRun]bool{}}
			h.propose(ChangeJoin, []blocktree.NodeID{m.Node}, h.joinAt, p.inc)
			return true
		}
		h.joinAt++
	}
	if !out {
		h.allIn = h.layout.Seq
	}
	return false
}

// ripe reports whether a node that is out has been up long enough; each further failure since it last joined doubles that time.
func (h *Holder) ripe(p *peer) bool {
	return p.up && h.now-p.upSince >= h.joinDelay<<min(max(p.failures-1, 0), 6)
}

// answers reports whether a node that is out has answered anything lately, and asks it if not: writes wait for a joiner,
// so one that hangs must not become one.
func (h *Holder) answers(p *peer) bool {
	if p.probed && p.probedAt >= p.upSince && h.now-p.probedAt < h.memberTimeout {
		return true
	}
	if p.probe == nil || p.probe.gone {
		p.probe = &call{peer: p, owner: probeCall{h}, msg: h.message(KindLearn, p)}
		h.post(p.probe)
	}
	return false
}

// probeCall owns a question to a node that is out; any answer will do.
type probeCall struct{ h *Holder }

func (q probeCall) onSlow(*call) {}

func (q probeCall) onAnswer(c *call, _ *Message) {
	c.peer.probed, c.peer.probedAt = true, q.h.now
	q.h.joinNot, q.h.placeNot, q.h.moves.not = min(q.h.joinNot, q.h.now), min(q.h.placeNot, q.h.now), min(q.h.moves.not, q.h.now)
}

// adoptJoiner copies up a member that joins without a job, and reports whether there is one: the outcome of its change was not
// known in time, or its region was left for a while. It comes before any new join, as its region's writes wait for it, and an
// abort that it has to learn of would keep a second joiner of that region from being promoted. The comparison begins anew,
// but not the member: it is asked for the same join, so that it keeps what it refused. A late copy of a write that was
// undone since it joined would be taken otherwise, and committed by the next watermark.
func (h *Holder) adoptJoiner() bool {
	region, slot := blocktree.RegionIndex(0), -1
	for r, v := range h.layout.Own {
		if slot >= 0 && r > region || h.now < h.joinPauses[r].until || h.moves.away[r] {
			continue
		}
		if i := slices.IndexFunc(v.Members, func(m ViewMember) bool { return m.State == Joining }); i >= 0 {
			region, slot = r, i
		} else if v.Heir != 0 {
			region, slot = r, len(v.Members)
		}
	}
	if slot < 0 {
		return false
	}
	node := h.region(region).members[slot].node
	h.job = &join{
		h: h, region: region, node: node, inc: h.layout.Incarnations[node], slot: slot, copies: map[*copyRun]bool{},
		state: joinLearn,
	}
	r := h.region(region)
	h.job.seq = r.joined[slot]
	if h.mut == mutResetAgain {
		h.job.seq = h.layout.Seq
	}
	r.unready |= 1 << slot
	for _, w := range r.writes[r.head:] {
		w.answered &^= 1 << slot
		if w.slots != nil {
			h.drop(w.slot(slot).cur)
		}
	}
	h.job.pump()
	return true
}

// anyOut reports whether any host may be joined now, without looking at every region. A host that has lost all its places to
// spares stays out of what regions have in common, and in no region there is.
func (h *Holder) anyOut() bool {
	if h.allIn == h.layout.Seq {
		return false
	}
	for n, out := range h.layout.BaseOut {
		if p := h.peers[n]; out && p != nil && h.ripe(p) {
			return true
		}
	}
	for _, v := range h.layout.Own {
		for _, m := range v.Members {
			if m.State == Out && h.ripe(h.peers[m.Node]) {
				return true
			}
		}
	}
	return false
}

// refused ends a job whose change Raft did not make; where the outcome is unknown, the newest layout will tell.
func (j *join) refused(known bool) {
	if known {
		if j.state == joinPromote {
			j.state = joinDrain // asked for again under the newest view
			j.waiting = true
			return
		}
		j.end()
	}
}

func (j *join) end() {
	if j.over {
		return
	}
	j.over = true
	h := j.h
	h.vol.joins = false
	j.cmp.mine.drop(h)
	j.cmp.dropTheirs(h)
	h.region(j.region).release()
	for _, r := range slices.Clone(h.reads) {
		if q, ok := r.host.(copyHost); ok && q.c.j == j {
			r.finish(blocktree.Canceled, nil)
		}
	}
	if h.job == j {
		h.job = nil
	}
}

// viewChanged looks where the joiner is in the newest view.
func (j *join) viewChanged() {
	h := j.h
	state := h.layout.View(j.region).standing(j.node)
	switch {
	case state == Joining && j.state == joinAsked:
		j.state, j.seq = joinLearn, h.region(j.region).joined[j.slot]
		h.joinNot = 0
	case state == Joining && j.state == joinPromote && h.changeID == 0: // the change was not made
		j.state = joinDrain
	case state == InSync:
		j.count()
		j.end()
		if j.isHeir() {
			h.stats.Moved++
		}
		delete(h.joinPauses, j.region)
		r := h.region(j.region) // the next watermark tells the joiner that it is in sync, which it writes down
		r.commitDue = true
		h.markDirty(r)
		h.peer(j.node).failures = 0
		h.joinNot = 0
	case state == Out && j.state != joinAsked:
		j.end()
	case state == Out && h.changeID == 0: // the change was not made
		j.end()
	}
	if !j.over {
		j.pump()
	}
}

// pump does the next step.
func (j *join) pump() {
	h := j.h
	if j.over || j.waiting || h.fenced {
		return
	}
	r := h.region(j.region)
	switch j.state {
	case joinLearn:
		for i, p := range r.members {
			if r.all>>i&1 != 0 && p.learned < r.view.ID && h.mut != mutNoViewAck {
				return
			}
		}
		j.state, j.base = joinReset, r.mark
		m := h.regionMessage(KindReset, r, r.members[j.slot])
		m.Seq = j.seq
		if h.mut == mutNoReset {
			j.ready(&Message{})
			return
		}
		h.post(&call{peer: r.members[j.slot], owner: j, msg: m})
	case joinCopy:
		j.copy(r)
	case joinDrain:
		j.drain(r)
	}
}

// regionMessage makes a request about a region, with the watermark.
func (h *Holder) regionMessage(k MessageKind, r *hregion, p *peer) *Message {
	return &Message{
		Kind: k, Node: p.node, File: h.layout.File, Region: r.index, Epoch: h.epoch, View: r.view.ID,
		Incarnation: h.layout.Incarnations[p.node], Watermark: r.told(),
	}
}

// ready goes on when the joiner has begun anew: from now on it is sent everything above the watermark that it started
// at, also what was acknowledged without it.
func (j *join) ready(a *Message) {
	h := j.h
	r := h.region(j.region)
	r.unready &^= 1 << j.slot
	j.state = joinCopy
	j.cmp.begin(j)
	j.cmp.unbroken, j.cmp.newest = a.Held, a.Version
	for _, w := range append([]*hwrite(nil), r.writes[r.head:]...) {
		switch {
		case w.state != live:
		case h.mut == mutJoinForgets:
			w.answered |= 1 << j.slot
			w.tryFinish()
		case w.abort != nil && w.abort.final || w.aborted:
			if !w.aborted {
				w.sendAbort(j.slot, true)
			}
		default:
			w.sendAll()
		}
	}
	r.advance()
	j.pump()
}

func (j *join) onSlow(*call) {}

// onAnswer takes the answers to all that a copy-up asks, but for reads and installs.
func (j *join) onAnswer(c *call, a *Message) {
	first := c.msg.Kind == KindReset || c.msg.Kind == KindForget
	switch {
	case j.over:
	case first && a.Err != blocktree.Other:
		j.h.failedAnswer(c, a)
	case c.msg.Kind == KindReset:
		j.ready(a)
	case c.msg.Kind == KindForget:
		j.forgotten()
	default:
		j.heard(c, a)
	}
}

// distrust makes a joiner forget what it has committed: it has what the view never had, or cannot read its index. What is
// being installed may go on: what is lost of it is found missing.
func (j *join) distrust() {
	h := j.h
	p := h.peer(j.node)
	if j.forgot && j.isHeir() {
		h.sendAway(j.region)
		return
	}
	if j.forgot { // and still it is so: it has to leave and come back
		p.gone = true
		h.considerRemoval()
		return
	}
	h.stats.Forgotten++
	j.forgot, j.state, j.todo = true, joinForget, nil
	j.cmp.begin(j)
	m := h.regionMessage(KindForget, h.region(j.region), p)
	m.Seq = j.seq
	h.post(&call{peer: p, owner: j, msg: m})
}

// grown begins the comparison again where the region has more sectors than in the layout before: how far an answer to it goes would make no sense. What
// is being installed goes on.
func (j *join) grown(old *Layout) {
	_, was := old.Run(j.region)
	if _, is := j.h.layout.Run(j.region); is != was && j.state == joinCopy {
		j.todo = nil
		j.cmp.begin(j)
	}
}

// forgotten begins the comparison again. What the joiner was told to commit before it forgot is at or below the watermark by
// now, and no longer counts as sent.
func (j *join) forgotten() {
	if j.h.mut != mutForgetBase {
		j.base = j.h.region(j.region).mark
	}
	j.state = joinCopy
	j.cmp.begin(j)
	j.pump()
}

// copy keeps runs in flight and compares on while there is room, and asks for the promotion at the end.
func (j *join) copy(r *hregion) {
	h := j.h
	if h.mut == mutNoResync {
		j.cmp.done, j.todo = true, nil
	}
	for len(j.todo) > 0 && len(j.copies) < j.window() && h.now >= j.rest && !j.waiting {
		x := j.todo[0]
		j.todo = j.todo[1:]
		j.begin(r, x)
	}
	if len(j.todo) < installsMax && !j.waiting && !j.over && j.state == joinCopy {
		j.cmp.pump(j, r)
	}
	idle := len(j.copies) == 0 || h.mut == mutPromoteEarly
	if j.state == joinCopy && j.cmp.done && len(j.todo) == 0 && idle && !j.over {
		j.state = joinDrain
		j.drain(r)
	}
}

// drain asks for the promotion once no reader can have seen, nor can come to see, a version that the joiner does not hold:
// a pending one that every in-sync member holds is readable, and after the promotion a take-over asks the joiner too. So
// from now on one in-sync member gets a write only when the joiner has answered; and the promotion waits until the joiner
// has all that went to every in-sync member before.
func (j *join) drain(r *hregion) {
	h := j.h
	if r.sync == 0 || h.changeID != 0 || h.changeNot || h.moves.away[j.region] {
		return
	}
	if h.mut != mutPromoteBlind {
		r.withheld, r.heldFor = r.sync&-r.sync, 1<<j.slot
		for _, w := range r.writes[r.head:] {
			if w.state == live && !w.aborted && w.answered&r.heldFor == 0 && r.sync&^w.sent == 0 && h.mut != mutJoinNoWait {
				return
			}
		}
	}
	if !h.hasFlushed(r, j.slot) {
		return
	}
	j.state = joinPromote
	h.propose(ChangePromote, []blocktree.NodeID{j.node}, j.region, j.inc)
}
