package store

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"blocktree"
)

// cpuNanos is what this process has used: on a machine with other work it says more than the clock.
func cpuNanos() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkIndexPages sets and looks up single sectors in 512 MiB of pages that have a run for each sector, as random writes leave them.
func BenchmarkIndexPages(b *testing.B) {
	const sectors = 512 << 20 / blocktree.SectorBytesDefault
	ix := newIndex(identity{}, newPins(), 1<<30)
	set := func(i uint64, v uint64) error {
		n := run{version: version(v), at: place(v), shardBytes: 2048, first: uint16(i % PageSectors), count: 1, recCount: 1, content: Data}
		return ix.set(pageKey{testFile, i / PageSectors}, n)
	}
	for i := range uint64(sectors) {
		if err := set(i, i+1); err != nil {
			b.Fatal(err)
		}
	}
	v := uint64(sectors)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, x := range []struct {
		what string
		do   func(i uint64) error
	}{
		{"set", func(i uint64) error { v++; return set(i, v) }},
		{"lookup", func(i uint64) error {
			var room [4]Extent
			_, err := ix.lookup(testFile, blocktree.SectorIndex(i), 1, room[:0])
			return err
		}},
	} {
		b.Run(x.what, func(b *testing.B) {
			b.ReportAllocs()
			begun := cpuNanos()
			for range b.N {
				if err := x.do(rng.Uint64N(sectors)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuNanos()-begun)/float64(b.N), "cpu-ns/op")
		})
	}
}
