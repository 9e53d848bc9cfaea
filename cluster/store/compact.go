package store

import (
	"math"
	"sync"
	"time"

	"blocktree"
	"blocktree/internal/vfs"
)

// When the compactor works (docs/design/0007-compaction.md, Bounds), in percent.
const (
	compactRoom   = 10 // below Options.SpacePercent, from where on there is no pause and groups wait: from here on segments are compacted, later while somebody writes (beginPercent)
	victimPercent = 95 // of a segment that are live at most: less than that is not worth copying the rest
	tightPercent  = 85 // the same, while space is scarce but not yet out
)

const (
	// compactStepBytes bounds what is copied between two looks at what else is to be done.
	compactStepBytes = 1 << 20
	// compactPause is how many times as long as its last step the compactor pauses while it is not pressed, compactPauseMax
	// at most: what one slow step took says little.
	compactPause    = 4
	compactPauseMax = 100 * time.Millisecond
	// overfullWait is how long a group waits for the compactor for each MiB of it, long enough to copy more than that.
	// overfullWaitMax is how long ago the first of it was appended at most, what it waited for the groups before included: less
	// than MemberTimeout, so that no member is voted out for it.
	overfullWait    = 250 * time.Millisecond
	overfullWaitMax = 2 * time.Second
	// compactInterval is how often the compactor looks whether there is work, if nobody wakes it.
	compactInterval = 5 * time.Second
	// usageInterval is how often it looks at all segments while it has one in hand: each look holds up what is appended.
	usageInterval = 250 * time.Millisecond
	// Free space in segments: below tightSegments the compactor works whatever the share of live bytes is, below
	// shortSegments groups wait for it: that holds the copies of four victims, which die together with the next
	// checkpoint, those made ahead, and a checkpoint.
	tightSegments = 16
	shortSegments = 10
)

// compactor copies what is live out of segments that are mostly dead. It has one goroutine; mu is held for each step, so
// that tests can look between two.
type compactor struct {
	s    *Store
	done chan struct{} // closed when it has ended

	mu     sync.Mutex
	target *segment // nil: none
	end    int64    // where the next copy goes
	victim *victim
	held   map[uint32]int64 // segments that could not be emptied: how many live sectors they had then
	buf    []byte           // copies that are not written yet
	moves  []move           // of those in buf
	seen   liveRecords      // memory for what is looked at next
	window []byte           // memory for the scan of the next victim
	idle   idleness
	used   usage // as of usedAt
	usedAt time.Time
}

func newCompactor(s *Store) *compactor {
	return &compactor{s: s, done: make(chan struct{}), held: map[uint32]int64{}}
}

// usage is what the compactor decides by. Segments that are active, allocated ahead, or the compactor's own do not count.
type usage struct {
	bytes  int64 // of segments with live sectors
	live   int64 // of these
	begin  int64 // from how many percent on segments are compacted
	victim uint32
	share  int64 // of the victim that is live, in percent
	tight  bool  // there is little free space
	short  bool  // there is less
}

// percent is how much the segments take of what is live in them.
func (u usage) percent() int64 {
	if u.live == 0 {
		return 100
	}
	return u.bytes * 100 / u.live
}

// usage looks at every segment. Appends wait for none of that but copying: with the segments of a TiB the rest takes milliseconds.
func (c *compactor) usage() usage {
	var u usage
	u.tight, u.short = c.s.spaceLeft()
	sizes, skip, durableAt := c.s.segmentSizes()
	if c.target != nil {
		skip[c.target.number] = true
	}
	next, sequence := c.s.reach()
	among := candidates{next: next}
	live, pending := c.s.pins.uses() // after durableAt: no sector before that becomes pending any more
	for _, x := range sizes {
		n, bytes, l := x.number, x.bytes, live[x.number]
		if skip[n] || l.sectors == 0 || bytes == 0 {
			continue
		}
		u.bytes += bytes
		u.live += l.bytes
		if n < durableAt && !pending[n] && c.held[n] != l.sectors {
			among.see(candidate{n, bytes, l.bytes})
		}
	}
	now := time.Now()
	u.begin = beginPercent(u.live, c.s.opts, c.idle.seen(sequence, now))
	if v := among.pick(u.tight || u.percent() >= c.s.opts.SpacePercent); v.number != 0 {
		u.victim, u.share = v.number, v.share()
	}
	c.used, c.usedAt = u, now
	return u
}

// reach returns the numbers of the segment that is made next and of the record that is appended next.
func (s *Store) reach() (segment uint32, sequence uint64) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	return s.nextSegment, s.nextSequence
}

// segmentSize is a segment's length in bytes.
type segmentSize struct {
	number uint32
	bytes  int64
}

// segmentSizes returns all segments, those of them that are active or made ahead, and where the durable checkpoint is.
func (s *Store) segmentSizes() (sizes []segmentSize, ahead map[uint32]bool, durableAt uint32) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	ahead = map[uint32]bool{s.active.number: true}
	for _, seg := range s.prepared {
		ahead[seg.number] = true
	}
	s.segs.mu.Lock()
	defer s.segs.mu.Unlock()
	sizes = make([]segmentSize, 0, len(s.segs.byNo))
	for n, seg := range s.segs.byNo {
		sizes = append(sizes, segmentSize{n, seg.bytes})
	}
	return sizes, ahead, s.durableAt
}

// spaceLeft reports whether space is running out.
func (s *Store) spaceLeft() (tight, short bool) {
	free := s.freeBytes()
	s.logMu.Lock()
	defer s.logMu.Unlock()
	short = s.short || free < shortSegments*s.opts.SegmentBytes
	return short || free < tightSegments*s.opts.SegmentBytes, short
}

// freeBytes is what segments may still take: the space that is left but for what checkpoints need, so that one can always be
// written, as nothing is freed without.
func (s *Store) freeBytes() int64 {
	fs, ok := s.fs.(vfs.Spacer)
	if !ok {
		return math.MaxInt64
	}
	free, err := fs.FreeBytes(s.dir)
	if err != nil {
		return math.MaxInt64 // the writes will tell
	}
	s.logMu.Lock()
	defer s.logMu.Unlock()
	// What the index file can still grow by, a new one, two checkpoint files: whatever the index file has grown to, this and
	// its length are together the same.
	return free - max(4*s.indexLive+s.indexSlack()-s.indexBytes, s.indexLive) - 2*s.checkpointBytes
}

// Space returns what segments may still take, and how large the disk is; math.MaxInt64 where nobody knows an end. It asks the file system.
func (s *Store) Space() (free, size int64) {
	free, size = max(s.freeBytes(), 0), math.MaxInt64
	if fs, ok := s.fs.(vfs.Sized); ok {
		if n, err := fs.SizeBytes(s.dir); err == nil {
			size = n
		}
	}
	return free, size
}

// awaitsCheckpoint reports whether what is left of little space should be left to data: what was emptied is free only when a
// checkpoint has deleted it, and until then every victim takes space.
func (c *compactor) awaitsCheckpoint(u usage) bool {
	c.s.logMu.Lock()
	deleting := c.s.checkpoints
	c.s.logMu.Unlock()
	return u.short && (deleting || c.s.pins.deadSegments() >= deadSegmentsMax)
}

// wanted reports whether u's victim should be compacted.
func (c *compactor) wanted(u usage) bool {
	if u.victim == 0 || c.awaitsCheckpoint(u) {
		return false
	}
	return u.short || u.tight && u.share < tightPercent || c.s.opts.compactEager || u.percent() >= u.begin && u.bytes-u.live > c.s.opts.SegmentBytes
}

// loop is the compactor's goroutine.
func (c *compactor) loop() {
	defer close(c.done)
	for {
		begun := time.Now()
		u, worked, err := c.ownTurn()
		if err != nil {
			c.s.setOverfull(false, false)
			c.leaveVictim()
			c.fail(err)
			return
		}
		c.judge(u, worked)
		pause := compactInterval
		if worked {
			pause = c.pause(u, time.Since(begun))
		}
		if !c.rest(pause) {
			c.s.setOverfull(false, false)
			c.leaveVictim()
			c.fail(c.finish())
			return
		}
	}
}

// judge says whether writers should wait: for the compactor, or, when little space is left, for the checkpoint that deletes
// what it emptied.
func (c *compactor) judge(u usage, worked bool) {
	dead := u.short && c.s.pins.deadSegments() > 0
	if dead && !worked {
		c.s.wantCheckpoint()
	}
	c.s.logMu.Lock()
	deleting := u.short && c.s.checkpoints
	c.s.logMu.Unlock()
	c.s.setOverfull(worked && (u.short || u.percent() >= c.s.opts.SpacePercent) || dead || deleting, u.short)
}

// ownTurn is turn, but where a test takes the turns.
func (c *compactor) ownTurn() (u usage, worked bool, err error) {
	c.mu.Lock()
	byHand := c.s.opts.compactNever
	c.mu.Unlock()
	if byHand {
		return usage{}, false, nil
	}
	return c.turn()
}

// turn does one step, if there is something to do.
func (c *compactor) turn() (u usage, worked bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.victim == nil || time.Since(c.usedAt) > usageInterval {
		u = c.usage()
	} else {
		u = c.used
		u.tight, u.short = c.s.spaceLeft()
	}
	if u.tight {
		c.s.removeRetired()
	}
	if c.victim == nil && !c.wanted(u) {
		return u, false, nil
	}
	if c.victim == nil {
		if err := c.choose(u.victim); err != nil {
			return u, false, ignore(err, blocktree.NotFound, blocktree.Closed)
		}
	}
	err = c.step()
	if blocktree.KindOf(err) == blocktree.NoSpace { // as it found none for its copies: until somebody wakes it
		c.leaveVictim()
		return u, false, nil
	}
	return u, err == nil, err
}

func ignore(err error, kinds ...blocktree.Kind) error {
	for _, k := range kinds {
		if blocktree.KindOf(err) == k {
			return nil
		}
	}
	return err
}

// pause is how long to leave the disk to others after a step.
func (c *compactor) pause(u usage, step time.Duration) time.Duration {
	if u.tight || c.s.opts.compactEager || u.percent() >= c.s.opts.SpacePercent || !c.s.busy() {
		return 0
	}
	room := c.s.opts.SpacePercent - u.begin
	left := min(c.s.opts.SpacePercent-u.percent(), room)
	return min(step*compactPause*time.Duration(left)/time.Duration(room), compactPauseMax)
}

// busy reports whether something was appended since the last call.
func (s *Store) busy() bool {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	busy := s.nextSequence != s.compactSeen
	s.compactSeen = s.nextSequence
	return busy
}

// rest waits, or until there may be more to do. It returns false when the store closes.
func (c *compactor) rest(pause time.Duration) bool {
	select {
	case <-c.s.stop:
		return false
	default:
	}
	if pause == 0 {
		return true
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-c.s.stop:
		return false
	case <-c.s.compactWake:
	case <-timer.C:
	}
	return true
}

// fail latches an error of the disk.
func (c *compactor) fail(err error) {
	if err == nil || blocktree.KindOf(err) == blocktree.Closed {
		return
	}
	c.s.logMu.Lock()
	defer c.s.logMu.Unlock()
	c.s.latch(err)
}

// setOverfull notes whether groups are to wait, and whether whoever appends data should.
func (s *Store) setOverfull(overfull, short bool) {
	s.logMu.Lock()
	before := s.makingRoom
	s.overfull, s.makingRoom = overfull, overfull && short
	made := before && !s.makingRoom
	s.syncedCond.Broadcast()
	s.logMu.Unlock()
	if made && s.opts.OnRoom != nil {
		s.opts.OnRoom()
	}
}

// MakingRoom reports that little space is left and more is about to be freed: data that is appended now may be refused with
// NoSpace, which it need not be later. Options.OnRoom says when to ask again.
func (s *Store) MakingRoom() bool {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	return s.makingRoom
}

// groupWait is how long a group of so many bytes, the first of which was appended so long ago, waits at most: groups that wait one after the
// other do not add up to more than a member may take.
func groupWait(bytes int64, age time.Duration) time.Duration {
	return min(overfullWait*time.Duration(1+bytes>>20), overfullWaitMax-age)
}

// awaitCompactor holds the committer back while the compactor cannot keep up, for a bounded time. It does not wait while a
// checkpoint waits for the log: that one will free what the compactor emptied.
func (s *Store) awaitCompactor(group *queue) {
	if len(group.items) == 0 {
		return // a sync takes no room
	}
	wait := groupWait(group.bytes, time.Since(group.calls[0].at))
	s.logMu.Lock()
	defer s.logMu.Unlock()
	if !s.overfull || wait <= 0 {
		return
	}
	over := false
	timer := time.AfterFunc(wait, func() {
		s.logMu.Lock()
		defer s.logMu.Unlock()
		over = true
		s.syncedCond.Broadcast()
	})
	defer timer.Stop()
	for s.overfull && !over && s.settled >= s.checkpointNeeds && !s.closing && s.fatal == nil {
		s.syncedCond.Wait()
	}
}
