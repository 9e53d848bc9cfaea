package store

import (
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/internal/vfs"
)

// asideBed is a store whose disk takes as long to sync as the test says, in a bubble.
type asideBed struct {
	t      *testing.T
	crash  *vfs.Crash
	disk   *vfs.Fault
	s      *Store
	n      uint64 // records appended
	synced uint64 // before the first of them
}

var asideOptions = Options{SegmentBytes: 1 << 20}

func newAsideBed(t *testing.T) *asideBed {
	b := &asideBed{t: t, crash: vfs.NewCrash()}
	b.disk = vfs.NewFault(b.crash)
	if err := Create(b.disk, testDir, testID, asideOptions); err != nil {
		t.Fatal(err)
	}
	s, err := Open(b.disk, testDir, testID, asideOptions, new(recorder))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(nil) })
	synctest.Wait()
	b.s, b.synced = s, s.Synced()
	return b
}

func (b *asideBed) record() []Record {
	b.n++
	return []Record{dataRecord(testFile, blocktree.SectorIndex(b.n), 1, 512, version(b.n))}
}

// lazy writes a record that need not be durable, and returns how often that was told.
func (b *asideBed) lazy() (told int) {
	_, err := b.s.AppendLazy(b.record(), func(err error) {
		if told++; err != nil {
			b.t.Error(err)
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.s.WriteLazy()
	return told
}

// sync begins a sync that lasts until end is called; told is how often it was said to be over.
func (b *asideBed) sync() (told *int, end func()) {
	stall, told := make(chan struct{}), new(int)
	b.disk.Inject(vfs.Injection{Op: vfs.FaultSync, Name: segmentPrefix, Stall: stall})
	if err := b.s.Sync(func(error) { *told++ }); err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
	return told, func() { close(stall); synctest.Wait() }
}

// TestWritesBesideASync: while the disk syncs, what nobody waits to be durable is written and told; it is not what that sync was for.
func TestWritesBesideASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAsideBed(t)
		if b.lazy() != 1 {
			t.Fatal("a record is not written")
		}
		told, end := b.sync()
		for range 3 {
			if b.lazy() != 1 {
				t.Error("a record waits for the sync of others")
			}
		}
		if *told != 0 || b.s.Synced() != b.synced {
			t.Errorf("told %d times, synced %d more before the disk has", *told, b.s.Synced()-b.synced)
		}
		if end(); *told != 1 || b.s.Synced() != b.synced+1 {
			t.Errorf("told %d times, synced %d more: one was there", *told, b.s.Synced()-b.synced)
		}
		got := new(recorder)
		again, err := Open(b.crash.Kill(), testDir, testID, asideOptions, got)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Close(nil); err != nil || len(got.records) != 4 {
			t.Errorf("a kill leaves %d records of 4: %v", len(got.records), err)
		}
		told, end = b.sync()
		if end(); *told != 1 || b.s.Synced() != b.synced+4 {
			t.Errorf("the next sync: told %d times, synced %d more of 4", *told, b.s.Synced()-b.synced)
		}
	})
}

// TestDurableBesideASync: what is to be durable is told when a sync of its own is over.
func TestDurableBesideASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAsideBed(t)
		b.lazy()
		told, end := b.sync()
		durable := 0
		if _, err := b.s.Append(b.record(), func(error) { durable++ }); err != nil {
			t.Fatal(err)
		}
		if synctest.Wait(); *told+durable != 0 {
			t.Error("something is told before the disk has synced it")
		}
		if end(); *told != 1 || durable != 1 || b.s.Synced() != b.synced+2 {
			t.Errorf("told %d and %d times, synced %d more of 2", *told, durable, b.s.Synced()-b.synced)
		}
	})
}
