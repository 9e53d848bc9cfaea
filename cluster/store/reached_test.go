package store

import (
	"errors"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestWrittenIsThere: when the store tells up to where its log is written, a kill of the process leaves all of that, and Whole says so; a loss
// of power that takes a record of it never has Whole reach that far. It is told before the caller is.
func TestWrittenIsThere(t *testing.T) {
	synctest.Test(t, testWrittenIsThere)
}

func testWrittenIsThere(t *testing.T) {
	disk := vfs.NewCrash()
	var reached, told uint64 // the callbacks come from the committer
	opts := Options{SegmentBytes: 64 << 10, OnWritten: func(sequence uint64) error { reached = sequence; return nil }}
	if err := Create(disk, "/s", 1, opts); err != nil {
		t.Fatal(err)
	}
	s, err := Open(disk, "/s", 1, opts, &countReplayer{})
	if err != nil {
		t.Fatal(err)
	}
	const records = 40
	for i := range records {
		if _, err := byTurns(s, uint64(i/5))([]Record{control(i)}, func(err error) {
			if told++; err != nil || reached == 0 {
				t.Errorf("record %d: %v, reached %d", i, err, reached)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if i%7 == 3 {
			synctest.Wait()
		}
	}
	synctest.Wait()
	if told != records {
		t.Fatalf("%d records were told", told)
	}
	killed := disk.Kill()
	whole, found := reopened(t, killed, opts)
	if whole < reached || found != records {
		t.Errorf("a kill leaves %d records, whole up to %d, written up to %d", found, whole, reached)
	}
	lost := 0
	for seed := range uint64(60) {
		whole, found := reopened(t, disk.Clone(seed), opts)
		if (whole >= reached) != (found == records) {
			t.Errorf("seed %d: %d of %d records are left, and the log is whole up to %d, written up to %d", seed, found, records, whole, reached)
		}
		if found < records {
			lost++
		}
	}
	if lost < 20 || lost == 60 {
		t.Errorf("%d of 60 losses of power took something", lost)
	}
	if err := s.Close([]byte{}); err != nil {
		t.Error(err)
	}
}

// TestWrittenUntold: where nobody can be told, nothing is answered, and that is the end of the store. A record that is to be durable concerns nobody.
func TestWrittenUntold(t *testing.T) {
	disk := vfs.NewCrash()
	bad := errors.New("no place for the mark")
	calls := 0
	opts := Options{SegmentBytes: 64 << 10, OnWritten: func(uint64) error { calls++; return bad }}
	if err := Create(disk, "/s", 1, opts); err != nil {
		t.Fatal(err)
	}
	s, err := Open(disk, "/s", 1, opts, &countReplayer{})
	if err != nil {
		t.Fatal(err)
	}
	wait := func(put func([]Record, func(error)) ([]Ref, error)) error {
		done := make(chan error, 1)
		if _, err := put([]Record{control(1)}, func(err error) { done <- err }); err != nil {
			return err
		}
		return <-done
	}
	if err := wait(s.Append); err != nil || calls != 0 {
		t.Errorf("a durable record: %v, told %d times", err, calls)
	}
	if err := wait(byCaller(s)); !errors.Is(err, bad) || calls != 1 {
		t.Errorf("a lazy record: %v, told %d times", err, calls)
	}
	if err := wait(s.Append); !errors.Is(err, bad) {
		t.Errorf("afterwards: %v", err)
	}
	_ = s.Close(nil)
}

func control(i int) Record {
	return Record{Kind: KindControl, File: blocktree.FileID{Generation: 1, Inode: 3}, Blob: make([]byte, 10+300*(i%3))}
}

func reopened(t *testing.T, disk *vfs.Crash, opts Options) (whole uint64, found int) {
	t.Helper()
	var r countReplayer
	opts.OnWritten = nil
	s, err := Open(disk, "/s", 1, opts, &r)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(nil)
	return s.Recovery().Whole, r.records
}

// countReplayer counts records.
type countReplayer struct{ records int }

func (r *countReplayer) Checkpoint(*Store, []byte) error { return nil }

func (r *countReplayer) Record(Replayed) error {
	r.records++
	return nil
}
