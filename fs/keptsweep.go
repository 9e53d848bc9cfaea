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
	left, old := []*keptHere(nil), t.agedAsides(now)
	var names []*given
	holds := map[*keptHere]bool{}
	for _, g := range t.given {
		holds[g.dir] = true
		if !g.trying && now.Sub(g.at) >= blocktree.FSUnnamedMax {
			names = append(names, g)
		}
	}
	for _, d := range t.dirs {
		select {
		case <-d.Wanted():
			d.leaving = true
		default:
			d.leaving = d.leaving || now.Sub(d.used) >= blocktree.FSKeptIdleMax && !now.Before(d.term) || !d.Keeps()
		}
		switch {
		case !d.leaving || d.draining || now.Before(d.again) || now.Before(d.term):
		case holds[d] || len(d.busy)+len(d.wholes) > 0: // one by one: what hangs keeps none of the others
			d.draining = t.work(func(ctx context.Context) {
				_ = t.leave(ctx, nil, []*keptHere{d}) // whoever has a file open is told, and it is tried again
			})
		case t.dropLocked(d):
			left = append(left, d)
		}
	}
	for _, g := range names {
		g.trying = t.work(func(ctx context.Context) {
			_ = g.settle(ctx) // likewise
			t.mu.Lock()
			defer t.mu.Unlock()
			g.trying, g.at = false, time.Now()
		})
	}
	t.counted()
	t.sweeping = !t.idle()
	more := t.sweeping
	t.mu.Unlock()
	for _, d := range left {
		d.Leave()
	}
	for _, a := range old {
		a.Leave()
	}
	return more
}

// work does something beside, if there is not too much already.
func (t *kept) work(do func(context.Context)) bool {
	if !tryEnter(t.works) {
		return false
	}
	err := t.service.task(func() {
		defer leave(t.works)
		ctx, cancel := context.WithTimeout(t.service.ctx, tellTimeout) // what is not known then is asked again
		defer cancel()
		do(ctx)
	})
	if err != nil {
		leave(t.works)
	}
	return err == nil
}
