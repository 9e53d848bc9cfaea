package store

import (
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestWritesBesideASync: while the disk syncs, what nobody waits to be durable is written and told; it is not what that sync was for.
func TestWritesBesideASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		crash := vfs.NewCrash()
		disk := vfs.NewFault(crash)
		options := Options{SegmentBytes: 1 << 20}
		if err := Create(disk, testDir, testID, options); err != nil {
			t.Fatal(err)
		}
		s, err := Open(disk, testDir, testID, options, new(recorder))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n := uint64(0)
		record := func() []Record {
			n++
			return []Record{dataRecord(testFile, blocktree.SectorIndex(n), 1, 512, version(n))}
		}
		lazy := func() (told int) {
			if _, err := s.AppendLazy(record(), func(err error) {
				if told++; err != nil {
					t.Error(err)
				}
			}); err != nil {
				t.Fatal(err)
			}
			s.WriteLazy()
			return told
		}
		synced := s.Synced()
		if lazy() != 1 {
			t.Fatal("a record is not written")
		}
		stall, syncTold, durableTold := make(chan struct{}), 0, 0
		disk.Inject(vfs.Injection{Op: vfs.FaultSync, Name: segmentPrefix, Stall: stall})
		if err := s.Sync(func(error) { syncTold++ }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range 3 {
			if lazy() != 1 {
				t.Error("a record waits for the sync of others")
			}
		}
		if syncTold != 0 || s.Synced() != synced {
			t.Errorf("told %d times, synced %d more before the disk has", syncTold, s.Synced()-synced)
		}
		close(stall)
		synctest.Wait()
		if syncTold != 1 || s.Synced() != synced+1 {
			t.Errorf("told %d times, synced %d more: one was there", syncTold, s.Synced()-synced)
		}
		got := new(recorder)
		again, err := Open(crash.Kill(), testDir, testID, options, got)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Close(nil); err != nil || len(got.records) != 4 {
			t.Errorf("a kill leaves %d records of 4: %v", len(got.records), err)
		}
		stall = make(chan struct{})
		disk.Inject(vfs.Injection{Op: vfs.FaultSync, Name: segmentPrefix, Stall: stall})
		if err := s.Sync(func(error) { syncTold++ }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := s.Append(record(), func(error) { durableTold++ }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if durableTold+syncTold != 1 {
			t.Error("a durable record is told before the disk has synced it")
		}
		close(stall)
		synctest.Wait()
		if durableTold != 1 || syncTold != 2 || s.Synced() != synced+5 {
			t.Errorf("told %d and %d times, synced %d more of 5", durableTold, syncTold, s.Synced()-synced)
		}
		if err := s.Close(nil); err != nil {
			t.Error(err)
		}
	})
}
