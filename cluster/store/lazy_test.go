package store

import (
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
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

// byCommitter is AppendLazy of which the committer writes what was appended, as it does beside what is to be durable.
func byCommitter(s *Store) func([]Record, func(error)) ([]Ref, error) {
	return func(recs []Record, written func(error)) ([]Ref, error) {
		refs, err := s.AppendLazy(recs, written)
		signal(s.wake)
		return refs, err
	}
}

// byCaller is AppendLazy of which the caller does.
func byCaller(s *Store) func([]Record, func(error)) ([]Ref, error) {
	return func(recs []Record, written func(error)) ([]Ref, error) {
		refs, err := s.AppendLazy(recs, written)
		s.WriteLazy()
		return refs, err
	}
}

// byTurns is the one and the other.
func byTurns(s *Store, n uint64) func([]Record, func(error)) ([]Ref, error) {
	if n%2 == 0 {
		return byCommitter(s)
	}
	return byCaller(s)
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
		refs, err := byTurns(s, n)([]Record{dataRecord(testFile, blocktree.SectorIndex(n), 1, 512, version(n))}, func(err error) { written <- err })
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

// TestLazyRecordsAreNoted: what is synced because the log is idle, and only then flushed, is known to be synced a little later, as any
// other group is: damage to it is damage and no torn tail.
func TestLazyRecordsAreNoted(t *testing.T) {
	options := Options{SegmentBytes: 1 << 20, NoteAfter: 2 * time.Millisecond}
	disk, s, lazy := lazyStore(t, options)
	synced := s.Synced()
	ref, written := lazy()
	await(t, "lazy record", written)
	for deadline := time.Now().Add(time.Minute); s.Synced() == synced; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("an idle log is not synced")
		}
	}
	done := make(chan error, 1)
	if err := s.Sync(func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	await(t, "sync", done)
	defer s.Close(nil)
	known := func() bool {
		killed := disk.Kill()
		flipFile(t, killed, path.Base(segmentName(testDir, ref.Segment)), int64(ref.Offset)+30, 1)
		again, err := Open(killed, testDir, testID, options, new(recorder))
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close(nil)
		return len(again.Damaged()) > 0
	}
	for deadline := time.Now().Add(time.Minute); !known(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("damage to what was synced long ago passes for a torn tail")
		}
	}
}

// TestSyncAfterNoSpace: a sync without records must not let the next headers say of sequences that found no space that they are synced
// before a header that names them void is durable.
func TestSyncAfterNoSpace(t *testing.T) {
	var mu sync.Mutex
	var clones []*vfs.Crash
	var armed atomic.Bool
	crash := vfs.NewCrash()
	crash.OnSync = func(p vfs.SyncPoint) { // of the committer, and of whoever makes segments ahead
		mu.Lock()
		defer mu.Unlock()
		if armed.Load() && !p.After {
			for seed := range uint64(100) {
				clones = append(clones, crash.Clone(seed))
			}
		}
	}
	fs := vfs.NewFault(crash)
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 1, 512, version(1)))
	waitPrepared(t, s)
	fs.Inject(vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix, Err: syscall.ENOSPC})
	if _, err := appendSync(s, dataRecord(testFile, 1, 1, 512, version(2))); blocktree.KindOf(err) != blocktree.NoSpace {
		t.Fatal(err)
	}
	waitPrepared(t, s)
	done := make(chan error, 1)
	if err := s.Sync(func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	await(t, "sync", done)
	armed.Store(true)
	put(t, s, dataRecord(testFile, 2, 1, 512, version(3)))
	mu.Lock()
	defer mu.Unlock()
	armed.Store(false)
	if len(clones) == 0 {
		t.Fatal("nothing was synced")
	}
	for i, c := range clones {
		after, err := Open(c, testDir, testID, smallOptions, new(recorder))
		if err != nil {
			t.Fatal(err)
		}
		if len(after.Damaged()) > 0 {
			t.Errorf("clone %d: what found no space is reported as damage: %v", i, after.Damaged())
		}
		if err := after.Close(nil); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			return
		}
	}
}

// TestLazyTailIsBounded: what is written and not synced is no more than a group, so that the next start can name what of it is torn.
func TestLazyTailIsBounded(t *testing.T) {
	_, s, _ := lazyStore(t, Options{CheckpointBytes: 1 << 40})
	defer s.Close(nil)
	const shards, bytes = 256, 4096
	first := s.Synced()
	for n := range uint64(blocktree.GroupCommitBytesMax/(shards*bytes)) + 8 {
		written := make(chan error, 1)
		r := dataRecord(testFile, blocktree.SectorIndex(n*shards), shards, bytes, version(n+1))
		if _, err := byTurns(s, n)([]Record{r}, func(err error) { written <- err }); err != nil {
			t.Fatal(err)
		}
		await(t, "lazy record", written)
		if tail := (first + n - s.Synced()) * shards * bytes; tail > blocktree.GroupCommitBytesMax { // this group may not be over yet
			t.Fatalf("%d bytes are written and not synced", tail)
		}
	}
}

// TestNothingIsWrittenAfterFailure: what was latched while a group was written, a failed checkpoint say, is what its calls are told,
// also those that do not wait for a sync.
func TestNothingIsWrittenAfterFailure(t *testing.T) {
	var s *Store
	var armed atomic.Bool
	disk := &stepFS{FS: vfs.NewCrash(), before: func(op, _ string) {
		if op == "WritevAt" && armed.CompareAndSwap(true, false) {
			s.logMu.Lock()
			s.latch(syscall.EIO)
			s.logMu.Unlock()
		}
	}}
	s, _ = openTest(t, disk, smallOptions)
	armed.Store(true)
	told := make(chan error, 1)
	if _, err := byCaller(s)([]Record{dataRecord(testFile, 1, 1, 512, version(1))}, func(err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-told; blocktree.KindOf(err) != blocktree.IO || armed.Load() {
		t.Errorf("told %v", err)
	}
}

// TestSyncDoesNotHurryAGroup: a group that begins with a sync waits for a compactor that cannot keep up as any other does; a sync alone
// does not.
func TestSyncDoesNotHurryAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := openTest(t, vfs.NewCrash(), byHandOptions)
		holdCompactor(t, s) // it would look, and find that it keeps up
		s.logMu.Lock()
		s.enqueueSync(func(error) {})
		group := queue{calls: []call{s.queue.calls[len(s.queue.calls)-1]}}
		s.overfull = true
		s.logMu.Unlock()
		took := func() time.Duration {
			begun := time.Now()
			s.awaitCompactor(&group)
			return time.Since(begun)
		}
		if waited := took(); waited != 0 {
			t.Errorf("a sync waited %v", waited)
		}
		group.items = make([]item, 1)
		if waited := took(); waited != overfullWait {
			t.Errorf("a group waited %v", waited)
		}
	})
}

// TestCrashWithLazyRecords: the same with records that nobody waits for: a kill takes none that was said to be written, a loss of power
// none that is before a sync.
func TestCrashWithLazyRecords(t *testing.T) {
	clones := 0
	for seed := range uint64(4) {
		w := newWorld(t, seed, forgetNothing)
		w.lazy = true
		w.run(3, 60)
		if len(w.failures) > 0 {
			t.Fatalf("seed %d: %s", seed, w.failures[0])
		}
		clones += w.clones
	}
	if clones < 100 {
		t.Errorf("only %d crashes were tried", clones)
	}
}
