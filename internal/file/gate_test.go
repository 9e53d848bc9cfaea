package file

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// TestGate: a span is closed when the writes that were under way have left, keeps those out that overlap it, and nobody else.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		under, wait := g.enter(100, 1)
		if wait != nil {
			t.Fatal("nothing is closed")
		}
		var open func()
		closed := make(chan struct{})
		go func() {
			var err error
			if open, err = g.close(t.Context(), 10, 5); err != nil {
				t.Error(err)
			}
			close(closed)
		}()
		synctest.Wait()
		for _, x := range []struct {
			first, count uint64
			in           bool
		}{{0, 10, true}, {15, 3, true}, {0, 11, false}, {14, 1, false}, {12, 1, false}, {0, 100, false}} {
			phase, wait := g.enter(blocktree.SectorIndex(x.first), x.count)
			if (wait == nil) != x.in {
				t.Errorf("%d from %d: in %v", x.count, x.first, wait == nil)
			}
			if wait == nil {
				g.leave(phase)
			}
		}
		time.Sleep(time.Minute)
		select {
		case <-closed:
			t.Fatal("closed while a write is under way")
		default:
		}
		g.leave(under)
		<-closed
		var passed sync.WaitGroup
		passed.Go(func() {
			phase, err := g.pass(t.Context(), 12, 1)
			if err != nil {
				t.Error(err)
				return
			}
			g.leave(phase)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.pass(ctx, 12, 1); err == nil {
			t.Error("passed what is closed")
		}
		open()
		passed.Wait()
		if err := g.turn(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestGateTurns: with many who come and go, a turn returns when all that saw what was before it have left.
func TestGateTurns(t *testing.T) {
	var g gate
	var c struct {
		sync.Mutex
		is int // what a turn follows the change of
		n  map[int]int
	}
	c.n = map[int]int{}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				phase, _ := g.enter(0, 1)
				c.Lock()
				is := c.is
				c.n[is]++
				c.Unlock()
				c.Lock()
				c.n[is]--
				c.Unlock()
				g.leave(phase)
			}
		})
	}
	for i := range 200 {
		c.Lock()
		c.is = i + 1
		c.Unlock()
		if err := g.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Lock()
		for is, n := range c.n {
			if is <= i && n != 0 {
				t.Errorf("%d that saw %d are in after the turn to %d", n, is, i+1)
			}
		}
		c.Unlock()
	}
	close(done)
	wg.Wait()
}

// TestGateTurnGivenUp: a turn waits for those, too, whom one before has waited for in vain; and turns are one after the other.
func TestGateTurnGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		phase, _ := g.enter(0, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.turn(ctx); err == nil {
			t.Fatal("it did not wait")
		}
		turned := make(chan struct{}, 2)
		for range 2 {
			go func() {
				if err := g.turn(t.Context()); err != nil {
					t.Error(err)
				}
				turned <- struct{}{}
			}()
		}
		time.Sleep(time.Minute)
		if len(turned) != 0 {
			t.Error("a turn did not wait for who was left by the one before")
		}
		g.leave(phase)
		<-turned
		<-turned
	})
}
