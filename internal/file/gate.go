package file

import (
	"context"
	"sync/atomic"
	"time"

	"blocktree"
)

// gate is what every write passes: it knows when all that began before a moment have ended, and keeps writes out of the sectors that are being re-sealed.
// Many goroutines may pass and turn it; one at a time closes a span.
type gate struct {
	phase atomic.Uint32
	in    [2]atomic.Int64 // writes that have entered and not left, by the phase they entered in
	span  atomic.Pointer[span]
	total atomic.Uint64 // writes that ever entered

	turning atomic.Bool
}

// span is a range of sectors that no write may enter until over is closed.
type span struct {
	first blocktree.SectorIndex
	count uint64
	over  chan struct{}
}

func (s *span) overlaps(first blocktree.SectorIndex, count uint64) bool {
	return uint64(first) < uint64(s.first)+s.count && uint64(s.first) < uint64(first)+count
}

// enter lets a write in, which must leave by the phase that is returned; or returns the span that it must wait for. What was stored before a turn began is seen
// by all who enter and are not waited for by that turn.
func (g *gate) enter(first blocktree.SectorIndex, count uint64) (phase uint32, wait *span) {
	p := g.begin()
	if s := g.span.Load(); s != nil && s.overlaps(first, count) {
		g.leave(p)
		return 0, s
	}
	g.total.Add(1)
	return p, nil
}

// begin is enter of who has closed a span, and writes in it.
func (g *gate) begin() (phase uint32) {
	for {
		p := g.phase.Load() & 1
		g.in[p].Add(1)
		if g.phase.Load()&1 == p {
			return p
		}
		g.in[p].Add(-1) // it turned meanwhile, and may not have seen this one
	}
}

// pass is enter that waits.
func (g *gate) pass(ctx context.Context, first blocktree.SectorIndex, count uint64) (phase uint32, err error) {
	for {
		p, wait := g.enter(first, count)
		if wait == nil {
			return p, nil
		}
		select {
		case <-wait.over:
		case <-ctx.Done():
			return 0, blocktree.E("file", blocktree.Canceled, ctx.Err())
		}
	}
}

func (g *gate) leave(phase uint32) { g.in[phase].Add(-1) }

// turnPause lies between two looks whether the writes of a phase have ended.
const turnPause = time.Millisecond

// turn returns when all writes that had entered before have left. One goroutine turns at a time.
func (g *gate) turn(ctx context.Context) error {
	if err := g.until(ctx, func() bool { return g.turning.CompareAndSwap(false, true) }); err != nil {
		return err
	}
	defer g.turning.Store(false)
	old := g.phase.Load() & 1
	if err := g.until(ctx, func() bool { return g.in[1-old].Load() == 0 }); err != nil { // those whom a turn that was given up has left
		return err
	}
	g.phase.Add(1)
	return g.until(ctx, func() bool { return g.in[old].Load() == 0 })
}

// until looks again and again.
func (g *gate) until(ctx context.Context, done func() bool) error {
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(turnPause):
		}
	}
	return nil
}

// close keeps writes out of a span until open is called, and returns when those that were in it have left.
func (g *gate) close(ctx context.Context, first blocktree.SectorIndex, count uint64) (open func(), err error) {
	s := &span{first: first, count: count, over: make(chan struct{})}
	g.span.Store(s)
	open = func() {
		g.span.Store(nil)
		close(s.over)
	}
	if err := g.turn(ctx); err != nil {
		open()
		return nil, err
	}
	return open, nil
}
