package stripe

import (
	"bytes"
	"math/bits"

	"blocktree"
)

// compare finds what a joiner lacks of its region: blocks whose digests differ from those of a member in sync, and of these
// the sectors that do. Both are asked at the same time: whatever is newer than the watermark that both are told goes to the
// joiner as any write does.
type compare struct {
	first, end blocktree.SectorIndex // the region
	next       blocktree.SectorIndex // compared up to here
	upTo       blocktree.SectorIndex // where next will be once blocks are done
	blocks     []block               // that differ
	mine       question              // to the joiner
	theirs     question              // to a member in sync
	failed     int                   // sources that did not answer well
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
	c.theirs.drop(j.h)
	first, count := j.h.layout.Run(j.region)
	*c = compare{first: first, end: first + blocktree.SectorIndex(count), next: first, failed: c.failed}
}

// pump asks the next question, unless one is open.
func (c *compare) pump(j *join, r *hregion) {
	if c.done || c.mine.isOpen() || c.theirs.isOpen() {
		return
	}
	h := j.h
	src := c.source(r)
	if src < 0 {
		j.waiting = true
		return
	}
	c.mine, c.theirs = question{}, question{}
	ask := func(slot int, q *question, kind MessageKind, first blocktree.SectorIndex, count uint64) *Message {
		m := h.regionMessage(kind, r, r.members[slot])
		m.First, m.Count = first, count
		q.call = &call{peer: r.members[slot], owner: j, msg: m}
		return m
	}
	switch {
	case c.unbroken:
		m := ask(src, &c.theirs, KindDigest, c.first, h.digestSectors)
		m.Held, m.Version = true, c.newest
	case len(c.blocks) > 0:
		b := c.blocks[0]
		ask(src, &c.theirs, KindList, b.at, uint64(b.end-b.at))
		if !b.empty {
			ask(j.slot, &c.mine, KindList, b.at, uint64(b.end-b.at))
		}
	default:
		ask(src, &c.theirs, KindDigest, c.next, h.digestSectors)
		ask(j.slot, &c.mine, KindDigest, c.next, h.digestSectors)
	}
	for _, q := range []*question{&c.theirs, &c.mine} {
		if q.call != nil {
			h.post(q.call)
		}
	}
}

// source chooses the in-sync member to compare with, another one after each that failed.
func (c *compare) source(r *hregion) int {
	var up []int
	for to := r.sync; to != 0; to &= to - 1 {
		if i := bits.TrailingZeros32(to); r.members[i].up {
			up = append(up, i)
		}
	}
	if len(up) == 0 {
		return -1
	}
	return up[c.failed%len(up)]
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
	case x == c.theirs.call && a.Err != blocktree.Other:
		c.retry(j)
		c.failed++
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
	case x == c.theirs.call:
		c.theirs.ans = a
	default:
		return
	}
	if c.mine.isOpen() || c.theirs.isOpen() || c.theirs.ans == nil || c.mine.call != nil && c.mine.ans == nil {
		return
	}
	mine, theirs := c.mine.ans, c.theirs.ans
	ok := true
	switch {
	case c.unbroken:
		c.takeUnchanged(j, theirs.Held)
	case len(c.blocks) > 0:
		ok = c.takeLists(j, mine, theirs)
	default:
		ok = c.takeDigests(j, mine, theirs)
	}
	if !ok { // it makes no sense, or no progress
		c.retry(j)
		c.failed++
		j.vain()
		return
	}
	j.tries = 0
	j.pump()
}

// retry asks again at the next Tick.
func (c *compare) retry(j *join) {
	c.mine.drop(j.h)
	c.theirs.drop(j.h)
	j.waiting = true
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
func (c *compare) takeDigests(j *join, mine, theirs *Message) bool {
	size := blocktree.SectorIndex(j.h.digestSectors)
	for _, a := range []*Message{mine, theirs} {
		if a.Next <= c.next || a.Next > c.end || a.Next < c.end && (a.Next-c.first)%size != 0 ||
			uint64(len(a.Payload)) != DigestBytes*((uint64(a.Next-c.next)+uint64(size)-1)/uint64(size)) {
			return false
		}
	}
	c.upTo = min(mine.Next, theirs.Next)
	empty := emptyDigest()
	for at, i := c.next, 0; at < c.upTo; at, i = at+size, i+DigestBytes {
		b := block{at: at, end: min(at+size, c.upTo), empty: bytes.Equal(mine.Payload[i:i+DigestBytes], empty[:])}
		switch {
		case !bytes.Equal(mine.Payload[i:i+DigestBytes], theirs.Payload[i:i+DigestBytes]):
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

// takeLists compares what both have listed of the first block, as far as both went.
func (c *compare) takeLists(j *join, mine, theirs *Message) bool {
	b := &c.blocks[0]
	to := theirs.Next
	var xs []Extent
	if !b.empty {
		if !wellListed(mine, b) {
			return false
		}
		to, xs = min(to, mine.Next), mine.Extents
	}
	if !wellListed(theirs, b) {
		return false
	}
	d := difference{j: j, mine: xs, theirs: theirs.Extents}
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

// difference walks over what a joiner and a member in sync have of the same sectors.
type difference struct {
	j            *join
	mine, theirs []Extent
	out          []Extent // to be copied
	same         uint64   // sectors
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
		y, yEnd := cover(&d.theirs, at, end)
		to := min(xEnd, yEnd)
		good := x.Kind == Data || x.Kind == Zero
		if y.Kind == Damaged { // whoever has a good one will be read
			y.Kind = Data
		}
		switch {
		case x.Version == y.Version && (x.Kind == y.Kind || x.Kind == Damaged && y.Kind == Data):
			if y.Kind != Absent && good {
				d.same += uint64(to - at)
			} else if y.Kind != Absent {
				d.j.h.stats.Misplaced += uint64(to - at)
				d.copy(y, at, to)
			}
		case d.j.has(x.Version) && d.j.h.settled(d.j.region, x.Version), d.j.has(y.Version) && !y.Version.Less(x.Version):
		case !x.Version.Less(y.Version):
			return false
		default:
			d.copy(y, at, to)
		}
		at = to
	}
	return true
}

func (d *difference) copy(y Extent, at, to blocktree.SectorIndex) {
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
