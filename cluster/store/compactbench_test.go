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

// BenchmarkOverwrite is what a write of 2 KiB costs a store that is full of them and at its bound, the compactor's part included: 16 in a call, all sectors
// alike, or nine of ten writes to a tenth of them. An operation is a record.
func BenchmarkOverwrite(b *testing.B) {
	const sectors, batch = 96 << 10, 16
	for _, skewed := range []bool{false, true} {
		b.Run(map[bool]string{false: "alike", true: "skewed"}[skewed], func(b *testing.B) {
			dir, opts := b.TempDir(), Options{SegmentBytes: 4 << 20, CheckpointBytes: 64 << 20}
			if err := Create(vfs.Disk{}, dir, testID, opts); err != nil {
				b.Fatal(err)
			}
			s, err := Open(vfs.Disk{}, dir, testID, opts, &recorder{})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = s.Close(nil) })
			o := newOverwriter(b, s, sectors, 2048)
			if skewed {
				o.draw = func() int {
					if o.rng.IntN(10) > 0 {
						return o.rng.IntN(sectors / 10)
					}
					return o.rng.IntN(sectors)
				}
			}
			write := func(n, first int) {
				if err := o.write(n, first); err != nil {
					b.Fatal(err)
				}
			}
			for at := 0; at < sectors; at += batch {
				write(batch, at)
			}
			for range sectors / batch { // until it is at its bound
				write(batch, -1)
			}
			before := s.Stats()
			b.ReportAllocs()
			b.ResetTimer()
			begun := cpuNanos()
			for left := b.N; left > 0; left -= batch {
				write(min(batch, left), -1)
			}
			b.StopTimer()
			after := s.Stats()
			b.ReportMetric(float64(cpuNanos()-begun)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(after.CompactedBytes-before.CompactedBytes)/float64(after.Bytes-before.Bytes), "copied/written")
			b.ReportMetric(float64(after.DiskBytes)/float64(after.LiveBytes), "disk/live")
		})
	}
}
