package stripe

import (
	"time"

	"blocktree"
)

// installsMax bounds the runs of a copy-up that are read or installed at a time.
const installsMax = 8

// window is how many runs of the copy-up may be in flight: the more foreground operations are unfinished, the fewer.
func (j *join) window() int {
	switch n := j.h.foreground(); {
	case j.busy:
		return 1
	case n == 0:
		return installsMax
	case n == 1:
		return installsMax / 2
	case n <= foregroundFew:
		return installsMax / 4
	}
	return 1
}

// foregroundFew is up to how many unfinished operations do not yet keep the members busy.
const foregroundFew = 4

// More than foregroundMuch operations done while one run was on its way, less than foregroundApart from one another, keep the members
// busy, however few are unfinished at a time: a client on a full machine, or one that waits for each answer, has its requests in queues
// above.
const (
	foregroundMuch  = 8
	foregroundApart = 10 * time.Millisecond
)

// foreground counts the operations that somebody waits for.
func (h *Holder) foreground() int {
	n := len(h.queue) - h.qhead + len(h.reads)
	if h.job != nil {
		n -= h.job.reading
	}
	return n
}

// pause lets the foreground have the members to itself for as long as a run took, but not for ever.
func (j *join) pause(c *copyRun) {
	h := j.h
	done := h.served() - c.served
	j.busy = h.foreground() > foregroundFew || done > foregroundMuch && h.now-c.at < time.Duration(done)*foregroundApart
	if j.busy {
		j.rest = h.now + min(h.now-c.at, h.memberTimeout/4)
	}
}

// served counts the operations of the foreground that are done.
func (h *Holder) served() uint64 { return h.stats.WritesDone + h.stats.ReadsDone }

// count says what kind of copy-up it was.
func (j *join) count() {
	st := &j.h.stats
	switch {
	case j.cmp.unchanged:
		st.Unchanged++
	case j.skipped > 0 && j.copied > 0 && !j.forgot:
		st.Incremental++
	}
}

// copyRun is one run on its way to the joiner: a read, then an install of each piece of it.
type copyRun struct {
	j      *join
	x      Extent
	read   *read
	left   int           // installs not yet answered
	at     time.Duration // when it began
	served uint64        // what had been served then
	// careful: the shards of as many members as were needed did not agree, or one alone would have to be believed: all are read.
	careful bool
}

func (j *join) begin(r *hregion, x Extent) {
	h := j.h
	c := &copyRun{j: j, x: x, at: h.now, served: h.served()}
	j.copies[c] = true
	if x.Kind == Zero {
		c.send(Piece{First: x.First, Count: x.Count, Version: x.Version, Kind: Zero}, nil, nil)
		return
	}
	c.careful = h.layout.Code.Data == 1
	c.ask()
}

func (c *copyRun) ask() {
	h := c.j.h
	c.read = &read{
		c: &h.core, host: copyHost{c}, region: c.j.region, first: c.x.First, count: c.x.Count, skip: -1, started: h.now, settledOnly: true,
		everyone: h.mut != mutCompareOne, all: c.careful && h.mut != mutCompareOne,
	}
	h.reads = append(h.reads, c.read)
	c.j.reading++
	c.read.start()
}

// send installs what was rebuilt.
func (c *copyRun) send(p Piece, payload, seals []byte) {
	h := c.j.h
	to := h.peer(c.j.node)
	c.left++
	c.j.copied += uint64(p.Count)
	h.stats.CopiedSectors += uint64(p.Count)
	h.stats.CopiedBytes += uint64(len(payload) + len(seals))
	m := h.installMessage(c.j.region, to, c.j.shard(), p, payload, seals)
	h.post(&call{peer: to, owner: c, msg: m})
}

func (c *copyRun) onSlow(*call) {}

func (c *copyRun) onAnswer(x *call, a *Message) {
	h := c.j.h
	switch {
	case c.j.over:
	case a.Err == blocktree.NoSpace && c.j.isHeir():
		h.noRoom(x.peer, c.j.region)
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
		c.j.pause(c)
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
// not goes to the joiner as any write does. So does what is not stable (0014).
type copyHost struct{ c *copyRun }

func (q copyHost) settled(i blocktree.RegionIndex, v blocktree.Version) bool {
	return q.c.j.h.settled(i, v) && q.c.j.h.mayInstall(i, v)
}
func (q copyHost) watermark(i blocktree.RegionIndex) blocktree.Version { return q.c.j.h.watermark(i) }
func (q copyHost) undecided(*read)                                     {}               // settledOnly
func (q copyHost) leaving(*read) bool                                  { return false } // settledOnly
func (q copyHost) begin(r *read)                                       { q.c.j.h.begin(r) }
func (q copyHost) possible(i blocktree.RegionIndex, v blocktree.Version) bool {
	return q.c.j.h.possible(i, v)
}
func (q copyHost) premature(i blocktree.RegionIndex, v blocktree.Version) bool {
	return q.c.j.h.premature(i, v)
}
func (q copyHost) accuse(s Suspect) bool { return q.c.j.h.accuse(s) }
func (q copyHost) refused(r *read, c *call, err blocktree.Kind) bool {
	return q.c.j.h.refused(r, c, err)
}

func (q copyHost) finished(r *read, err blocktree.Kind, res *ReadResult) {
	c := q.c
	h := c.j.h
	h.unlist(r)
	c.j.reading--
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
		if bytes[i].payload, bytes[i].seals, e = h.codec.Rebuild(c.j.shard(), p); e != nil {
			if c.careful {
				c.again()
				return
			}
			c.careful = true
			c.ask()
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
