package main

import (
	"context"
	"sync"
	"syscall"
	"time"
)

// play makes the faults of a plan at their times and takes every one of them back. It returns when the last is over.
func (w *world) play(ctx context.Context, plan []event) error {
	table := map[string]kind{}
	for _, k := range kinds() {
		table[k.name] = k
	}
	began := time.Now()
	var faults sync.WaitGroup
	defer faults.Wait()
	for _, e := range plan {
		if !sleep(ctx, time.Until(began.Add(e.at))) {
			return ctx.Err()
		}
		faults.Go(func() {
			undo, ok := table[e.kind].make(w, e)
			w.mu.Lock()
			if ok {
				w.faults[e.kind]++
			} else {
				w.skipped++
			}
			w.mu.Unlock()
			if !ok {
				return
			}
			w.log("fault %v", e)
			sleep(ctx, e.lasts)
			undo()
			w.log("fault %d is over", e.id)
		})
	}
	if !sleep(ctx, time.Until(began.Add(w.o.lasts))) {
		return ctx.Err()
	}
	return nil
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func killNode(w *world, e event) (func(), bool) {
	n := w.nodes[e.node]
	if !n.busy.TryLock() {
		return nil, false
	}
	n.kill()
	return func() {
		n.mustBegin()
		n.busy.Unlock()
	}, true
}

func pauseNode(w *world, e event) (func(), bool) {
	n := w.nodes[e.node]
	if !n.busy.TryLock() {
		return nil, false
	}
	n.signal(syscall.SIGSTOP)
	return func() {
		n.signal(syscall.SIGCONT)
		n.busy.Unlock()
	}, true
}

func restartNode(w *world, e event) (func(), bool) {
	n := w.nodes[e.node]
	if !n.busy.TryLock() {
		return nil, false
	}
	n.restart()
	return n.busy.Unlock, true
}

// takeAll locks all nodes that no other fault has, and returns them.
func (w *world) takeAll() (taken []*node, release func()) {
	for _, n := range w.nodes {
		if n.busy.TryLock() {
			taken = append(taken, n)
		}
	}
	return taken, func() {
		for _, n := range taken {
			n.busy.Unlock()
		}
	}
}

// together calls f for every node at once.
func together(nodes []*node, f func(n *node)) {
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(func() { f(n) })
	}
	all.Wait()
}

func killAll(w *world, _ event) (func(), bool) {
	nodes, release := w.takeAll()
	together(nodes, (*node).kill)
	return func() {
		together(nodes, (*node).mustBegin)
		release()
	}, len(nodes) > 0
}

// cut makes a fault of the network: between the node and everybody, or another host only; what the node gets, what it sends,
// or both.
func cut(everybody, in, out bool) func(w *world, e event) (func(), bool) {
	return func(w *world, e event) (func(), bool) {
		h := w.nodes[e.node].host
		var peer *host
		switch {
		case everybody:
		case e.other == -1:
			peer = w.writer.host
		case e.other == -2:
			peer = w.reader.host
		default:
			peer = w.nodes[e.other].host
		}
		if err := h.cut(e.id, peer, in, out); err != nil {
			w.violate("the network could not be cut: %v", err)
			return nil, false
		}
		return func() {
			if err := h.heal(e.id); err != nil {
				w.violate("the network could not be healed: %v", err)
			}
		}, true
	}
}

// target is the server of an event: mostly the one that writes.
func (w *world) target(e event) *server {
	if e.seed%4 == 0 {
		return w.reader
	}
	return w.writer
}

// narrow leaves the writer a single node: it has to reach the others through that one. Two at a time would leave it none.
func narrow(w *world, e event) (func(), bool) {
	if !w.narrowed.TryLock() {
		return nil, false
	}
	var cut []*host
	undo := func() {
		defer w.narrowed.Unlock()
		for _, h := range cut {
			if err := h.heal(e.id); err != nil {
				w.violate("the network could not be healed: %v", err)
			}
		}
	}
	for i, n := range w.nodes {
		if i == e.node {
			continue
		}
		if err := n.host.cut(e.id, w.writer.host, true, true); err != nil {
			w.violate("the network could not be cut: %v", err)
			undo()
			return nil, false
		}
		cut = append(cut, n.host)
	}
	return undo, true
}

func killServer(w *world, e event) (func(), bool) {
	s := w.target(e)
	if !s.busy.TryLock() {
		return nil, false
	}
	s.hold()
	return func() {
		s.release()
		s.busy.Unlock()
	}, true
}

func pauseServer(w *world, e event) (func(), bool) {
	s := w.target(e)
	if !s.busy.TryLock() {
		return nil, false
	}
	s.signal(syscall.SIGSTOP)
	return func() {
		s.signal(syscall.SIGCONT)
		s.busy.Unlock()
	}, true
}

func restartServer(w *world, e event) (func(), bool) {
	s := w.target(e)
	if !s.busy.TryLock() {
		return nil, false
	}
	s.end()
	return s.busy.Unlock, true
}
