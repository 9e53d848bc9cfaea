package blockdev

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"blocktree"
)

func TestRangeLockOrder(t *testing.T) {
	var l rangeLocks
	a := l.lock(t.Context(), 0, 4)
	if b := l.lock(t.Context(), 5, 9); b == nil {
		t.Fatal("a disjoint range waits")
	} else {
		l.unlock(b)
	}
	order := make(chan int, 2)
	for i, r := range [][2]blocktree.SectorIndex{{4, 8}, {8, 12}} { // the second overlaps only the first
		before := l.newest
		go func() {
			k := l.lock(context.Background(), r[0], r[1])
			order <- i
			l.unlock(k)
		}()
		until(t, "it asked", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.newest != before
		})
	}
	if len(order) != 0 {
		t.Fatal("an overlapping range did not wait")
	}
	l.unlock(a)
	if first, second := <-order, <-order; first != 0 || second != 1 {
		t.Fatalf("order %d, %d", first, second)
	}
}

func TestRangeLockGivesUp(t *testing.T) {
	var l rangeLocks
	a := l.lock(t.Context(), 0, 4)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if l.lock(ctx, 4, 5) != nil {
		t.Fatal("locked twice")
	}
	b := l.lock(t.Context(), 5, 5) // only the one that gave up was in the way
	l.unlock(b)
	l.unlock(a)
	if l.oldest != nil || l.newest != nil {
		t.Fatal("a lock was left behind")
	}
}

// TestRangeLockExcludes lets goroutines lock random ranges, some of them impatiently, and looks for two inside one sector.
func TestRangeLockExcludes(t *testing.T) {
	var l rangeLocks
	var inside [16]atomic.Int32
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(g)))
			for range 2000 {
				first := r.IntN(16)
				last := first + r.IntN(16-first)
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(4) == 0 {
					cancel()
				}
				if k := l.lock(ctx, blocktree.SectorIndex(first), blocktree.SectorIndex(last)); k != nil {
					for i := first; i <= last; i++ {
						if inside[i].Add(1) != 1 {
							t.Error("two hold the same sector")
						}
					}
					for i := first; i <= last; i++ {
						inside[i].Add(-1)
					}
					l.unlock(k)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if l.oldest != nil || l.newest != nil {
		t.Fatal("a lock was left behind")
	}
}
