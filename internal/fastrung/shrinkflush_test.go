package fastrung

import (
	"testing"

	"blocktree"
	"blocktree/cluster"
)

// TestShrinksLiveFlush: a file of durability flush is made smaller while it is open, and then all nodes lose their power. What was acknowledged before the cut is there,
// though nobody asked for a flush; the size is the new one, and what was cut is zeros when the file grows again.
func TestShrinksLiveFlush(t *testing.T) {
	const small, large = 8 << 20, 16 << 20
	flushing(t, 1, 1, func(b *flushBed, seed uint64) {
		at := blocktree.SectorIndex(small / sectorBytes)
		b.put(0, flushSectors, 1)
		for s := at; s < at+8; s++ {
			if err := b.lazy.WriteSectors(b.T.Context(), s, numbered(s, 2)); err != nil {
				b.T.Fatal(err)
			}
		}
		other := b.Client()
		sized := func(bytes uint64, shrink bool) {
			b.T.Helper()
			_, _, err := other.Resize(b.T.Context(), b.Path("/vm/lazy"), cluster.ResizeOptions{Bytes: func(uint64) (uint64, error) { return bytes, nil }, Shrink: shrink, Live: shrink})
			if err != nil {
				b.T.Fatal(err)
			}
		}
		stop := b.follow(b.lazy, func() {})
		sized(small, true)
		stop()
		copy(b.flushed, b.acked)
		if got := sizeOf(b.lazy); got != small {
			b.T.Errorf("the holder has %d bytes", got)
		}
		b.PowerLoss(seed, 0, 1, 2)
		b.back()
		b.lost()
		if got := sizeOf(b.lazy); got != small {
			b.T.Errorf("after the loss it has %d bytes", got)
		}
		sized(large, false)
		b.await("the holder to hear", heard, func() bool { return sizeOf(b.lazy) == large })
		b.zeros(b.lazy, at, at+16)
	})
}
