package store

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// killSegments overwrites the same sectors until n segments are dead, and returns the version of the last write.
func killSegments(t *testing.T, s *Store, n uint32, v uint64) uint64 {
	t.Helper()
	for ; s.pins.deadSegments() < n; v++ {
		put(t, s, dataRecord(testFile, 0, 4, 512, version(v)))
	}
	return v - 1
}

// crashInRecycled lets the log go on in files that were used before, without a checkpoint, and cuts the power.
func crashInRecycled(t *testing.T, m mutant) error {
	opts := smallOptions
	opts.mutant = m
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, opts)
	last := killSegments(t, s, retiredMax, 1)
	waitPrepared(t, s)
	checkpointNow(t, s)
	const ahead = 1 + dataReserveSegments
	for s.Stats().Recycled <= ahead { // all that are made ahead, and the active one; nothing else was made since
		last = killSegments(t, s, s.pins.deadSegments()+1, last+1)
		waitPrepared(t, s)
	}
	for seed := range uint64(20) {
		r := &recorder{}
		after, err := Open(fs.Clone(seed), testDir, testID, smallOptions, r)
		if err != nil {
			return err
		}
		d := after.Damaged()
		if err := after.Close(nil); err != nil {
			return err
		}
		newest := uint64(0)
		for _, x := range r.records {
			newest = max(newest, uint64(x.Record.Version.Sequence))
		}
		if newest != last || len(d) > 0 {
			return fmt.Errorf("seed %d: the newest record is version %d, want %d; damage %v", seed, newest, last, d)
		}
	}
	return nil
}

func TestCrashInRecycled(t *testing.T) {
	if err := crashInRecycled(t, forgetNothing); err != nil {
		t.Error(err)
	}
}

func TestMutantRecyclingBeforeSyncDies(t *testing.T) {
	err := crashInRecycled(t, forgetRecycleDirSync)
	if err == nil {
		t.Error("the mutant lives")
	}
	t.Log(err)
}

// TestRecycled: dead segments become new ones, again and again, and a clean stop leaves none of them.
func TestRecycled(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	last := uint64(0)
	for range 6 {
		last = killSegments(t, s, retiredMax, last+1)
		checkpointNow(t, s)
	}
	waitPrepared(t, s)
	if st := s.Stats(); st.Recycled < 3*retiredMax || st.DiskBytes != diskUsed(t, fs) {
		t.Errorf("%+v, %d bytes used", st, diskUsed(t, fs))
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	if len(s.retired) > 0 {
		t.Error("a clean stop leaves dead files")
	}
}

// TestReadKeepsDeadSegment: a file is not used again while somebody reads the dead segment in it.
func TestReadKeepsDeadSegment(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	rec := dataRecord(testFile, 0, 4, 512, version(1))
	ref := put(t, s, rec)
	seg, err := s.segs.acquire(ref.Segment)
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(1)
	for range 4 {
		last = killSegments(t, s, retiredMax, last+1)
		checkpointNow(t, s)
		waitPrepared(t, s)
	}
	if s.Stats().Recycled == 0 {
		t.Error("nothing was recycled")
	}
	got := make([]byte, len(rec.Payload))
	if err := readFull(seg.file, got, int64(ref.Offset)+headerBytes); err != nil || !bytes.Equal(got, rec.Payload) {
		t.Errorf("the reader got something else, error %v", err)
	}
	s.segs.release(seg)
}

// TestRetiredGivenBack: where space is scarce no dead file is kept.
func TestRetiredGivenBack(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	last := killSegments(t, s, retiredMax, 1)
	waitPrepared(t, s)
	checkpointNow(t, s)
	if len(retiredOf(s)) == 0 {
		t.Fatal("no dead file was kept")
	}
	fs.SetCapacity(fs.Used() + (tightSegments-1)*smallOptions.SegmentBytes)
	if _, _, err := s.compactor.turn(); err != nil {
		t.Error(err)
	}
	if n := len(retiredOf(s)); n > 0 {
		t.Errorf("%d dead files are kept", n)
	}
	killSegments(t, s, retiredMax, last+1)
	checkpointNow(t, s)
	if n := len(retiredOf(s)); n > 0 {
		t.Errorf("%d more dead files are kept", n)
	}
}

func retiredOf(s *Store) []*segment {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	return s.retired
}

// TestRecycleFails: a dead file that cannot be renamed is the end, as for every other change of the directory.
func TestRecycleFails(t *testing.T) {
	fs := vfs.NewFault(vfs.NewCrash())
	s, _ := openTest(t, fs, smallOptions)
	killSegments(t, s, retiredMax, 1)
	waitPrepared(t, s)
	checkpointNow(t, s)
	fs.Inject(vfs.Injection{Op: vfs.FaultRename, Name: segmentPrefix, Err: syscall.EIO, Times: -1})
	for v := uint64(1000); v < 1200; v++ {
		if _, err := appendSync(s, dataRecord(testFile, 0, 4, 512, version(v))); err != nil {
			if blocktree.KindOf(err) != blocktree.IO {
				t.Errorf("%v", err)
			}
			return
		}
	}
	t.Error("nobody noticed")
}

// TestRenameFindsNoSpace: a dead file that cannot be used again is not forgotten in the directory.
func TestRenameFindsNoSpace(t *testing.T) {
	fs := vfs.NewFault(vfs.NewCrash())
	s, _ := openTest(t, fs, smallOptions)
	last := killSegments(t, s, retiredMax, 1)
	waitPrepared(t, s)
	fs.Inject(vfs.Injection{Op: vfs.FaultRename, Name: segmentPrefix, Err: syscall.ENOSPC, Times: 2})
	checkpointNow(t, s)
	killSegments(t, s, 3, last+1)
	waitPrepared(t, s)
	if fs.Injected() != 2 {
		t.Fatalf("%d renames failed", fs.Injected())
	}
	names, err := fs.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	s.logMu.Lock()
	defer s.logMu.Unlock()
	known := map[uint32]bool{}
	for _, seg := range s.retired {
		known[seg.number] = true
	}
	for _, name := range names {
		if n, ok := numberOf(name, segmentPrefix); ok && s.segs.byNo[n] == nil && !known[n] {
			t.Errorf("%s is nobody's", name)
		}
	}
}
