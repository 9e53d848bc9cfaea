package store

import (
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
	for begun := time.Now(); time.Since(begun) < 10*time.Second && !s.MakingRoom(); {
		time.Sleep(time.Millisecond)
	}
	var last uint64
	for now := s.Stats().CompactedBytes; now == 0 || now != last; now = s.Stats().CompactedBytes { // until it comes to rest
		last = now
		time.Sleep(200 * time.Millisecond)
	}
	if last == 0 || s.pins.deadSegments() < deadSegmentsMax || !s.MakingRoom() {
		t.Errorf("%d bytes compacted, %d segments dead, making room %v", last, s.pins.deadSegments(), s.MakingRoom())
	}
	if _, err := appendSync(s, dataRecord(testFile, 1000, 25, 2000, version(3))); err != nil {
		t.Errorf("the compactor left no room: %v", err)
	}
}
