package store

import (
	"sync/atomic"
	"testing"
	"time"

	"blocktree/internal/vfs"
)

// After a while without writes the last group is known to be synced: a bit that flips in its header then is damage. Without
// notes it is a torn tail, which nobody hears of.
func TestLastGroupIsNoted(t *testing.T) {
	for _, x := range []struct {
		name    string
		after   time.Duration
		damaged bool
	}{{"noted", time.Millisecond, true}, {"not noted", 0, false}} {
		t.Run(x.name, func(t *testing.T) {
			disk := vfs.NewCrash()
			options := Options{NoteAfter: x.after, SegmentBytes: 1 << 20}
			if err := Create(disk, testDir, testID, options); err != nil {
				t.Fatal(err)
			}
			s, err := Open(disk, testDir, testID, options, new(recorder))
			if err != nil {
				t.Fatal(err)
			}
			var last Ref
			for i := range uint64(3) {
				done := make(chan error)
				refs, err := s.Append([]Record{dataRecord(testFile, 9, 1, 512, version(i+1))}, func(err error) { done <- err })
				if err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				last = refs[0]
			}
			written := s.Synced()
			for deadline := time.Now().Add(10 * time.Second); x.damaged && s.Synced() == written; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("nothing was noted")
				}
			}
			time.Sleep(20 * time.Millisecond)
			if noted := s.Synced(); x.damaged && noted != written+1 || !x.damaged && noted != written {
				t.Errorf("synced up to %d after %d: a note notes nothing of itself, and comes once", noted, written)
			}
			killed := disk.Kill()
			if err := s.Close(nil); err != nil {
				t.Fatal(err)
			}
			f, err := killed.Open(segmentName(testDir, last.Segment))
			if err != nil {
				t.Fatal(err)
			}
			var b [1]byte
			if _, err := f.ReadAt(b[:], int64(last.Offset)+30); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{b[0] ^ 1}, int64(last.Offset)+30); err != nil {
				t.Fatal(err)
			}
			f.Close()
			got := new(recorder)
			if s, err = Open(killed, testDir, testID, options, got); err != nil {
				t.Fatal(err)
			}
			defer s.Close(nil)
			if len(s.Damaged()) > 0 != x.damaged || len(got.records) != 2 {
				t.Errorf("damaged: %v; %d records", s.Damaged(), len(got.records))
			}
		})
	}
}

// TestNoteBehindAnAppend: a note that is made just as something is appended shares its group, whose headers say nothing of the
// group itself. What was appended must be noted yet.
func TestNoteBehindAnAppend(t *testing.T) {
	var armed atomic.Bool
	syncing, release := make(chan struct{}), make(chan struct{})
	disk := &stepFS{FS: vfs.NewCrash(), before: func(op, _ string) {
		if op == "Datasync" && armed.CompareAndSwap(true, false) {
			close(syncing)
			<-release
		}
	}}
	options := Options{SegmentBytes: 1 << 20}
	if err := Create(disk, testDir, testID, options); err != nil {
		t.Fatal(err)
	}
	s, err := Open(disk, testDir, testID, options, new(recorder))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(nil)
	waitPrepared(t, s) // no sync but the committer's
	armed.Store(true)
	done := make(chan error, 2)
	appended := func() {
		t.Helper()
		if _, err := s.Append([]Record{dataRecord(testFile, 9, 1, 512, version(1))}, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
	}
	appended()
	<-syncing // the committer cannot take what comes next
	appended()
	s.logMu.Lock()
	last := s.nextSequence - 1
	s.logMu.Unlock()
	if noted := s.note(); noted >= last {
		t.Errorf("%d, which is not written yet, is taken to be noted, up to %d", last, noted)
	}
	close(release)
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
