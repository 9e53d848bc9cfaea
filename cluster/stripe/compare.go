package stripe

import (
	"bytes"
	"math/bits"
	"slices"

	"blocktree"
)

// compare finds what a joiner lacks of its region: blocks whose digests differ from those of any member in sync, and of these
// the sectors that do. All are asked, as one of them may have silently gone back to where the joiner is, and at the same time: whatever is newer than the watermark that both are told goes to the
// joiner as any write does.
type compare struct {
	first, end blocktree.SectorIndex // the region
	next       blocktree.SectorIndex // compared up to here
	upTo       blocktree.SectorIndex // where next will be once blocks are done
	blocks     []block               // that differ
	mine       question              // to the joiner
	theirs     []question            // to the members in sync
	bad        uint32                // slots of sources that did not answer well
	done       bool

	unbroken  bool // the joiner has missed nothing up to newest
	newest    blocktree.Version
	unchanged bool // nor is there anything newer
}

// block is a run of sectors whose digests differ.
type block struct {
	at, end blocktree.SectorIndex // compared up to at
	empty   bool                  // the joiner has nothing there
}

// question is what one member is asked, and what it answered.
type question struct {
	call *call
	ans  *Message
}

func (q *question) drop(h *Holder) {
	h.drop(q.call)
	*q = question{}
}

func (q *question) isOpen() bool { return q.ans == nil && q.call != nil && !q.call.gone }

// begin starts at the beginning of the region.
func (c *compare) begin(j *join) {
	c.mine.drop(j.h)
	c.dropTheirs(j.h)
	first, count := j.h.layout.Run(j.region)
	*c = compare{first: first, end: first + blocktree.SectorIndex(count), next: first, bad: c.bad}
}

// pump asks the next question, unless one is open.
func (c *compare) pump(j *join, r *hregion) {
	h := j.h
	if slices.ContainsFunc(c.theirs, func(q question) bool { return q.isOpen() && q.call.slow && !q.call.peer.up }) { // it may not be free to leave
		c.mine.drop(h)
		c.dropTheirs(h)
	}
	if c.done || c.mine.isOpen() || slices.ContainsFunc(c.theirs, func(q question) bool { return q.isOpen() }) {
		return
	}
	from := c.sources(j, r)
	if from == 0 {
		j.waiting = true
		return
	}
	c.mine, c.theirs = question{}, nil
	kind, first, count := KindDigest, c.next, h.digestSectors
	mine := true
	switch {
	case c.unbroken:
		first, mine = c.first, false
	case len(c.blocks) > 0:
		b := c.blocks[0]
		kind, first, count, mine = KindList, b.at, uint64(b.end-b.at), !b.empty
	}
	ask := func(slot int) question {
		m := h.regionMessage(kind, r, r.members[slot])
		m.First, m.Count = first, count
		if c.unbroken {
			m.Held, m.Version = true, c.newest
		}
		return question{call: &call{peer: r.members[slot], owner: j, slot: slot, msg: m}}
	}
	for ; from != 0; from &= from - 1 {
		c.theirs = append(c.theirs, ask(bits.TrailingZeros32(from)))
	}
	for i := range c.theirs {
		h.post(c.theirs[i].call)
	}
	if mine {
		c.mine = ask(j.slot)
		h.post(c.mine.call)
	}
}

// sources are the slots of those to compare with: who is in sync, can be reached, and has answered well. If nobody has, all are
// asked again.
func (c *compare) sources(j *join, r *hregion) (from uint32) {
	for to := r.sync; to != 0; to &= to - 1 {
		if i := bits.TrailingZeros32(to); r.members[i].up {
			from |= 1 << i
		}
	}
	if from&^c.bad == 0 {
		c.bad = 0
	}
	if from &^= c.bad; j.h.mut == mutCompareOne {
		from &= -from
	}
	return from
}

func (c *compare) dropTheirs(h *Holder) {
	for i := range c.theirs {
		c.theirs[i].drop(h)
	}
	c.theirs = nil
}

// heard takes an answer, and goes on when there is none to wait for.
func (j *join) heard(x *call, a *Message) {
	c := &j.cmp
	switch {
	case x == c.mine.call && a.Err == blocktree.Corrupt: // a page of its index is damaged
		j.distrust()
		return
	case x == c.mine.call && a.Err != blocktree.Other:
		j.h.failedAnswer(x, a)
		return
	case c.isSource(x) && a.Err != blocktree.Other:
		c.retry(j)
		c.bad |= 1 << x.slot
		switch a.Err {
		case blocktree.IO:
			x.peer.gone = true
			j.h.considerRemoval()
		case blocktree.Corrupt: // a page of its index is damaged
			j.vain()
		}
		return
	case x == c.mine.call:
		c.mine.ans = a
	case c.isSource(x):
		c.theirs[slices.IndexFunc(c.theirs, func(q question) bool { return q.call == x })].ans = a
	default:
		return
	}
	if c.mine.call != nil && c.mine.ans == nil {
		return
	}
	mine := c.mine.ans
	theirs := make([]*Message, len(c.theirs))
	for i := range c.theirs {
		if theirs[i] = c.theirs[i].ans; theirs[i] == nil {
			return
		}
	}
	ok := true
	switch {
	case c.unbroken:
		c.takeUnchanged(j, !slices.ContainsFunc(theirs, func(a *Message) bool { return !a.Held }))
	case len(c.blocks) > 0:
		ok = c.takeLists(j, mine, theirs)
	default:
		ok = c.takeDigests(j, mine, theirs)
	}
	if !ok { // it makes no sense, or no progress
		c.retry(j)
		j.vain()
		return
	}
	j.tries = 0
	j.pump()
}

// retry asks again at the next Tick.
func (c *compare) retry(j *join) {
	c.mine.drop(j.h)
	c.dropTheirs(j.h)
	j.waiting = true
}

// isSource reports whether a call is the newest question to a member in sync.
func (c *compare) isSource(x *call) bool {
	return slices.ContainsFunc(c.theirs, func(q question) bool { return q.call == x })
}

func (c *compare) takeUnchanged(j *join, unchanged bool) {
	c.unbroken = false
	if unchanged {
		c.unchanged = true
		c.skip(j, uint64(c.end-c.next))
		c.next, c.done = c.end, true
	}
}

// skip counts sectors that the joiner has as the view has them.
func (c *compare) skip(j *join, sectors uint64) {
	j.skipped += sectors
	j.h.stats.SkippedSectors += sectors
}

// moveOn goes to the next blocks once those that differ are listed.
func (c *compare) moveOn(j *join) {
	if len(c.blocks) == 0 {
		j.h.stats.ComparedSectors += uint64(c.upTo - c.next)
		c.next = c.upTo
		c.done = c.next >= c.end
	}
}

// takeDigests notes the blocks that differ.
func (c *compare) takeDigests(j *join, mine *Message, theirs []*Message) bool {
	size := blocktree.SectorIndex(j.h.digestSectors)
	c.upTo = c.end
	good := func(a *Message) bool { // who has heard that the file grew goes on behind the end that is known here
		return a.Next > c.next && (a.Next >= c.end || (a.Next-c.first)%size == 0) &&
			uint64(len(a.Payload)) == DigestBytes*((uint64(a.Next-c.next)+uint64(size)-1)/uint64(size))
	}
	if !good(mine) || c.nonsense(j, theirs, good) {
		return false
	}
	for _, a := range append([]*Message{mine}, theirs...) {
		c.upTo = min(c.upTo, a.Next)
	}
	empty := emptyDigest()
	for at, i := c.next, 0; at < c.upTo; at, i = at+size, i+DigestBytes {
		b := block{at: at, end: min(at+size, c.upTo), empty: bytes.Equal(mine.Payload[i:i+DigestBytes], empty[:])}
		switch {
		case slices.ContainsFunc(theirs, func(a *Message) bool {
			return !bytes.Equal(mine.Payload[i:i+DigestBytes], a.Payload[i:i+DigestBytes])
		}):
			if j.h.mut != mutPromoteDiffering {
				c.blocks = append(c.blocks, b)
			}
		case !b.empty:
			c.skip(j, uint64(b.end-b.at))
		}
	}
	c.moveOn(j)
	return true
}

// takeLists compares what all have listed of the first block, as far as all went.
func (c *compare) takeLists(j *join, mine *Message, theirs []*Message) bool {
	b := &c.blocks[0]
	d := difference{j: j}
	to := b.end
	if !b.empty {
		if !wellListed(mine, b) {
			return false
		}
		to, d.mine = min(to, mine.Next), mine.Extents
	}
	if c.nonsense(j, theirs, func(a *Message) bool { return wellListed(a, b) && j.mayBeListed(a) }) {
		return false
	}
	for _, a := range theirs {
		to, d.theirs = min(to, a.Next), append(d.theirs, a.Extents)
	}
	if !d.walk(b.at, to) && j.h.mut != mutKeepForeign {
		j.distrust()
		return true
	}
	c.skip(j, d.same)
	for _, x := range d.out {
		j.add(x)
	}
	if b.at = to; b.at >= b.end {
		c.blocks = c.blocks[1:]
	}
	c.moveOn(j)
	return true
}

// nonsense goes on without members whose answers are no good, while there are others, and reports whether there is one.
func (c *compare) nonsense(j *join, theirs []*Message, good func(*Message) bool) (found bool) {
	for i, a := range theirs {
		if !good(a) {
			x := c.theirs[i].call
			c.bad |= 1 << x.slot
			j.h.accuse(Suspect{Node: x.peer.node, Kind: SuspectNonsense, File: x.msg.File, First: x.msg.First, Count: 1})
			found = true
		}
	}
	return found
}

// wellListed refuses lists that are not in order, go beyond the block, or make no progress.
func wellListed(a *Message, b *block) bool {
	if a.Next <= b.at || a.Next > b.end {
		return false
	}
	at := b.at
	for i := range a.Extents {
		x := &a.Extents[i]
		if x.Kind == Absent || x.Kind > Damaged || x.Pending || x.Count == 0 || x.First < at || x.First >= b.end ||
			uint64(x.Count) > uint64(b.end-x.First) {
			return false
		}
		at = x.First + blocktree.SectorIndex(x.Count)
	}
	return true
}

// mayBeListed reports whether what a member lists as committed can be, as far as the holder knows.
func (j *join) mayBeListed(a *Message) bool {
	return j.h.mut == mutListAny || !slices.ContainsFunc(a.Extents, func(x Extent) bool { return !j.h.possible(j.region, x.Version) || j.h.premature(j.region, x.Version) })
}

// difference walks over what a joiner and the members in sync have of the same sectors.
type difference struct {
	j      *join
	mine   []Extent
	theirs [][]Extent
	out    []Extent // to be copied
	same   uint64   // sectors
	unlike bool     // the members in sync do not agree on what was asked for last
}

// newest is what the view has of sector s, and how far that goes: the newest version that k members in sync have, as fewer cannot give it; if no
// k agree, the newest of all. One that is damaged is there: whoever has a good one will be read.
func (d *difference) newest(s, end blocktree.SectorIndex) (y Extent, to blocktree.SectorIndex) {
	to = end
	var few [8]Extent
	xs := few[:0]
	for i := range d.theirs {
		x, xEnd := cover(&d.theirs[i], s, end)
		if x.Kind == Damaged {
			x.Kind = Data
		}
		xs, to = append(xs, x), min(to, xEnd)
	}
	agreed := false
	for _, x := range xs {
		n := 0
		for _, z := range xs {
			if z.Version == x.Version {
				n++
			}
		}
		if enough := n >= d.j.h.layout.Code.Data; enough && !agreed || enough == agreed && y.Version.Less(x.Version) {
			y, agreed = x, enough
		}
	}
	d.unlike = slices.ContainsFunc(xs, func(x Extent) bool { return x.Version != y.Version || x.Kind != y.Kind })
	return y, to
}

// cover returns the extent that covers sector s, Absent if none does, and how far that goes. *xs moves on.
func cover(xs *[]Extent, s, end blocktree.SectorIndex) (Extent, blocktree.SectorIndex) {
	for len(*xs) > 0 {
		x := (*xs)[0]
		last := x.First + blocktree.SectorIndex(x.Count)
		switch {
		case last <= s:
			*xs = (*xs)[1:]
			continue
		case x.First > s:
			return Extent{}, min(end, x.First)
		}
		return x, min(end, last)
	}
	return Extent{}, end
}

// walk goes from sector at to end; it reports false if the joiner has what the view never had.
func (d *difference) walk(at, end blocktree.SectorIndex) bool {
	for at < end {
		x, xEnd := cover(&d.mine, at, end)
		y, yEnd := d.newest(at, end)
		to := min(xEnd, yEnd)
		good := x.Kind == Data || x.Kind == Zero
		switch {
		case x.Version == y.Version && (x.Kind == y.Kind || x.Kind == Damaged && y.Kind == Data):
			if y.Kind != Absent && good {
				d.same += uint64(to - at)
			} else if y.Kind != Absent {
				d.j.h.stats.Misplaced += uint64(to - at)
				d.copy(y, at, to)
			}
		case d.j.has(x.Version) && d.j.h.settled(d.j.region, x.Version), d.j.has(y.Version) && !y.Version.Less(x.Version) && (!d.unlike || d.j.h.mut == mutListAny):
		case !x.Version.Less(y.Version):
			return false
		default:
			d.copy(y, at, to)
		}
		at = to
	}
	return true
}

// copy has sectors copied. That they are zeros is not taken from members of which others say something else: a read finds out.
func (d *difference) copy(y Extent, at, to blocktree.SectorIndex) {
	if y.Kind == Zero && d.unlike && d.j.h.mut != mutCopyZeros {
		y.Kind = Data
	}
	d.out = append(d.out, Extent{First: at, Count: uint32(to - at), Version: y.Version, Kind: y.Kind})
}

// has reports whether a version goes to the joiner as any write does, so that it need not be copied, nor is it strange if
// the joiner has committed it already.
func (j *join) has(v blocktree.Version) bool {
	return v.Epoch == j.h.epoch && (v.Sequence > j.base || j.h.mut == mutSentAnyway)
}

// add puts sectors on the list of what is to be copied, together with those before where one record can hold both.
func (j *join) add(x Extent) {
	most := j.h.layout.RunSectorsMax()
	if n := len(j.todo); n > 0 {
		last := &j.todo[n-1]
		adjoins := last.First+blocktree.SectorIndex(last.Count) == x.First && last.Kind == x.Kind
		if adjoins && (x.Kind == Data && last.Count+x.Count <= most || x.Kind == Zero && last.Version == x.Version) {
			last.Count += x.Count
			return
		}
	}
	for x.Kind == Data && x.Count > most {
		head := x
		head.Count = most
		j.todo = append(j.todo, head)
		x.First += blocktree.SectorIndex(most)
		x.Count -= most
	}
	j.todo = append(j.todo, x)
}
