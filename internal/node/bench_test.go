package node_test

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"blocktree"
	"blocktree/internal/testenv"
)

// BenchmarkFile measures the whole line below the block device: one client, three nodes, all in this process.
func BenchmarkFile(b *testing.B) {
	const size = 64 << 20
	for _, x := range []struct {
		name  string
		bytes int
		write bool
		depth int
	}{
		{"write4k-1", 4096, true, 1}, {"write4k-32", 4096, true, 32}, {"read4k-1", 4096, false, 1}, {"read4k-32", 4096, false, 32},
		{"write1m-8", 1 << 20, true, 8}, {"read1m-8", 1 << 20, false, 8},
	} {
		b.Run(x.name, func(b *testing.B) {
			d := testenv.New(b, 3)
			d.StartAll()
			c := d.Client()
			d.Create(c, "/vm/disk0", size, blocktree.Code{Data: 2, Parity: 1})
			f := d.Open(c, "/vm/disk0")
			buf := pattern(1, 1<<20)
			for at := 0; at < size; at += len(buf) {
				if err := f.WriteSectors(b.Context(), blocktree.SectorIndex(at/4096), buf); err != nil {
					b.Fatal(err)
				}
			}
			var seed atomic.Uint64
			b.SetBytes(int64(x.bytes))
			b.SetParallelism(max(1, x.depth/2))
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				r := rand.New(rand.NewPCG(seed.Add(1), 2))
				buf := pattern(r.Uint64(), x.bytes)
				for pb.Next() {
					first := blocktree.SectorIndex(r.IntN(size/x.bytes) * (x.bytes / 4096))
					var err error
					if x.write {
						err = f.WriteSectors(b.Context(), first, buf)
					} else {
						err = f.ReadSectors(b.Context(), first, buf)
					}
					if err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
			if err := f.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
