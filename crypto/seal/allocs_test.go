//go:build !race

// Under the race detector sync.Pool drops items on purpose, so allocations are counted without it.

package seal

import (
	"testing"

	"blocktree"
)

func TestNoAllocations(t *testing.T) {
	for _, suite := range []Suite{XAES256GCM, None} {
		writer, reader := New(testKey, suite, testFile, 2), New(testKey, suite, testFile, 2)
		sector, b, header := randomSector(4096), make([]byte, 4096), make([]byte, HeaderBytes)
		got := testing.AllocsPerRun(1000, func() {
			writer.Seal(b, sector, testIndex, testAt, header)
			if reader.Open(b, b, testIndex, testAt, header) != nil {
				panic("not opened")
			}
			Leaf(testFile, testIndex, testAt, HeaderNonce(header), HeaderTag(header), b)
		})
		if got != 0 {
			t.Errorf("%v: %v allocations per sector", suite, got)
		}
	}
}

func TestRunsTakeNoMemory(t *testing.T) {
	for _, suite := range []Suite{XAES256GCM, None} {
		s, run, src := New(testKey, suite, testFile, 2), newTestRun(32, 4096), randomSector(32*4096)
		if n := testing.AllocsPerRun(100, func() { s.SealRun(run, src, 4096, testIndex, testAt) }); n != 0 {
			t.Errorf("%v: %v allocations per run", suite, n)
		}
	}
}

// BenchmarkSealRun is of a MiB, as one run and sector by sector.
func BenchmarkSealRun(b *testing.B) {
	const count, size = 256, 4096
	s, run, src := New(testKey, XAES256GCM, testFile, 2), newTestRun(count, size), randomSector(count*size)
	b.Run("run", func(b *testing.B) {
		b.SetBytes(count * size)
		for b.Loop() {
			s.SealRun(run, src, size, testIndex, testAt)
		}
	})
	b.Run("sectors", func(b *testing.B) {
		var room [2][]byte
		b.SetBytes(count * size)
		for b.Loop() {
			for i := range count {
				s.SealParts(run.Parts(i, room[:0]), src[i*size:(i+1)*size], testIndex+blocktree.SectorIndex(i), testAt, run.Seal(i))
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, n int) {
		s, sector, out, header := New(testKey, XAES256GCM, testFile, 2), randomSector(n), make([]byte, n), make([]byte, HeaderBytes)
		for i := 0; b.Loop(); i++ {
			s.Seal(out, sector, blocktree.SectorIndex(i), testAt, header)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, n int) {
		s := New(testKey, XAES256GCM, testFile, 2)
		got, header := sealed(s, randomSector(n))
		out := make([]byte, n)
		for b.Loop() {
			if s.Open(out, got, testIndex, testAt, header) != nil {
				b.Fatal("not opened")
			}
		}
	})
}

func BenchmarkLeaf(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, n int) {
		sector, header := randomSector(n), make([]byte, HeaderBytes)
		for b.Loop() {
			Leaf(testFile, testIndex, testAt, HeaderNonce(header), HeaderTag(header), sector)
		}
	})
}

// BenchmarkPlainGCM is the yardstick: AES-256-GCM with a counter as nonce, no leaf.
func BenchmarkPlainGCM(b *testing.B) {
	benchmarkSizes(b, func(b *testing.B, n int) {
		aead := newDeriver(testKey).aead(prefix{})
		sector, out, nonce, aad := randomSector(n), make([]byte, 0, n+TagBytes), make([]byte, suffixBytes), make([]byte, additionalBytes)
		for b.Loop() {
			nonce[0]++
			aead.Seal(out, nonce, sector, aad)
		}
	})
}

func BenchmarkRandom12(b *testing.B) {
	var nonce [suffixBytes]byte
	for b.Loop() {
		randomBytes(nonce[:])
	}
}

func BenchmarkDerive(b *testing.B) {
	d := newDeriver(testKey)
	for b.Loop() {
		d.aead(prefix{1})
	}
}

func benchmarkSizes(b *testing.B, run func(*testing.B, int)) {
	for _, x := range []struct {
		name  string
		bytes int
	}{{"512", 512}, {"4KiB", 4 << 10}, {"64KiB", 64 << 10}} {
		b.Run(x.name, func(b *testing.B) {
			b.SetBytes(int64(x.bytes))
			b.ReportAllocs()
			run(b, x.bytes)
		})
	}
}
