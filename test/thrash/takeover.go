package main

import (
	"context"
	"sync"
	"syscall"
	"time"
)

const (
	// heirWithin is how long the heir may take: the lease of the one that is away, and a cluster that has faults of its own.
	heirWithin = 45 * time.Second

	// bothFor is how long both servers run when the first is back and does not know yet that it has lost its files.
	bothFor = 5 * time.Second

	heirClients = 3
)

// takeOver stops the writer, or cuts it off, until another server has taken its files and writes to them; then the first one
// goes on beside it. What it does must fail, and what it reads must be new: its clients' operations are in the same histories.
func takeOver(w *world, e event) (func(), bool) {
	s := w.writer
	if !s.busy.TryLock() {
		return nil, false
	}
	back := func() { s.signal(syscall.SIGCONT) }
	if e.seed%2 == 0 {
		if err := s.host.cut(e.id, nil, true, true); err != nil {
			w.violate("the network could not be cut: %v", err)
		}
		back = func() {
			if err := s.host.heal(e.id); err != nil {
				w.violate("the network could not be healed: %v", err)
			}
		}
	} else {
		s.signal(syscall.SIGSTOP)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	var supervisor, clients sync.WaitGroup
	supervisor.Go(func() { w.heir.supervise(ctx) })
	if err := w.heir.await(ctx, heirWithin); err != nil {
		w.note("the heir could not take over") // too few nodes at that time
		w.log("%v", err)
	} else {
		w.note("the heir took over")
	}
	for i := range heirClients {
		clients.Go(func() {
			r := w.loads.registers
			r.work(ctx, newConnection(w, w.heir, registersPath, &r.tally), e.seed+uint64(i))
		})
	}
	return func() {
		back()
		sleep(w.ctx, bothFor)
		cancel()
		supervisor.Wait() // so that it is not started again
		w.heir.end()
		clients.Wait()
		s.busy.Unlock()
	}, true
}
