package store

import (
	"testing"

	"blocktree"
)

// TestCallsBackOfAGroup: those of Appends that ended together are made within one OnGroup, lazy ones and others, each once.
func TestCallsBackOfAGroup(t *testing.T) {
	for _, lazy := range []bool{false, true} {
		const records = 10
		told, first, on := make(chan int, 16), make(chan struct{}), make(chan struct{})
		n, groups := 0, 0 // only the committer touches them
		options := Options{SegmentBytes: 1 << 20, OnGroup: func(tell func()) {
			before := n
			tell()
			if groups++; groups == 1 {
				close(first)
				<-on // what is appended meanwhile is one group
			}
			told <- n - before
		}}
		_, s, _ := lazyStore(t, options)
		put := s.Append
		if lazy {
			put = byCommitter(s)
		}
		add := func(i uint64) {
			if _, err := put([]Record{dataRecord(testFile, blocktree.SectorIndex(i), 1, 512, version(i))}, func(err error) {
				if n++; err != nil {
					t.Error(err)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		add(1)
		<-first
		for i := range uint64(records) {
			add(i + 2)
		}
		close(on)
		if a, b := <-told, <-told; a != 1 || b != records {
			t.Errorf("lazy %t: %d and %d calls back, want 1 and %d", lazy, a, b, records)
		}
		if err := s.Close(nil); err != nil {
			t.Error(err)
		}
		if len(told) != 0 {
			t.Errorf("lazy %t: more was told: %d", lazy, <-told)
		}
	}
}
