package fastrung

import (
	"context"
	"testing"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/bttp"
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

// TestShrinkGivenUp: of a file that was to be made smaller nothing is different, but for zeros maybe, when that is given up before the cluster was asked for another size.
func TestShrinkGivenUp(t *testing.T) {
	within(t, bttp.TCP, 1, func(b *bed) {
		ctx, cancel := context.WithCancel(b.T.Context())
		cancel()
		s := b.file.(blocktree.Shrinker)
		if err := s.Shrink(ctx, 64*sectorBytes); err == nil {
			b.T.Error("it was made smaller for nobody")
		}
		if err := b.file.WriteSectors(b.T.Context(), 100, numbered(100, 1)); err != nil {
			b.T.Errorf("behind what was to be the end: %v", err)
		}
		if k, err := read(b.T.Context(), b.T, b.file, 100); k != 1 || err != nil {
			b.T.Errorf("it holds %d, %v", k, err)
		}
		if err := s.Shrink(b.T.Context(), 64*sectorBytes); err != nil || sizeOf(b.file) != 64*sectorBytes {
			b.T.Errorf("once more: %v, %d bytes", err, sizeOf(b.file))
		}
	})
}
