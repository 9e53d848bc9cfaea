package file_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/stripe"
	"blocktree/internal/file"
)

// longSectors is a run of a mebibyte: one message for each member.
const longSectors = blocktree.RunSectorsMax

// TestLongRuns: long writes, many at a time and each with bytes of its own, are what is read afterwards, though a node is cut off and comes back while they are
// sent: the memory of one is the next one's only when nothing of it is sent any more (0040). Under the race detector what is given back is overwritten.
func TestLongRuns(t *testing.T) {
	for _, d := range []stripe.Durability{stripe.DurabilityAck, stripe.DurabilityFlush} {
		within(t, d, func(b *bed) {
			open := func() blocktree.File {
				f, err := file.Open(b.T.Context(), b.client, b.Path("/vm/plain"), file.OpenOptions{Reader: b.Reader, OpenOptions: cluster.OpenOptions{Wait: 20 * time.Second}})
				b.must(err)
				return f
			}
			f := open()
			const runs, rounds = 8, 6
			for round := range rounds {
				if round == 2 {
					b.Off(b.NodeAddr(2))
				}
				if round == 4 {
					b.On(b.NodeAddr(2))
				}
				var all sync.WaitGroup
				for i := range runs {
					all.Go(func() {
						b.must(f.WriteSectors(b.T.Context(), blocktree.SectorIndex(i*longSectors), longRun(round, i)))
					})
				}
				all.Wait()
			}
			b.must(f.Flush(b.T.Context()))
			b.must(f.Close())
			f = open()
			for i := range runs {
				got := make([]byte, longSectors*sectorBytes)
				b.must(f.ReadSectors(b.T.Context(), blocktree.SectorIndex(i*longSectors), got))
				if !bytes.Equal(got, longRun(rounds-1, i)) {
					b.T.Errorf("run %d is not what was written", i)
				}
			}
			b.must(f.Close())
		})
	}
}

// longRun is a run of its own for each round and place.
func longRun(round, i int) []byte {
	return bytes.Repeat([]byte{byte(round), byte(i), 1, byte(round * i)}, longSectors*sectorBytes/4)
}
