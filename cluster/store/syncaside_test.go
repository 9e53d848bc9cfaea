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
	bad    *vfs.Fault // what it does to a sync comes after the test has let that go
	disk   *vfs.Fault
	s      *Store
	n      uint64 // records appended
	synced uint64 // before the first of them
}

var asideOptions = Options{SegmentBytes: 1 << 20}

func newAsideBed(t *testing.T) *asideBed {
	b := &asideBed{t: t, crash: vfs.NewCrash()}
	b.bad = vfs.NewFault(b.crash)
	b.disk = vfs.NewFault(b.bad)
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

// TestQueuedBesideASync: what was queued while a sync's group was written and told of, by who found a writer and went away, is written before the disk syncs.
func TestQueuedBesideASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAsideBed(t)
		written := 0
		add := func(f func(error)) {
			if _, err := b.s.AppendLazy(b.record(), f); err != nil {
				t.Error(err)
			}
		}
		add(func(error) {
			add(func(error) { written++ })
			b.s.WriteLazy()
		})
		told, end := b.sync()
		if written != 1 || *told != 0 {
			t.Errorf("a record that nobody waits for is told of %d times, the sync %d times, while the disk syncs", written, *told)
		}
		if end(); *told != 1 || b.s.Synced() != b.synced+1 {
			t.Errorf("told %d times, synced %d more: one was there", *told, b.s.Synced()-b.synced)
		}
	})
}

// TestManyRoundsBesideASync: while the committer syncs whoever writes goes on for as long as others queue, as nobody else would.
func TestManyRoundsBesideASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAsideBed(t)
		b.lazy()
		told, end := b.sync()
		written := 0
		var add func(error)
		add = func(error) {
			if written++; written > 3*lazyRounds {
				return
			}
			if _, err := b.s.AppendLazy(b.record(), add); err != nil {
				t.Error(err)
			}
			b.s.WriteLazy()
		}
		add(nil)
		if written != 3*lazyRounds+1 || *told != 0 {
			t.Errorf("%d of %d are written while the disk syncs", written-1, 3*lazyRounds)
		}
		end()
	})
}

// TestFailedSyncIsKnownAtOnce: an error of a sync is the store's end also while somebody else writes, who may hang.
func TestFailedSyncIsKnownAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAsideBed(t)
		b.lazy()
		told, end := b.sync()
		b.bad.Inject(vfs.Injection{Op: vfs.FaultSync, Name: segmentPrefix})
		hang := make(chan struct{})
		if _, err := b.s.AppendLazy(b.record(), func(error) { <-hang }); err != nil {
			t.Fatal(err)
		}
		go b.s.WriteLazy()
		synctest.Wait()
		end()
		select {
		case <-b.s.Fatal():
		default:
			t.Error("nobody is told that the disk failed")
		}
		if _, err := b.s.AppendLazy(b.record(), func(error) {}); blocktree.KindOf(err) != blocktree.IO {
			t.Errorf("then a record is taken: %v", err)
		}
		close(hang)
		if synctest.Wait(); *told != 1 || b.s.Synced() != b.synced {
			t.Errorf("the sync is told of %d times, and %d records are synced", *told, b.s.Synced()-b.synced)
		}
	})
}

// TestWriterWhileItCloses: the last sync is the writer's as any other, whoever calls WriteLazy still.
func TestWriterWhileItCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAsideBed(t)
		b.lazy()
		stall := make(chan struct{})
		b.disk.Inject(vfs.Injection{Op: vfs.FaultSync, Name: segmentPrefix, Stall: stall})
		go b.s.Close(nil)
		synctest.Wait()
		b.s.WriteLazy()
		b.s.logMu.Lock()
		if !b.s.writer {
			t.Error("nobody is the writer while what was put off is synced")
		}
		b.s.logMu.Unlock()
		close(stall)
	})
}
