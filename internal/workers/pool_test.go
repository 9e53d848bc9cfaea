package workers

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"blocktree"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// id tells goroutines apart, as a stack trace does.
func id() string {
	b := make([]byte, 64)
	b = b[:runtime.Stack(b, false)]
	for i, c := range b[len("goroutine "):] {
		if c == ' ' {
			return string(b[len("goroutine "):][:i])
		}
	}
	return ""
}

func (p *Pool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

func TestGoroutineIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pool
		var ids []string
		for range 3 {
			p.Go(func() { ids = append(ids, id()) })
			synctest.Wait()
		}
		if ids[0] != ids[1] || ids[1] != ids[2] {
			t.Errorf("goroutines %v, want one", ids)
		}
		p.Wait()
	})
}

// TestNeverWaits has more functions wait for each other than may be idle.
func TestNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pool
		const n = 2*blocktree.IdleGoroutinesMax + 1
		var all sync.WaitGroup
		all.Add(n)
		for range n {
			p.Go(func() { all.Done(); all.Wait() })
		}
		synctest.Wait()
		if got := p.count(); got != blocktree.IdleGoroutinesMax {
			t.Errorf("%d goroutines are idle, want %d", got, blocktree.IdleGoroutinesMax)
		}
		p.Wait()
	})
}

// TestIdleEnd has those go that nobody needs, and keeps those that somebody does.
func TestIdleEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pool
		round := func(n int) {
			stop := make(chan struct{})
			for range n {
				p.Go(func() { <-stop })
			}
			close(stop)
			synctest.Wait()
		}
		round(8)
		for range 4 {
			time.Sleep(blocktree.IdleGoroutineFor)
			round(3)
		}
		if got := p.count(); got != 3 {
			t.Errorf("%d goroutines are idle after three were used at a time, want those", got)
		}
		time.Sleep(3 * blocktree.IdleGoroutineFor)
		synctest.Wait()
		if got := p.count(); got != 0 {
			t.Errorf("%d goroutines are idle after nothing was done, want none", got)
		}
		round(1)
		time.Sleep(3 * blocktree.IdleGoroutineFor)
		synctest.Wait()
		if got := p.count(); got != 0 {
			t.Errorf("%d goroutines are idle later, want none", got)
		}
	}) // nobody ended it: no goroutine is left that the bubble would wait for
}

func TestWaitWaitsForFunctionsOfFunctions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pool
		done := false
		p.Go(func() {
			time.Sleep(time.Second)
			p.Go(func() {
				time.Sleep(time.Second)
				done = true
			})
		})
		p.Wait()
		if !done {
			t.Error("Wait returned while a function ran")
		}
		p.Go(func() { done = false }) // as a goroutine of its own
		p.Wait()
		if done || p.count() != 0 {
			t.Error("a function after Wait was not run, or its goroutine stays")
		}
	})
}

func TestGoexitEndsItsGoroutineOnly(t *testing.T) {
	var p Pool
	p.Go(runtime.Goexit)
	ran := false
	p.Go(func() { ran = true })
	p.Wait()
	if !ran {
		t.Error("the function after was not run")
	}
}

// TestIdleHoldsNothing has what a function used be collected while its goroutine is idle.
func TestIdleHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pool
		var used []weak.Pointer[[4096]byte]
		for range 2 {
			x := new([4096]byte)
			used = append(used, weak.Make(x))
			p.Go(func() { x[0]++ })
			synctest.Wait()
		}
		runtime.GC()
		for i, x := range used {
			if x.Value() != nil {
				t.Errorf("what function %d used is still there", i)
			}
		}
		p.Wait()
	})
}

// TestEachOnce has many callers at a time.
func TestEachOnce(t *testing.T) {
	var p Pool
	var ran atomic.Int64
	var callers sync.WaitGroup
	const each = 2000
	for range 8 {
		callers.Go(func() {
			for range each {
				p.Go(func() { ran.Add(1) })
			}
		})
	}
	callers.Wait()
	p.Wait()
	if got := ran.Load(); got != 8*each {
		t.Errorf("%d functions ran, want %d", got, 8*each)
	}
}

// deep needs so many frames of 128 bytes and some.
func deep(n int) byte {
	var room [128]byte
	room[n%128] = byte(n)
	if n == 0 {
		return room[0]
	}
	return deep(n-1) + room[n%128]
}

// BenchmarkGo compares a function that needs as much stack as a request with a goroutine of its own, and with one that was used before.
func BenchmarkGo(b *testing.B) {
	for _, frames := range []int{1, 40, 100} {
		done := make(chan struct{})
		f := func() { deep(frames); done <- struct{}{} }
		name := fmt.Sprintf("frames=%d", frames)
		b.Run(name+"/own", func(b *testing.B) {
			var wg sync.WaitGroup
			for b.Loop() {
				wg.Go(f)
				<-done
			}
			wg.Wait()
		})
		b.Run(name+"/pool", func(b *testing.B) {
			var p Pool
			for b.Loop() {
				p.Go(f)
				<-done
			}
			p.Wait()
		})
	}
}
