package store

import (
	"math/rand/v2"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// BenchmarkGather is what the compactor does with a segment of single sectors of 2 KiB, half of which are live, before it writes: each record read, looked up, and the
// live ones checked and copied. An operation is a record.
func BenchmarkGather(b *testing.B) {
	dir, opts := b.TempDir(), Options{SegmentBytes: 16 << 20, compactNever: true}
	if err := Create(vfs.Disk{}, dir, testID, opts); err != nil {
		b.Fatal(err)
	}
	s, err := Open(vfs.Disk{}, dir, testID, opts, &recorder{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close(nil) })
	const records = 6500
	write := func(sectors []int, v uint64) (first uint32) {
		done := make(chan error, len(sectors))
		for _, i := range sectors {
			rec := dataRecord(testFile, blocktree.SectorIndex(i), 1, 2048, version(v))
			refs, err := s.Append([]Record{rec}, func(err error) { done <- err })
			if err == nil {
				err = s.Index(testFile, extentOf(&rec, refs[0]))
			}
			if err != nil {
				b.Fatal(err)
			}
			if first == 0 {
				first = refs[0].Segment
			}
		}
		for range sectors {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
		return first
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(records)
	victim := write(order, 1)
	write(order[:records/2], 2)
	c := s.compactor
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.newTarget(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	begun := cpuNanos()
	for left := b.N; left > 0; left -= records {
		if err := c.choose(victim); err != nil {
			b.Fatal(err)
		}
		for more, copied := copyStepFull, 0; more != copyVictimDone; {
			if more, err = c.gather(); err != nil {
				b.Fatal(err)
			}
			copied += len(c.moves)
			if more == copyVictimDone && copied < records/2 {
				b.Fatalf("%d records copied, %d are live", copied, records/2)
			}
			c.buf, c.moves = c.buf[:0], c.moves[:0]
		}
		c.leaveVictim()
	}
	b.ReportMetric(float64(cpuNanos()-begun)/float64(b.N), "cpu-ns/op")
}
