package fs

import (
	"context"
	"time"

	"blocktree"
)

// sweep does what is due with time, until there is nothing left, or the service stops: then what is open is closed, and so has its name.
func (t *kept) sweep() {
	tick := time.NewTicker(blocktree.FSKeptSweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.service.ctx.Done():
			return
		case <-tick.C:
		}
		if !t.swept(time.Now()) {
			return
		}
	}
}

// swept begins what is due, and reports whether there is anything left.
func (t *kept) swept(now time.Time) bool {
	t.mu.Lock()
	var leaves []*keptHere
	var names []*given
	for path, d := range t.dirs {
		select {
		case <-d.Wanted():
			t.covet(path, now)
			d.leaving = true
		default:
			d.leaving = d.leaving || now.Sub(d.used) >= blocktree.FSKeptIdleMax || !d.Keeps()
		}
		if d.leaving && !d.draining {
			leaves = append(leaves, d)
		}
	}
	for _, g := range t.given {
		if !g.trying && now.Sub(g.at) >= blocktree.FSUnnamedMax {
			names = append(names, g)
		}
	}
	t.sweeping = len(t.dirs)+len(t.given) > 0
	more := t.sweeping
	for _, g := range names {
		g.trying = t.work(func(ctx context.Context) {
			_ = g.settle(ctx) // whoever has it open is told, and it is tried again
			t.mu.Lock()
			defer t.mu.Unlock()
			g.trying, g.at = false, time.Now()
		})
	}
	if len(leaves) > 0 && t.work(func(ctx context.Context) { _ = t.leave(ctx, leaves) }) { // likewise
		for _, d := range leaves {
			d.draining = true
		}
	}
	t.mu.Unlock()
	return more
}

// work does something beside, if there is not too much already.
func (t *kept) work(do func(context.Context)) bool {
	if !tryEnter(t.works) {
		return false
	}
	err := t.service.task(func() {
		defer leave(t.works)
		ctx, cancel := context.WithTimeout(t.service.ctx, fileTimeout)
		defer cancel()
		do(ctx)
	})
	if err != nil {
		leave(t.works)
	}
	return err == nil
}

// covet notes a directory that others want; with mu. Where there are many the oldest is forgotten.
func (t *kept) covet(path blocktree.Path, now time.Time) {
	if len(t.coveted) >= blocktree.FSKeptDirsMax {
		oldest := path
		for p, at := range t.coveted {
			if oldest == path || at.Before(t.coveted[oldest]) {
				oldest = p
			}
		}
		delete(t.coveted, oldest)
	}
	t.coveted[path] = now
}
