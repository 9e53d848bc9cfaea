package bttp

import (
	"runtime"
	"sync"
	"testing"
)

// TestWokenWriterGoesLast: a lane's goroutine that is woken for a message lets those run that are ready to, each with a message of its own, and writes all
// of them at once. On one processor, and the best of many rounds: the scheduler may do otherwise at any time.
func TestWokenWriterGoesLast(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const senders, rounds, few = 16, 100, 2
	best := senders
	for range rounds {
		c := newFakeCarrier()
		for range senders {
			c.gate <- struct{}{}
		}
		l := testLane(t, c)
		var all sync.WaitGroup
		for i := range senders {
			all.Go(func() {
				m := oneWay(100, byte(i), nil)
				m.more = true
				if err := l.send(m, true); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for written := false; !written; runtime.Gosched() {
			l.mu.Lock()
			written = !l.writing
			l.mu.Unlock()
		}
		got, flushes := c.total()
		if n := len(bodies(t, got)); n != senders {
			t.Fatalf("%d messages of %d", n, senders)
		}
		best = min(best, flushes)
	}
	if best > few {
		t.Errorf("%d messages were never written in less than %d", senders, best)
	}
}
