package store

import (
	"syscall"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestCompactorLeavesRoom: what the compactor emptied is free only after the next checkpoint, which may be a while. Until then it
// does not copy into the space that data needs.
func TestCompactorLeavesRoom(t *testing.T) {
	fs := vfs.NewCrash()
	s, opts := byHand(t, fs, forgetNothing)
	for i := range blocktree.SectorIndex(600) { // 24 segments of 25 sectors
		put(t, s, dataRecord(testFile, i, 1, 2000, version(1)))
	}
	for i := blocktree.SectorIndex(0); i < 600; i += 5 { // each a fifth dead
		put(t, s, dataRecord(testFile, i, 1, 2000, version(2)))
	}
	checkpointNow(t, s)
	waitPrepared(t, s)
	s.compactor.mu.Lock()
	s.opts.compactNever = false
	const plenty = 1 << 30
	fs.SetCapacity(fs.Used() + plenty)
	fs.SetCapacity(fs.Used() + plenty - s.freeBytes() + (shortSegments-1)*opts.SegmentBytes)
	s.compactor.mu.Unlock()
	signal(s.compactWake)
	var last uint64
	enough := func() bool { return last > 0 && s.pins.deadSegments() >= deadSegmentsMax && s.MakingRoom() }
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) { // until it comes to rest, and has not only been held up
		now := s.Stats().CompactedBytes
		if now == last && enough() {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it does not come to rest: %d bytes compacted, and %d since, %d segments dead, making room %v", last, now-last, s.pins.deadSegments(), s.MakingRoom())
		}
		last = now
	}
	if _, err := appendSync(s, dataRecord(testFile, 1000, 25, 2000, version(3))); err != nil {
		t.Errorf("the compactor left no room: %v", err)
	}
}

// TestRefusalsTakeNoNumbers: a full disk refuses for as long as it is asked; segment numbers, of which there are 2^32, must outlast that.
func TestRefusalsTakeNoNumbers(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	waitPrepared(t, s)
	fs.SetCapacity(fs.Used())
	refused := 0
	next := func() uint32 {
		s.logMu.Lock()
		defer s.logMu.Unlock()
		return s.nextSegment
	}
	before := next()
	for v := uint64(1); refused < 100 && v < 1000; v++ {
		if _, err := appendSync(s, dataRecord(testFile, blocktree.SectorIndex(v), 4, 512, version(v))); blocktree.KindOf(err) == blocktree.NoSpace {
			refused++
		}
	}
	if n := next() - before; refused < 100 || n > 1 {
		t.Errorf("%d refusals took %d numbers", refused, n)
	}
}

// TestFailedCheckpoint: after one that finds no space the next one still needs as much space as the last good one did.
func TestFailedCheckpoint(t *testing.T) {
	fs := vfs.NewFault(vfs.NewCrash())
	s, _ := openTest(t, fs, smallOptions)
	checkpointNow(t, s)
	need := s.checkpointBytes
	fs.Inject(vfs.Injection{Op: vfs.FaultWrite, Name: checkpointName, Err: syscall.ENOSPC, Times: 2})
	c, err := s.BeginCheckpoint(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); blocktree.KindOf(err) != blocktree.NoSpace {
		t.Fatal(err)
	}
	if s.checkpointBytes < need {
		t.Errorf("a checkpoint is said to need %d bytes, the last took %d", s.checkpointBytes, need)
	}
}
