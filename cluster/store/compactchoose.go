package store

import "time"

// What is emptied next, and from when on (docs/design/0046-writes.md). Nothing here looks at a disk or a clock.

const (
	// hurryPercent is how far below Options.SpacePercent compaction begins while somebody writes, and hurrySegments the same in segments, as what
	// a segment takes is given back all at once: the more is left to die by itself, the less is copied.
	hurryPercent  = 3
	hurrySegments = 2
	// compactIdle is how long nothing must have been appended for the store to be emptied down to compactRoom below that.
	compactIdle = 2 * time.Second
)

// candidate is a segment that may be emptied.
type candidate struct {
	number uint32
	bytes  int64 // of its file
	live   int64 // of these; less
}

// share is how much of it is live, in percent.
func (c candidate) share() int64 { return c.live * 100 / c.bytes }

// worth is what emptying a segment gives for what it costs, times its age: free space for reading all and writing what is live, as Rosenblum and
// Ousterhout have it for their log-structured file system. What is dead in an old segment is all that will be soon; more of
// a young one is about to die without being copied. next is the number of the next segment that is made, and a segment's age how many were made after it:
// that is of when it was written, copies too, and holds across starts.
func (c candidate) worth(next uint32) float64 {
	return float64(c.bytes-c.live) * float64(next-c.number) / float64(c.bytes+c.live)
}

// candidates finds the one to empty among those that it is shown.
type candidates struct {
	next     uint32
	emptiest candidate // frees the most for what is copied now
	best     candidate // the most worth, so that least is copied in the long run
}

// see shows it one.
func (cs *candidates) see(c candidate) {
	share := c.share()
	if share >= victimPercent {
		return
	}
	if cs.best.number == 0 || c.worth(cs.next) > cs.best.worth(cs.next) {
		cs.best = c
	}
	if cs.emptiest.number == 0 || share < cs.emptiest.share() {
		cs.emptiest = c
	}
}

// pick returns one; its number is 0 where there is none. In a hurry, when space is scarce or somebody waits, it is what gives space soonest.
func (cs *candidates) pick(hurry bool) candidate {
	if hurry {
		return cs.emptiest
	}
	return cs.best
}

// beginPercent is how much segments take of what is live in them when the first is emptied.
func beginPercent(live int64, o Options, idle bool) int64 {
	room := int64(compactRoom)
	if !idle && live > 0 {
		room = min(room, max(hurryPercent, (hurrySegments*o.SegmentBytes*100+live-1)/live))
	}
	return o.SpacePercent - room
}

// idleness knows since when nothing was appended.
type idleness struct {
	sequence uint64
	since    time.Time
}

// seen tells it up to where the log reaches, and asks whether that has been so for compactIdle.
func (i *idleness) seen(sequence uint64, now time.Time) bool {
	if sequence != i.sequence || i.since.IsZero() {
		i.sequence, i.since = sequence, now
	}
	return now.Sub(i.since) >= compactIdle
}
