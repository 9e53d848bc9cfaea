package store

import (
	"math"
	"testing"
	"time"

	"blocktree/internal/vfs"
)

// TestStatsOfSyncs: each sync is timed, and what is written and not synced is volatile until the next one.
func TestStatsOfSyncs(t *testing.T) {
	disk, s, lazy := lazyStore(t, Options{SegmentBytes: 1 << 20})
	disk.SetCapacity(64 << 20)
	_, written := lazy()
	await(t, "lazy record", written)
	for s.Stats().VolatileBytes == 0 { // the call-back comes before its group is counted
		time.Sleep(time.Millisecond)
	}
	done := make(chan error, 1)
	if err := s.Sync(func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	await(t, "sync", done)
	x := s.Stats()
	if x.VolatileBytes != 0 || x.Syncs == 0 || x.SyncTimes.Count() != x.Syncs || x.Failed || x.MakingRoom || x.NoSpace != 0 {
		t.Errorf("after a sync: %+v", x)
	}
	free, size := s.Space()
	if size != 64<<20 || free <= 0 || free >= size {
		t.Errorf("%d of %d bytes are free", free, size)
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
}

// TestStatsOfFailure: a disk that failed is told, and one whose size nobody knows has no end.
func TestStatsOfFailure(t *testing.T) {
	disk := vfs.NewCrash()
	if err := Create(disk, testDir, testID, Options{}); err != nil {
		t.Fatal(err)
	}
	fault := vfs.NewFault(disk)
	s, err := Open(fault, testDir, testID, Options{}, new(recorder))
	if err != nil {
		t.Fatal(err)
	}
	if _, size := s.Space(); size != math.MaxInt64 {
		t.Errorf("it ends at %d", size)
	}
	fault.Inject(vfs.Injection{Op: vfs.FaultSync, Name: segmentPrefix})
	done := make(chan error, 1)
	_, err = s.Append([]Record{dataRecord(testFile, 1, 1, 512, version(1))}, func(err error) { done <- err })
	if err == nil {
		err = <-done
	}
	if err == nil {
		t.Fatal("it did not fail")
	}
	if !s.Stats().Failed {
		t.Error("a store that failed does not say so")
	}
	_ = s.Close(nil) // it has failed
}
