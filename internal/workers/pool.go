package workers

import (
	"slices"
	"sync"
	"time"

	"blocktree"
)

// Pool is a sync.WaitGroup whose goroutines are used again. Its zero value is ready; it must not be copied. A panic of a function ends the process, and runtime.Goexit ends its goroutine, as in a goroutine of its own.
type Pool struct {
	wg sync.WaitGroup // of the goroutines

	mu      sync.Mutex
	idle    []chan func() // what each waits at, the one that became idle last at the end
	unused  int           // so many, from the first, have been idle since trim ran, or longer
	trimmer *time.Timer
	trims   bool // the trimmer is set
	ended   bool
}

// Go runs f in a goroutine. It does not block. As of a WaitGroup, it must not be called at the same time as Wait unless a function that Wait waits for calls it; from Wait on a goroutine is used once.
func (p *Pool) Go(f func()) {
	p.mu.Lock()
	last := len(p.idle) - 1
	if last < 0 {
		p.mu.Unlock()
		p.wg.Go(func() { p.work(f) })
		return
	}
	next := p.idle[last]
	p.idle[last], p.idle = nil, p.idle[:last]
	p.unused = min(p.unused, last)
	p.mu.Unlock()
	next <- f // it has room
}

// work runs f, and what comes after it.
func (p *Pool) work(f func()) {
	f()
	for next := make(chan func(), 1); p.park(next); {
		f, ok := <-next
		if !ok {
			return
		}
		f()
	}
}

// park has the goroutine that waits at next be one of the idle, if there is need of it.
func (p *Pool) park(next chan func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || len(p.idle) >= blocktree.IdleGoroutinesMax {
		return false
	}
	p.idle = append(p.idle, next)
	if !p.trims {
		p.trims = true
		if p.trimmer == nil {
			p.trimmer = time.AfterFunc(blocktree.IdleGoroutineFor, p.trim)
		} else {
			p.trimmer.Reset(blocktree.IdleGoroutineFor)
		}
	}
	return true
}

// trim ends the idle that nobody has needed since it ran last.
func (p *Pool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, next := range p.idle[:p.unused] {
		close(next)
	}
	p.idle = slices.Delete(p.idle, 0, p.unused)
	p.unused = len(p.idle)
	if p.trims = p.unused > 0; p.trims {
		p.trimmer.Reset(blocktree.IdleGoroutineFor)
	}
}

// end has the idle goroutines end, and every other one when its function has returned. It does not wait for them.
func (p *Pool) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	for _, next := range p.idle {
		close(next)
	}
	p.idle, p.unused = nil, 0
	if p.trimmer != nil {
		p.trimmer.Stop()
	}
}

// Wait is end, and returns when every function has returned and its goroutine ended.
func (p *Pool) Wait() {
	p.end()
	p.wg.Wait()
}
