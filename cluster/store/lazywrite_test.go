package store

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestWritersByTurns: whoever writes, there is one at a time, nothing is left behind, and what need not be synced is told in the order of its appending.
func TestWritersByTurns(t *testing.T) {
	disk, s, _ := lazyStore(t, Options{SegmentBytes: 1 << 20})
	const callers, each = 8, 60
	var order sync.Mutex // as the owner's
	var told []int
	var n, inside int
	var done, running sync.WaitGroup
	for c := range callers {
		running.Go(func() {
			for i := range each {
				done.Add(1)
				order.Lock()
				n++
				at, lazy := n, (c+i)%7 > 0
				put, tell := s.AppendLazy, func(err error) {
					inside++ // not guarded: there is one writer
					if told = append(told, at); err != nil {
						t.Error(err)
					}
					done.Done()
				}
				if !lazy {
					put, tell = s.Append, func(err error) {
						if inside++; err != nil {
							t.Error(err)
						}
						done.Done()
					}
				}
				if _, err := put([]Record{dataRecord(testFile, blocktree.SectorIndex(at), 1, 512, version(uint64(at)))}, tell); err != nil {
					t.Error(err)
					done.Done()
				}
				order.Unlock()
				if lazy {
					s.WriteLazy()
				} else if err := s.Sync(func(error) {}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	done.Wait()
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(told) || inside != callers*each {
		t.Errorf("%d calls back of %d; in order: %t", inside, callers*each, slices.IsSorted(told))
	}
	got := new(recorder)
	again, err := Open(disk.Clone(1), testDir, testID, Options{SegmentBytes: 1 << 20}, got)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close(nil)
	if len(got.records) != callers*each {
		t.Errorf("%d records of %d are there", len(got.records), callers*each)
	}
}

// TestLazyIsWrittenByWhatFollows: also where its owner owes the call yet.
func TestLazyIsWrittenByWhatFollows(t *testing.T) {
	for name, follows := range map[string]func(s *Store) error{
		"a durable record": func(s *Store) error {
			_, err := s.Append([]Record{dataRecord(testFile, 9, 1, 512, version(9))}, func(error) {})
			return err
		},
		"a sync":       func(s *Store) error { return s.Sync(func(error) {}) },
		"another call": func(s *Store) error { s.WriteLazy(); return nil },
		"the end":      func(s *Store) error { return s.Close(nil) },
	} {
		synctest.Test(t, func(t *testing.T) {
			_, s, _ := lazyStore(t, Options{SegmentBytes: 1 << 20})
			told := 0
			if _, err := s.AppendLazy([]Record{dataRecord(testFile, 1, 1, 512, version(1))}, func(error) { told++ }); err != nil {
				t.Fatal(err)
			}
			if err := follows(s); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if told != 1 {
				t.Errorf("%s: told %d times", name, told)
			}
			if err := s.Close(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWriteLazyIsBrief: it writes by itself, and at once, what waits for nothing; all else is the committer's.
func TestWriteLazyIsBrief(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, _ := lazyStore(t, Options{SegmentBytes: 1 << 20})
		defer s.Close(nil)
		synctest.Wait() // the committer sleeps
		n := uint64(0)
		add := func(put func([]Record, func(error)) ([]Ref, error), count uint32) *int {
			told := new(int)
			n++
			if _, err := put([]Record{dataRecord(testFile, blocktree.SectorIndex(n*64), count, 4096, version(n))}, func(error) { *told++ }); err != nil {
				t.Fatal(err)
			}
			return told
		}
		syncs := s.Stats().Syncs
		if told := add(s.AppendLazy, 1); *told != 0 {
			t.Error("told before it was to be written")
		} else if s.WriteLazy(); *told != 1 || s.Stats().Syncs != syncs {
			t.Errorf("told %d times, %d syncs", *told, s.Stats().Syncs-syncs)
		}
		for name, x := range map[string]struct {
			count   uint32
			put     func([]Record, func(error)) ([]Ref, error)
			state   func(on bool)
			briefly bool
		}{
			"a short record":        {1, s.AppendLazy, func(bool) {}, true},
			"a durable one":         {1, s.Append, func(bool) {}, false},
			"too much":              {lazyBytesMax/4096 + 1, s.AppendLazy, func(bool) {}, false},
			"a compactor is behind": {1, s.AppendLazy, func(on bool) { s.overfull = on }, false},
			"much is put off": {1, s.AppendLazy, func(on bool) {
				if s.unsyncedBytes += blocktree.GroupCommitBytesMax; !on {
					s.unsyncedBytes -= 2 * blocktree.GroupCommitBytesMax
				}
			}, false},
		} {
			s.logMu.Lock()
			s.writer = true // nobody else
			s.logMu.Unlock()
			told := add(x.put, x.count)
			s.logMu.Lock()
			x.state(true)
			if s.isBrief() != x.briefly {
				t.Errorf("%s: brief is %t", name, !x.briefly)
			}
			x.state(false)
			s.endGroup()
			s.logMu.Unlock()
			signal(s.wake)
			synctest.Wait()
			if *told != 1 {
				t.Errorf("%s: told %d times", name, *told)
			}
		}
	})
}

// TestWrittenIsReached: the tail mark is ahead of what is told, whoever writes.
func TestWrittenIsReached(t *testing.T) {
	var reached uint64
	options := Options{SegmentBytes: 1 << 20, OnWritten: func(sequence uint64) error { reached = sequence; return nil }}
	disk := vfs.NewCrash()
	if err := Create(disk, testDir, testID, options); err != nil {
		t.Fatal(err)
	}
	s, err := Open(disk, testDir, testID, options, new(recorder))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(nil)
	for i := range uint64(20) {
		was, told := reached, make(chan uint64, 1)
		if _, err := byTurns(s, i)([]Record{dataRecord(testFile, blocktree.SectorIndex(i), 1, 512, version(i+1))}, func(error) { told <- reached }); err != nil {
			t.Fatal(err)
		}
		if got := <-told; got <= was {
			t.Errorf("record %d: told when %d was reached, %d before it", i, got, was)
		}
	}
}

// TestQueuedBesideAWriter: whoever writes looks for what was queued beside it, whose owner went away.
func TestQueuedBesideAWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, _ := lazyStore(t, Options{SegmentBytes: 1 << 20})
		defer s.Close(nil)
		synctest.Wait() // the committer sleeps
		told := 0
		add := func(n uint64, written func(error)) {
			if _, err := s.AppendLazy([]Record{dataRecord(testFile, blocktree.SectorIndex(n), 1, 512, version(n))}, written); err != nil {
				t.Error(err)
			}
			s.WriteLazy()
		}
		add(1, func(error) { add(2, func(error) { told++ }) }) // called back by the writer
		if told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}
