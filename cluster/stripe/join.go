package stripe

import (
	"math/bits"
	"slices"

	"blocktree"
)

// installsMax bounds the runs of a copy-up that are read or installed at a time.
const installsMax = 8

type joinState uint8

const (
	joinAsked   joinState = iota // the change that lets it join is with Raft
	joinLearn                    // members learn the joining view
	joinReset                    // the joiner forgets what it had
	joinCopy                     // runs are listed, rebuilt, installed
	joinDrain                    // no version may become readable before the joiner holds it
	joinPromote                  // the change that counts it in is with Raft
)

// join is the copy-up of one region to one member (rule 7, decisions 5 and 6).
type join struct {
	h      *Holder
	region blocktree.RegionIndex
	node   blocktree.NodeID
	inc    blocktree.Incarnation
	slot   int
	state  joinState
	seq    blocktree.ViewID // of the joining view

	list    *call
	next    blocktree.SectorIndex
	listed  bool
	todo    []Extent
	copies  map[*copyRun]bool // in flight; only counted, never iterated
	waiting bool              // something failed: go on at the next Tick
	tries   int               // that failed since something was installed
	over    bool
}

// considerJoin starts the next copy-up: regions in order, and of a region the members that are out in order of place.
func (h *Holder) considerJoin() {
	if h.phase != running || h.fenced {
		return
	}
	if h.job != nil {
		h.job.waiting = false
		h.job.pump()
		return
	}
	if h.changeID != 0 || h.changeNot || h.now < h.joinNot || h.codec == nil || !h.anyOut() {
		return
	}
	for n := h.layout.Regions(); n > 0; n-- {
		if h.joinAt >= h.layout.Regions() {
			h.joinAt = 0
		}
		for i, m := range h.layout.View(h.joinAt).Members {
			if h.now < h.joinPauses[h.joinAt].until {
				break
			}
			p := h.peer(m.Node)
			if m.State == Joining { // of a change whose outcome was not known in time
				h.adoptJoiner(h.joinAt, i, m.Node)
				return
			}
			if m.State != Out || !h.ripe(p) || !h.answers(p) {
				continue
			}
			h.job = &join{h: h, region: h.joinAt, node: m.Node, inc: p.inc, slot: i, copies: map[*copyRun]bool{}}
			h.propose(ChangeJoin, []blocktree.NodeID{m.Node}, h.joinAt, p.inc)
			return
		}
		h.joinAt++
	}
	h.joinNot = h.now + min(h.memberTimeout/4, max(h.joinDelay, idleCommit)) // nobody to join: look again later
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
	q.h.joinNot = min(q.h.joinNot, q.h.now)
}

// adoptJoiner copies up a member that Raft has let join although the job was given up. It forgets the region (again), as
// nothing is known of what it was sent.
func (h *Holder) adoptJoiner(region blocktree.RegionIndex, slot int, node blocktree.NodeID) {
	h.job = &join{
		h: h, region: region, node: node, inc: h.layout.Incarnations[node], slot: slot, copies: map[*copyRun]bool{},
		state: joinLearn, seq: h.layout.Seq,
	}
	r := h.region(region)
	r.unready |= 1 << slot
	for _, w := range r.writes[r.head:] {
		w.answered &^= 1 << slot
		if w.slots != nil {
			h.drop(w.slots[slot].cur)
		}
	}
	h.job.pump()
}

// anyOut reports whether any host may be joined now, without looking at every region.
func (h *Holder) anyOut() bool {
	for n, out := range h.layout.BaseOut {
		if p := h.peers[n]; out && p != nil && h.ripe(p) {
			return true
		}
	}
	for _, v := range h.layout.Own {
		for _, m := range v.Members {
			if m.State == Joining || m.State == Out && h.ripe(h.peers[m.Node]) {
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
	h.drop(j.list)
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
	v := h.layout.View(j.region)
	state := v.Members[j.slot].State
	switch {
	case state == Joining && j.state == joinAsked:
		j.state, j.seq = joinLearn, h.layout.Seq
		h.region(j.region)
		h.joinNot = 0
	case state == Joining && j.state == joinPromote && h.changeID == 0: // the change was not made
		j.state = joinDrain
	case state == InSync:
		j.end()
		delete(h.joinPauses, j.region)
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
		j.state = joinReset
		m := h.regionMessage(KindReset, r, r.members[j.slot])
		m.Seq = j.seq
		if h.mut == mutNoReset {
			j.ready()
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

// ready goes on when the joiner has forgotten the region: from now on it is sent everything above the watermark that it
// started at, also what was acknowledged without it.
func (j *join) ready() {
	h := j.h
	r := h.region(j.region)
	r.unready &^= 1 << j.slot
	first, _ := h.layout.Run(j.region)
	j.state, j.next = joinCopy, first
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

// onAnswer takes the answer to the reset and to lists.
func (j *join) onAnswer(c *call, a *Message) {
	switch {
	case j.over:
	case a.Err != blocktree.Other && c.msg.Kind == KindReset:
		j.h.failedAnswer(c, a)
	case a.Err != blocktree.Other:
		j.waiting = true
	case c.msg.Kind == KindReset:
		j.ready()
	default:
		j.take(a)
		j.pump()
	}
}

// take splits what a member listed into runs that fit one record.
func (j *join) take(a *Message) {
	first, count := j.h.layout.Run(j.region)
	end := uint64(first) + count
	bad := slices.ContainsFunc(a.Extents, func(x Extent) bool {
		return x.Kind != Data && x.Kind != Zero || x.Count == 0 || x.First < first || uint64(x.First) >= end || uint64(x.Count) > end-uint64(x.First)
	})
	if bad || uint64(a.Next) > end || a.Next <= j.next && uint64(a.Next) < end {
		j.waiting = true // it makes no sense, or no progress: ask again later
		return
	}
	most := j.h.layout.RunSectorsMax()
	for _, x := range a.Extents {
		for x.Kind == Data && x.Count > most {
			head := x
			head.Count = most
			j.todo = append(j.todo, head)
			x.First += blocktree.SectorIndex(most)
			x.Count -= most
		}
		j.todo = append(j.todo, x)
	}
	j.next = a.Next
	j.listed = uint64(a.Next) >= uint64(first)+count
}

// copy keeps the window of installs full, lists more when it runs dry, and asks for the promotion at the end.
func (j *join) copy(r *hregion) {
	h := j.h
	if h.mut == mutNoResync {
		j.listed, j.todo = true, nil
	}
	for len(j.copies) < installsMax && len(j.todo) > 0 {
		x := j.todo[0]
		j.todo = j.todo[1:]
		j.begin(r, x)
	}
	if !j.listed && len(j.todo) == 0 && (j.list == nil || j.list.gone) && !j.waiting {
		src := j.source(r)
		if src < 0 {
			j.waiting = true
			return
		}
		m := h.regionMessage(KindList, r, r.members[src])
		m.First = j.next
		j.list = &call{peer: r.members[src], owner: j, msg: m}
		h.post(j.list)
	}
	idle := len(j.copies) == 0 || h.mut == mutPromoteEarly
	if j.listed && len(j.todo) == 0 && idle {
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
	if r.sync == 0 || h.changeID != 0 || h.changeNot {
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
	j.state = joinPromote
	h.propose(ChangePromote, []blocktree.NodeID{j.node}, j.region, j.inc)
}

// source chooses the in-sync member that lists the region.
func (j *join) source(r *hregion) int {
	for to := r.sync; to != 0; to &= to - 1 {
		if i := bits.TrailingZeros32(to); r.members[i].up {
			return i
		}
	}
	return -1
}

// copyRun is one run on its way to the joiner: a read, then an install of each piece of it.
type copyRun struct {
	j    *join
	x    Extent
	read *read
	left int // installs not yet answered
}

func (j *join) begin(r *hregion, x Extent) {
	h := j.h
	c := &copyRun{j: j, x: x}
	j.copies[c] = true
	if x.Kind == Zero {
		c.send(Piece{First: x.First, Count: x.Count, Version: x.Version, Kind: Zero}, nil, nil)
		return
	}
	c.read = &read{
		c: &h.core, host: copyHost{c}, region: j.region, first: x.First, count: x.Count, skip: -1, started: h.now, settledOnly: true,
	}
	h.reads = append(h.reads, c.read)
	c.read.start()
}

// send installs what was rebuilt.
func (c *copyRun) send(p Piece, payload, seals []byte) {
	h := c.j.h
	to := h.peer(c.j.node)
	c.left++
	m := h.installMessage(c.j.region, to, blocktree.ShardIndex(c.j.slot), p, payload, seals)
	h.post(&call{peer: to, owner: c, msg: m})
}

func (c *copyRun) onSlow(*call) {}

func (c *copyRun) onAnswer(x *call, a *Message) {
	h := c.j.h
	switch {
	case c.j.over:
	case a.Err == blocktree.NoSpace: // asked again, should it have to stay for another region
		x.peer.gone = true
		h.considerRemoval()
		h.putBack(x)
	case a.Err != blocktree.Other:
		h.failedAnswer(x, a)
	default:
		h.stats.Installed++
		c.j.tries = 0
		c.left--
		c.settle()
	}
}

// settle ends the run when nothing of it is left to install.
func (c *copyRun) settle() {
	if c.left == 0 {
		delete(c.j.copies, c)
		c.j.pump()
	}
}

// again puts a run that could not be read back to the others, for the next Tick.
func (c *copyRun) again() {
	c.j.h.stats.CopyUpUnreadable++
	delete(c.j.copies, c)
	c.j.todo = append(c.j.todo, c.x)
	c.j.waiting = true
	c.j.vain()
}

// copyHost is the readHost of a copy's read. What is newer than listed is copied as it is, if it is acknowledged; what is
// not goes to the joiner as any write does.
type copyHost struct{ c *copyRun }

func (q copyHost) settled(i blocktree.RegionIndex, v blocktree.Version) bool {
	return q.c.j.h.settled(i, v)
}
func (q copyHost) watermark(i blocktree.RegionIndex) blocktree.Version { return q.c.j.h.watermark(i) }
func (q copyHost) undecided(*read)                                     {} // settledOnly
func (q copyHost) begin(r *read)                                       { q.c.j.h.begin(r) }
func (q copyHost) refused(r *read, c *call, err blocktree.Kind) bool {
	return q.c.j.h.refused(r, c, err)
}

func (q copyHost) finished(r *read, err blocktree.Kind, res *ReadResult) {
	c := q.c
	h := c.j.h
	h.unlist(r)
	if c.j.over {
		return
	}
	if err != blocktree.Other {
		c.again()
		return
	}
	h.mendDamage(r, res)
	type made struct{ payload, seals []byte }
	bytes := make([]made, len(res.Pieces))
	for i, p := range res.Pieces {
		if p.Kind != Data {
			continue
		}
		var e error
		if bytes[i].payload, bytes[i].seals, e = h.codec.Rebuild(blocktree.ShardIndex(c.j.slot), p); e != nil {
			c.again()
			return
		}
	}
	for i, p := range res.Pieces {
		if p.Kind != Absent {
			c.send(p, bytes[i].payload, bytes[i].seals)
		}
	}
	c.settle()
}
