package store

import (
	"maps"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// indexer is a Replayer that indexes what it is given, and then calls after.
type indexer struct {
	recorder
	s     *Store
	after func(*Store) error
}

func (r *indexer) Checkpoint(s *Store, blob []byte) error {
	r.s = s
	return r.recorder.Checkpoint(s, blob)
}

func (r *indexer) Record(x Replayed) error {
	if err := r.s.Index(x.File, extentOf(&x.Record, x.Ref)); err != nil {
		return err
	}
	if r.after != nil {
		return r.after(r.s)
	}
	return nil
}

func openIndexing(t *testing.T, fs vfs.FS, after func(*Store) error) *Store {
	t.Helper()
	s, err := Open(fs, testDir, testID, smallOptions, &indexer{after: after})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(nil) })
	return s
}

func checkpointNow(t *testing.T, s *Store) {
	t.Helper()
	c, err := s.BeginCheckpoint([]byte("blob"))
	if err == nil {
		err = c.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func closeStore(t *testing.T, s *Store, blob []byte) {
	t.Helper()
	if err := s.Close(blob); err != nil {
		t.Fatal(err)
	}
}

// contentAt returns what Lookup says of a sector, or the kind of its error.
func contentAt(s *Store, sector blocktree.SectorIndex) (Content, blocktree.Kind) {
	x, err := s.Lookup(testFile, sector, 1, nil)
	if err != nil {
		return Absent, blocktree.KindOf(err)
	}
	return x[0].Content, blocktree.Other
}

func wantContent(t *testing.T, s *Store, sector blocktree.SectorIndex, want Content, kind blocktree.Kind) {
	t.Helper()
	if got, gotKind := contentAt(s, sector); got != want || gotKind != kind {
		t.Errorf("sector %d is %d, kind %v; want %d, kind %v", sector, got, gotKind, want, kind)
	}
}

// wantDamaged wants exactly one damaged page, that of number page, or none when page is negative.
func wantDamaged(t *testing.T, s *Store, page int) {
	t.Helper()
	if d := s.Damaged(); page < 0 && len(d) != 0 || page >= 0 && (len(d) != 1 ||
		d[0] != Run{File: testFile, First: blocktree.SectorIndex(page * PageSectors), Count: PageSectors}) {
		t.Errorf("damage %+v, want that of page %d", d, page)
	}
}

// damagedStore has pages 0 and 1 in its checkpoint, page 0 damaged at the returned offset of the returned file, and, where
// tail is set, a record after the checkpoint that lies in both.
func damagedStore(t *testing.T, tail bool) (fs vfs.FS, name string, off int64) {
	t.Helper()
	fs = vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 4, 64, version(1)))
	put(t, s, dataRecord(testFile, PageSectors, 4, 64, version(2)))
	checkpointNow(t, s)
	entry, _ := s.ix.table.Get(tableEntry{key: pageKey{testFile, 0}})
	name, off = indexName("", s.indexNumber), int64(entry.offset)+50
	if tail {
		put(t, s, dataRecord(testFile, PageSectors-2, 4, 64, version(3)))
	}
	closeStore(t, s, nil)
	flipFile(t, fs, name, off, 1)
	return fs, name, off
}

// wantCounted opens the store once more, which is to be whole, and checks that what is live is what its pages say.
func wantCounted(t *testing.T, fs vfs.FS) {
	t.Helper()
	s := openIndexing(t, fs, nil)
	wantDamaged(t, s, -1)
	s.pins.mu.Lock()
	live := maps.Clone(s.pins.live)
	s.pins.mu.Unlock()
	if want, good := s.ix.verify(); !good || !maps.Equal(live, want) {
		t.Errorf("live %v, the index holds %v", live, want)
	}
	closeStore(t, s, []byte("blob"))
	if sb, err := readSuperblock(fs, testDir); err != nil || sb.suspect {
		t.Errorf("the whole index is to be read for ever: %+v, %v", sb, err)
	}
}

// TestDamagedPageInReplay: Open meets a damaged page and succeeds; its sectors stay unknown, whatever the disk says later,
// over a checkpoint and a start, until DropRange covers the page.
func TestDamagedPageInReplay(t *testing.T) {
	fs, name, off := damagedStore(t, true)
	s := openIndexing(t, fs, nil)
	for start := range 2 {
		wantDamaged(t, s, 0)
		wantContent(t, s, 0, Absent, blocktree.Corrupt)
		wantContent(t, s, PageSectors-2, Absent, blocktree.Corrupt)
		wantContent(t, s, PageSectors, Data, blocktree.Other)
		if x := lookup(t, s, PageSectors, 1); x[0].Version != version(3) {
			t.Errorf("what lies beside the page was not indexed: %+v", x)
		}
		if n := s.Stats().Pending; n != 1 {
			t.Errorf("start %d: %d records pending", start, n)
		}
		if start == 0 {
			closeStore(t, s, []byte("blob"))
			flipFile(t, fs, name, off, 1) // as it was; but what was to be indexed over it is not there
			s = openIndexing(t, fs, nil)
		}
	}
	// A commit that comes before the range is dropped does not end the node.
	put(t, s, dataRecord(testFile, 9, 1, 64, version(4)))
	if err := s.DropRange(testFile, 0, PageSectors-1); err != nil {
		t.Error(err)
	}
	wantContent(t, s, 9, Absent, blocktree.Corrupt)
	if n := s.Stats().Pending; n != 1 {
		t.Errorf("%d records pending after the drop of part of the page", n)
	}
	if err := s.DropRange(testFile, 0, PageSectors); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, 0, Absent, blocktree.Other)
	wantContent(t, s, PageSectors, Data, blocktree.Other)
	if n := s.Stats().Pending; n != 0 {
		t.Errorf("%d records pending after the drop", n)
	}
	put(t, s, dataRecord(testFile, 1, 1, 64, version(5)))
	wantContent(t, s, 1, Data, blocktree.Other)
	closeStore(t, s, []byte("blob"))

	s = openIndexing(t, fs, nil)
	wantDamaged(t, s, -1)
	wantContent(t, s, 0, Absent, blocktree.Other)
	if x := lookup(t, s, 1, 1); checkExtent(s, testFile, x[0]) != nil {
		t.Errorf("what was indexed later: %+v", x)
	}
	closeStore(t, s, []byte("blob"))
	wantCounted(t, fs)
}

// TestDamagedPageMetLater: what meets a damaged page that nobody knew is told so, and the next Open reports it, although replay
// does not need the page. DropRange heals it in either start.
func TestDamagedPageMetLater(t *testing.T) {
	for _, x := range []struct {
		name  string
		meet  func(*Store, Extent) error
		heals bool
	}{
		{name: "index", meet: func(s *Store, x Extent) error { return s.Index(testFile, x) }},
		{name: "drop of a part", meet: func(s *Store, _ Extent) error { return s.DropRange(testFile, 0, 4) }},
		{name: "lookup", meet: func(s *Store, _ Extent) error { _, err := s.Lookup(testFile, 0, 1, nil); return err }},
		{name: "drop", meet: func(s *Store, _ Extent) error { return s.DropRange(testFile, 0, PageSectors) }, heals: true},
	} {
		t.Run(x.name, func(t *testing.T) {
			fs, _, _ := damagedStore(t, false)
			s := openIndexing(t, fs, nil)
			wantDamaged(t, s, -1) // nobody read it
			r := dataRecord(testFile, 7, 1, 64, version(4))
			extent := extentOf(&r, appendWait(t, s, r)[0])
			err := x.meet(s, extent)
			if x.heals {
				if err != nil {
					t.Fatal(err)
				}
				wantContent(t, s, 0, Absent, blocktree.Other)
				s.Drop(extent.Ref, 0, 1)
				closeStore(t, s, []byte("blob"))
				wantCounted(t, fs)
				return
			}
			if blocktree.KindOf(err) != blocktree.Corrupt {
				t.Fatal(err)
			}
			if n := s.Stats().Pending; n != 1 {
				t.Errorf("%d records pending", n)
			}
			s.Drop(extent.Ref, 0, 1)
			checkpointNow(t, s) // so that nothing is left to replay
			closeStore(t, s, nil)
			s = openIndexing(t, fs, nil)
			wantDamaged(t, s, 0)
			wantContent(t, s, 7, Absent, blocktree.Corrupt)
			if err := s.DropRange(testFile, 0, 10*PageSectors); err != nil {
				t.Fatal(err)
			}
			wantContent(t, s, 0, Absent, blocktree.Other)
			put(t, s, dataRecord(testFile, 7, 1, 64, version(5)))
			wantContent(t, s, 7, Data, blocktree.Other)
			closeStore(t, s, []byte("blob"))
			wantCounted(t, fs)
		})
	}
}

// TestDamagedPageDroppedInReplay: the page was healed, but no checkpoint taken. There is nothing left to report.
func TestDamagedPageDroppedInReplay(t *testing.T) {
	fs, _, _ := damagedStore(t, true)
	s := openIndexing(t, fs, func(s *Store) error { return s.DropRange(testFile, 0, 2*PageSectors) })
	wantDamaged(t, s, -1)
	wantContent(t, s, 0, Absent, blocktree.Other)
	wantContent(t, s, PageSectors, Absent, blocktree.Other)
	closeStore(t, s, []byte("blob"))
	wantCounted(t, fs)
}

// TestDamagedPageDuringCheckpoint: a page that is discarded while a checkpoint is written stays so after it.
func TestDamagedPageDuringCheckpoint(t *testing.T) {
	fs, _, _ := damagedStore(t, true)
	s := openIndexing(t, fs, nil)
	c, err := s.BeginCheckpoint([]byte("blob"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DropRange(testFile, 0, PageSectors); err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, 0, Absent, blocktree.Other)
	closeStore(t, s, nil) // the drop is lost with the log that held it: the checkpoint knows the page as damaged
	s = openIndexing(t, fs, nil)
	wantDamaged(t, s, 0)
	wantContent(t, s, 0, Absent, blocktree.Corrupt)
	put(t, s, dataRecord(blocktree.FileID{Generation: 1, Inode: 1}, 0, 1, 64, version(9))) // its page is copied before page 0
	checkpointNow(t, s)
	s.logMu.Lock()
	s.indexBytes += 4 * indexSlackBytes // as if there were much garbage: the pages go to a new file
	number := s.indexNumber
	s.logMu.Unlock()
	checkpointNow(t, s)
	if s.indexNumber == number {
		t.Error("the index was not rewritten")
	}
	wantContent(t, s, 0, Absent, blocktree.Corrupt)
	closeStore(t, s, nil)
	s = openIndexing(t, fs, nil)
	wantDamaged(t, s, 0)
	wantContent(t, s, 0, Absent, blocktree.Corrupt)
	wantContent(t, s, PageSectors, Data, blocktree.Other)
}
