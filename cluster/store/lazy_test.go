package store

import (
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/vfs"
)

// await waits for a call-back, which comes at once or because of what the store does by itself.
func await(t *testing.T, what string, c <-chan error) {
	t.Helper()
	select {
	case err := <-c:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s: no call-back", what)
	}
}

// lazyStore is a store on a crash disk, and a function that appends a sector's record that nobody waits for.
func lazyStore(t *testing.T, options Options) (*vfs.Crash, *Store, func() (Ref, chan error)) {
	disk := vfs.NewCrash()
	if err := Create(disk, testDir, testID, options); err != nil {
		t.Fatal(err)
	}
	s, err := Open(disk, testDir, testID, options, new(recorder))
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	return disk, s, func() (Ref, chan error) {
		n++
		written := make(chan error, 1)
		refs, err := s.AppendLazy([]Record{dataRecord(testFile, blocktree.SectorIndex(n), 1, 512, version(n))}, func(err error) { written <- err })
		if err != nil {
			t.Fatal(err)
		}
		return refs[0], written
	}
}

// TestLazyRecordsAreNotSynced: a record that nobody waits for costs no sync; the next call that wants one makes it durable, too.
func TestLazyRecordsAreNotSynced(t *testing.T) {
	_, s, lazy := lazyStore(t, Options{SegmentBytes: 1 << 20})
	before, synced := s.Stats().Syncs, s.Synced()
	for range 5 {
		_, written := lazy()
		await(t, "lazy record", written)
	}
	if got := s.Stats().Syncs; got != before || s.Synced() != synced {
		t.Errorf("%d syncs for records that nobody waits for, synced up to %d", got-before, s.Synced()-synced)
	}
	done := make(chan error, 1)
	if err := s.Sync(func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	await(t, "sync", done)
	if s.Synced() != synced+5 || s.Stats().Syncs != before+1 {
		t.Errorf("synced %d of 5, %d syncs", s.Synced()-synced, s.Stats().Syncs-before)
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(func(error) {}); blocktree.KindOf(err) != blocktree.Closed {
		t.Errorf("a sync after Close: %v", err)
	}
}

// TestLazyRecordsAreSyncedInTime: by a checkpoint that needs them, by Close, and once the log is idle.
func TestLazyRecordsAreSyncedInTime(t *testing.T) {
	_, s, lazy := lazyStore(t, Options{SegmentBytes: 1 << 20})
	_, written := lazy()
	await(t, "lazy record", written)
	c, err := s.BeginCheckpoint([]byte("blob"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	synced := s.Synced()
	_, written = lazy()
	await(t, "lazy record", written)
	if err := s.Close([]byte("blob")); err != nil {
		t.Fatal(err)
	}
	if s.Synced() != synced+1 {
		t.Errorf("after Close the log is synced up to %d, not %d", s.Synced(), synced+1)
	}

	_, s, lazy = lazyStore(t, Options{SegmentBytes: 1 << 20, NoteAfter: time.Millisecond})
	synced = s.Synced()
	_, written = lazy()
	await(t, "lazy record", written)
	for deadline := time.Now().Add(time.Minute); s.Synced() <= synced; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("an idle log is not synced")
		}
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
}
