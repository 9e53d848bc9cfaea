package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// BenchmarkFdatasync is the yardstick: write 2.5 KiB, sync, one at a time, into an allocated file.
func BenchmarkFdatasync(b *testing.B) {
	f, err := vfs.Disk{}.Create(b.TempDir() + "/f")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Allocate(blocktree.SegmentBytes); err != nil {
		b.Fatal(err)
	}
	buf := fillBytes(2560, 1)
	b.ReportAllocs()
	off := int64(0)
	for b.Loop() {
		if _, err := f.WriteAt(buf, off%blocktree.SegmentBytes); err != nil {
			b.Fatal(err)
		}
		if err := f.Datasync(); err != nil {
			b.Fatal(err)
		}
		off += 2560
	}
}

func openBench(b *testing.B) *Store {
	b.Helper()
	dir := b.TempDir()
	if err := Create(vfs.Disk{}, dir, testID, Options{}); err != nil {
		b.Fatal(err)
	}
	s, err := Open(vfs.Disk{}, dir, testID, Options{}, &recorder{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close(nil) })
	return s
}

// checkpointIfWanted keeps the disk's use bounded, as an owner does.
func checkpointIfWanted(b *testing.B, s *Store) {
	select {
	case <-s.CheckpointWanted():
		c, err := s.BeginCheckpoint(nil)
		if err != nil {
			return // another writer's is under way
		}
		if err := c.Finish(); err != nil {
			b.Error(err)
		}
	default:
	}
}

// BenchmarkAppend is durable appends of 2 KiB shards by so many writers, each awaiting its own, and their Index.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 8, 32, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := openBench(b)
			r := dataRecord(testFile, 0, 1, 2048, version(1))
			var wg sync.WaitGroup
			var mu sync.Mutex
			v, left := uint64(0), b.N
			b.ReportAllocs()
			b.SetBytes(2048)
			b.ResetTimer()
			before := s.Stats()
			for range writers {
				wg.Go(func() {
					done := make(chan error, 1)
					callback := func(err error) { done <- err }
					rec := []Record{r}
					for {
						mu.Lock()
						if left == 0 {
							mu.Unlock()
							return
						}
						left--
						v++
						rec[0].Version = version(v)
						rec[0].First = blocktree.SectorIndex(v * 7919 % 262144)
						mu.Unlock()
						refs, err := s.Append(rec, callback)
						if err != nil {
							b.Error(err)
							return
						}
						if err := <-done; err != nil {
							b.Error(err)
							return
						}
						if err := s.Index(testFile, extentOf(&rec[0], refs[0])); err != nil {
							b.Error(err)
						}
						checkpointIfWanted(b, s)
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			after := s.Stats()
			b.ReportMetric(float64(after.Records-before.Records)/float64(after.Syncs-before.Syncs), "records/sync")
		})
	}
}

// BenchmarkAppendLarge is durable appends of records of 256 shards of 2 KiB, eight in flight, through the page cache and past it. The file system decides which; cpu-µs/op is the process's.
func BenchmarkAppendLarge(b *testing.B) {
	r := dataRecord(testFile, 0, 256, 2048, version(1))
	b.Run("cached", func(b *testing.B) { appendLarge(b, r) })
	r.Payload = shifted(r.Payload)
	b.Run("direct", func(b *testing.B) { appendLarge(b, r) })
}

func appendLarge(b *testing.B, r Record) {
	s := openBench(b)
	b.ReportAllocs()
	b.SetBytes(256 * 2048)
	b.ResetTimer()
	begun := cpuNanos()
	slots := make(chan struct{}, 8)
	for i := range b.N {
		slots <- struct{}{}
		rec := r
		rec.Version = version(uint64(i + 1))
		rec.First = blocktree.SectorIndex(i % 1024 * 256)
		var refs []Ref
		ready := make(chan struct{})
		refs, err := s.Append([]Record{rec}, func(err error) {
			<-ready
			if err == nil {
				err = s.Index(testFile, extentOf(&rec, refs[0]))
			}
			if err != nil {
				b.Error(err)
			}
			<-slots
		})
		if err != nil {
			b.Fatal(err)
		}
		close(ready)
		checkpointIfWanted(b, s)
	}
	for range cap(slots) {
		slots <- struct{}{}
	}
	b.ReportMetric(float64(cpuNanos()-begun)/1e3/float64(b.N), "cpu-µs/op")
}

// BenchmarkReadShards reads one sector of records of one sector, and of records of 256.
func BenchmarkReadShards(b *testing.B) {
	for _, x := range []struct{ record, read uint32 }{{1, 1}, {256, 1}, {256, 256}} {
		b.Run(fmt.Sprintf("record=%d/read=%d", x.record, x.read), func(b *testing.B) {
			s := openBench(b)
			const sectors = 4096
			for i := uint32(0); i < sectors; i += x.record {
				put(b, s, dataRecord(testFile, blocktree.SectorIndex(i), x.record, 2048, version(uint64(i+1))))
			}
			payload, seals := make([]byte, x.read*2048), make([]byte, x.read*SealBytes)
			var found []Extent
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			i := uint32(0)
			for b.Loop() {
				i = (i + 7919*x.read) % sectors / x.read * x.read
				var err error
				found, err = s.Lookup(testFile, blocktree.SectorIndex(i), x.read, found[:0])
				if err != nil {
					b.Fatal(err)
				}
				if err := s.ReadShards(testFile, found[0], payload, seals); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAppendLazy is BenchmarkAppend of records that are waited for to be written only, all synced after each thousand: beside
// the durable ones it says what durability flush can gain at most.
func BenchmarkAppendLazy(b *testing.B) {
	for _, writers := range []int{1, 32} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := openBench(b)
			var wg sync.WaitGroup
			var v atomic.Int64
			b.SetBytes(2048)
			b.ResetTimer()
			before := s.Stats()
			for range writers {
				wg.Go(func() {
					done := make(chan error, 1)
					callback := func(err error) { done <- err }
					for {
						n := v.Add(1)
						if n > int64(b.N) {
							return
						}
						rec := []Record{dataRecord(testFile, blocktree.SectorIndex(n*7919%262144), 1, 2048, version(uint64(n)))}
						refs, err := byCaller(s)(rec, callback)
						if err == nil {
							err = <-done
						}
						if err == nil && n%1000 == 0 {
							if err = s.Sync(callback); err == nil {
								err = <-done
							}
						}
						if err == nil {
							err = s.Index(testFile, extentOf(&rec[0], refs[0]))
						}
						if err != nil {
							b.Error(err)
							return
						}
						checkpointIfWanted(b, s)
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(s.Stats().Syncs-before.Syncs)/float64(b.N), "syncs/op")
		})
	}
}
