package store

import (
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestNoCheckpointAfterClose: the directory may be another process's then.
func TestNoCheckpointAfterClose(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 1, 512, version(1)))
	if err := s.Close([]byte("mine")); err != nil {
		t.Fatal(err)
	}
	if c, err := s.BeginCheckpoint([]byte("late")); blocktree.KindOf(err) != blocktree.Closed {
		t.Errorf("got %v", err)
		if err == nil {
			t.Log(c.Finish())
		}
	}
	if _, r := openTest(t, fs, smallOptions); string(r.blob) != "mine" {
		t.Errorf("blob %q", r.blob)
	}
}

// TestCloseWaitsForSegments: a segment that an Append was making is there when Close returns, or never: its file could be the
// next owner's.
func TestCloseWaitsForSegments(t *testing.T) {
	entered, gate := make(chan struct{}), make(chan struct{})
	var on, closed atomic.Bool
	fs := &stepFS{FS: vfs.NewCrash(), before: func(op, name string) {
		if op != "Create" || !strings.Contains(name, segmentPrefix) {
			return
		}
		if closed.Load() {
			t.Errorf("%s is made after Close", name)
		}
		if on.CompareAndSwap(true, false) {
			entered <- struct{}{}
			<-gate
			if closed.Load() {
				t.Errorf("%s is emptied after Close", name)
			}
		}
	}}
	s, _ := openTest(t, fs, smallOptions)
	waitPrepared(t, s)
	on.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { // needs more segments than there are
		recs := make([]Record, 8)
		for i := range recs {
			recs[i] = Record{Kind: KindControl, Blob: make([]byte, 10<<10)}
		}
		if _, err := s.Append(recs, func(error) {}); blocktree.KindOf(err) != blocktree.Closed {
			t.Errorf("Append during Close: %v", err)
		}
	})
	<-entered
	wg.Go(func() {
		if err := s.Close(nil); err != nil {
			t.Error(err)
		}
		closed.Store(true)
	})
	for range 200 {
		s.logMu.Lock()
		closing := s.closing
		s.logMu.Unlock()
		if closing {
			break
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // as long as Close takes
	close(gate)
	wg.Wait()
}

// TestNoSpaceAfterRename: once a checkpoint has its name, no error is one after which to try again over the same bytes.
func TestNoSpaceAfterRename(t *testing.T) {
	for _, x := range []struct {
		name   string
		inject vfs.Injection
		kind   blocktree.Kind
	}{
		{"rename", vfs.Injection{Op: vfs.FaultRename, Name: checkpointName, Err: syscall.ENOSPC, Times: 2}, blocktree.NoSpace},
		{"sync of the directory", vfs.Injection{Op: vfs.FaultSyncDir, Skip: 1, Err: syscall.ENOSPC}, blocktree.IO},
	} {
		t.Run(x.name, func(t *testing.T) {
			crash := vfs.NewCrash()
			fs := vfs.NewFault(crash)
			s, _ := openTest(t, fs, smallOptions)
			put(t, s, dataRecord(testFile, 0, 1, 512, version(1)))
			waitPrepared(t, s)
			fs.Inject(x.inject)
			c, err := s.BeginCheckpoint([]byte("one"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Finish(); blocktree.KindOf(err) != x.kind {
				t.Errorf("got %v, want kind %v", err, x.kind)
			}
			fs.Clear()
			if x.kind == blocktree.NoSpace {
				if _, err := crash.Stat(indexName(testDir, 1)); blocktree.KindOf(err) != blocktree.NotFound {
					t.Errorf("the index file that nothing names: %v", err)
				}
				put(t, s, dataRecord(testFile, 1, 1, 512, version(2)))
			} else {
				<-s.Fatal()
			}
			for seed := range uint64(10) {
				after, _ := openTest(t, crash.Clone(seed), smallOptions)
				if _, err := after.Lookup(testFile, 0, 2, nil); err != nil || len(after.Damaged()) > 0 {
					t.Errorf("seed %d: %v, damage %v", seed, err, after.Damaged())
				}
			}
		})
	}
}

// TestUnreadableIndexPageIsLeft: a page that cannot be read now keeps the index file from being rewritten, and ends nothing.
func TestUnreadableIndexPageIsLeft(t *testing.T) {
	fs := vfs.NewFault(vfs.NewCrash())
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 1, 64, version(1)))
	if err := s.Close([]byte{}); err != nil {
		t.Fatal(err)
	}
	s, _ = openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 1000, 1, 64, version(2)))
	s.logMu.Lock()
	s.indexBytes += 2 * indexSlackBytes
	s.logMu.Unlock()
	fs.Inject(vfs.Injection{Op: vfs.FaultRead, Name: indexPrefix})
	c, err := s.BeginCheckpoint([]byte{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err != nil || fs.Injected() != 1 {
		t.Fatalf("%v after %d faults", err, fs.Injected())
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	s, _ = openTest(t, fs, smallOptions)
	for _, first := range []blocktree.SectorIndex{0, 1000} {
		if x := lookup(t, s, first, 1); len(x) != 1 || checkExtent(s, testFile, x[0]) != nil {
			t.Errorf("sector %d: %v", first, x)
		}
	}
}

// TestTailIsNotWrittenFromABadRead: the second read of a tail's record goes wrong; the first was good, and so is the disk.
func TestTailIsNotWrittenFromABadRead(t *testing.T) {
	for _, control := range []bool{false, true} {
		crash := vfs.NewCrash()
		s, _ := openTest(t, crash, smallOptions)
		last := dataRecord(testFile, 0, 1, 512, version(1))
		if control {
			last = Record{Kind: KindControl, Blob: []byte("a promise")}
		}
		appendWait(t, s, last)
		crash = crash.Kill()
		fs := vfs.NewFault(crash) // the first read of the segment is the scan's
		fs.Inject(vfs.Injection{Op: vfs.FaultRead, Name: segmentName("", 1), Skip: 1, Flip: 8*(headerBytes+5) + 1})
		r0 := &recorder{}
		if s, err := Open(fs, testDir, testID, smallOptions, r0); blocktree.KindOf(err) != blocktree.IO || fs.Injected() != 1 || len(r0.records) != 0 {
			t.Errorf("control %v: %v after %d faults, handed on %v", control, err, fs.Injected(), r0.records)
			if err == nil {
				_ = s.Close(nil)
			}
		}
		s, r := openTest(t, crash, smallOptions)
		if len(s.Damaged()) > 0 || len(r.records) != 1 {
			t.Errorf("control %v: damage %v, %d records", control, s.Damaged(), len(r.records))
		}
	}
}

// TestHalfATombstone: an index page is damaged in the middle of a tombstone; what was cut before is not absent.
func TestHalfATombstone(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	for page := range blocktree.SectorIndex(6) {
		put(t, s, dataRecord(testFile, page*PageSectors, 1, 64, version(uint64(page)+1)))
	}
	if err := s.Close([]byte{}); err != nil {
		t.Fatal(err)
	}
	size, err := fs.Stat(indexName(testDir, 1))
	if err != nil {
		t.Fatal(err)
	}
	flipFile(t, fs, indexName("", 1), size/2+10, 1)
	s, _ = openTest(t, fs, smallOptions)
	zero := Record{Kind: KindZero, File: testFile, First: 0, Count: 6 * PageSectors, Version: version(50)}
	ref := appendWait(t, s, zero)[0]
	if err := s.Index(testFile, extentOf(&zero, ref)); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Fatal(err)
	}
	for page := range blocktree.SectorIndex(6) {
		x, err := s.Lookup(testFile, page*PageSectors, 1, nil)
		if err == nil && x[0].Content == Absent {
			t.Errorf("page %d is absent", page)
		}
	}
}

// TestEndOfTheWorld: ranges that rounding to pages would carry past the last number are refused, not looped over.
func TestEndOfTheWorld(t *testing.T) {
	s, _ := openTest(t, vfs.NewCrash(), smallOptions)
	end := ^blocktree.SectorIndex(0)
	for _, first := range []blocktree.SectorIndex{end - 10, sectorsEnd - 3, 1 << 63} {
		r := dataRecord(testFile, first, 4, 64, version(1))
		if _, err := appendSync(s, r); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("append at %d: %v", first, err)
		}
		x := Extent{First: first, Count: 4, Content: Zero, Version: version(1), Ref: Ref{Segment: 1, Offset: 512}}
		if err := s.Index(testFile, x); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("index at %d: %v", first, err)
		}
	}
	put(t, s, dataRecord(testFile, sectorsEnd-4, 4, 64, version(1)))
}

// TestNothingIsCutWhereRecordsAreMissing: the last record of a segment does not read well, once; it must be there when it does.
func TestNothingIsCutWhereRecordsAreMissing(t *testing.T) {
	crash := vfs.NewCrash()
	s, _ := openTest(t, crash, smallOptions)
	var last Ref // of segment 1
	for v := uint64(1); ; v++ {
		ref := put(t, s, dataRecord(testFile, blocktree.SectorIndex(v), 1, 512, version(v)))
		if ref.Segment != 1 {
			break
		}
		last = ref
	}
	put(t, s, dataRecord(testFile, 0, 1, 512, version(100)))
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	fs := vfs.NewFault(crash)
	fs.Inject(vfs.Injection{Op: vfs.FaultRead, Name: segmentName("", 1), Flip: 8*(int(last.Offset)+20) + 1})
	s, _ = openTest(t, fs, smallOptions)
	if len(s.Damaged()) != 1 || fs.Injected() != 1 {
		t.Fatalf("damage %v after %d faults", s.Damaged(), fs.Injected())
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	if s, _ = openTest(t, crash, smallOptions); len(s.Damaged()) > 0 {
		t.Errorf("what reads well now is gone: %v", s.Damaged())
	}
}
