package cluster

import (
	"context"
	"maps"
	"slices"
	"sync"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// learner passes what Raft applied on to the member from a goroutine of its own, so that a member that waits for its
// disk never holds up the group. Only the newest layout of a file waits.
type learner struct {
	mu      sync.Mutex
	layouts map[blocktree.FileID]*stripe.Layout
	removed map[blocktree.FileID]bool
	reset   bool
	wake    chan struct{}
}

func (l *learner) init() {
	l.layouts, l.removed = map[blocktree.FileID]*stripe.Layout{}, map[blocktree.FileID]bool{}
	l.wake = make(chan struct{}, 1)
}

// applied is meta.Config.OnApply.
func (l *learner) applied(c meta.Changes) {
	if len(c.Layouts) == 0 && len(c.Removed) == 0 && !c.Reset {
		return
	}
	l.mu.Lock()
	for _, x := range c.Layouts {
		l.layouts[x.File] = x
	}
	for _, f := range c.Removed {
		l.removed[f] = true
		delete(l.layouts, f)
	}
	l.reset = l.reset || c.Reset
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run passes changes on until ctx ends.
func (l *learner) run(ctx context.Context, m *member, group *meta.Group) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		l.mu.Lock()
		layouts, removed, reset := slices.Collect(maps.Values(l.layouts)), slices.Collect(maps.Keys(l.removed)), l.reset
		clear(l.layouts)
		clear(l.removed)
		l.reset = false
		l.mu.Unlock()
		if reset {
			_ = group.EachLayout(func(x *stripe.Layout) bool { layouts = append(layouts, x); return true })
		}
		m.learn(layouts, removed)
	}
}
