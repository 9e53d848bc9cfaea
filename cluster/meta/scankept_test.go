package meta

import (
	"bytes"
	"slices"
	"testing"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
	"pgregory.net/rapid"
)

// TestScanKept: what a session keeps is found from where the last scan found the first, also what came below that since.
func TestScanKept(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := founded(t, 1).cached()
		defer m.close()
		for range rapid.IntRange(1, 6).Draw(rt, "batches") {
			b := m.db.NewIndexedBatch()
			s := m.cache.apply(b)
			for range rapid.IntRange(1, 12).Draw(rt, "ops") {
				kind, id := rapid.SampledFrom([]byte{kindKept, kindKeeps}).Draw(rt, "kind"), session(rapid.IntRange(1, 2).Draw(rt, "session"))
				i := blocktree.Inode(rapid.IntRange(1, 9).Draw(rt, "inode"))
				switch rapid.IntRange(0, 5).Draw(rt, "op") {
				case 0, 1:
					s.keep(kind, id, i, nil)
				case 2, 3:
					s.del(kind, heldRest(id, i))
				case 4:
					var got, want [][]byte
					most := rapid.IntRange(1, 9).Draw(rt, "most")
					take := func(to *[][]byte) func(rest, _ []byte) bool {
						return func(rest, _ []byte) bool { *to = append(*to, bytes.Clone(rest)); return len(*to) < most }
					}
					s.scanKept(kind, id, take(&got))
					s.scan(kind, id[:], nil, take(&want))
					if !slices.EqualFunc(got, want, bytes.Equal) {
						rt.Fatalf("%x, want %x", got, want)
					}
				case 5:
					m.cache.firsts[keptKey{kind, session(9)}] = i // of others
				}
			}
			m.index++
			m.cache.begin()
			if err := b.Commit(pebble.NoSync); err != nil {
				rt.Fatal(err)
			}
			m.cache.publish(m.index, s)
		}
	})
}

// BenchmarkMakeSpares has spares made and named, in one session.
func BenchmarkMakeSpares(b *testing.B) {
	m := founded(b, 3).cached()
	begun := processorTime(b)
	for i := range b.N {
		b := m.db.NewIndexedBatch()
		s := m.cache.apply(b)
		for j := range 16 {
			s.keep(kindKept, session(1), blocktree.Inode(16*i+j+1), spareNote)
		}
		kept := 0
		s.scanKept(kindKept, session(1), func(_, _ []byte) bool { kept++; return true })
		for j := range 16 {
			s.del(kindKept, heldRest(session(1), blocktree.Inode(16*i+j+1)))
		}
		s.keep(kindKept, session(1), blocktree.Inode(16*i+100), spareNote)
		m.index++
		m.cache.begin()
		if err := b.Commit(pebble.NoSync); err != nil || kept < 16 {
			m.t.Fatal(err, kept)
		}
		m.cache.publish(m.index, s)
	}
	b.ReportMetric(float64(processorTime(b)-begun)/float64(b.N), "cpu-ns/op")
}
