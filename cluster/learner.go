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
	signal(l.wake)
}

// signal leaves a token in a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
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
		if reset { // files that went while the node was away are in no list
			known := m.files()
			all, err := allLayouts(group)
			if err != nil {
				return // the group has stopped, and says why
			}
			layouts, removed = append(layouts, all...), append(removed, missing(known, all)...)
		}
		m.learn(layouts, removed)
	}
}

// allLayouts returns every file's layout as it is applied now.
func allLayouts(group *meta.Group) (all []*stripe.Layout, err error) {
	err = group.EachLayout(func(l *stripe.Layout) bool { all = append(all, l); return true })
	return all, err
}

// missing returns the files that have no layout.
func missing(files []blocktree.FileID, layouts []*stripe.Layout) []blocktree.FileID {
	there := make(map[blocktree.FileID]bool, len(layouts))
	for _, l := range layouts {
		there[l.File] = true
	}
	return slices.DeleteFunc(files, func(f blocktree.FileID) bool { return there[f] })
}

// files lists the files that the machine knows.
func (m *member) files() []blocktree.FileID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.Files()
}

// start makes the member serve under its incarnations; layouts are those of every file there is, from Raft's state after
// everything that the machine may have learnt from it before a restart. What is not among them was removed.
func (m *member) start(i incarnations, layouts []*stripe.Layout) {
	m.mu.Lock()
	m.machine.Serve(i.disk)
	m.machine.ServeVolatile(i.volatile)
	m.mu.Unlock()
	m.learn(layouts, missing(m.files(), layouts))
	m.mu.Lock()
	m.serving = true
	m.mu.Unlock()
	m.wg.Go(m.checkpoints)
	m.wg.Go(m.catchUps)
}

// learn passes on what the node's own Raft log says.
func (m *member) learn(layouts []*stripe.Layout, removed []blocktree.FileID) {
	m.mu.Lock()
	for _, l := range layouts {
		m.learnOne(l)
	}
	for _, f := range removed {
		m.forget(f)
	}
	fx := m.turn()
	m.mu.Unlock()
	m.run(fx)
}

// learnOne passes one layout on; mu is held.
func (m *member) learnOne(l *stripe.Layout) {
	if old := m.layouts[l.File]; old == nil || old.Seq <= l.Seq {
		m.layouts[l.File] = l
	}
	m.machine.Learn(l)
}

// fileSectorsMax is more than any file has.
const fileSectorsMax = 1 << 48

// forget drops a removed file; mu is held. Its index is dropped here, since the machine does not know how long the file
// was if it has not learnt of it since the start.
func (m *member) forget(f blocktree.FileID) {
	delete(m.layouts, f)
	m.machine.Forget(f)
	if err := m.store.DropRange(f, 0, fileSectorsMax); err != nil {
		m.logger.Error("a removed file's sectors are not forgotten", "file", f.String(), "err", err)
	}
}

// catchUps brings the node's Raft state up to now whenever the machine asks for it, for all files that it asked for at once.
func (m *member) catchUps() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.catchWake:
		}
		m.mu.Lock()
		files := m.catching
		m.catching = nil
		m.mu.Unlock()
		if len(files) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(m.ctx, askTimeout)
		err := m.group.Sync(ctx)
		cancel()
		for _, f := range files {
			m.catchUp(f, err)
		}
	}
}

// catchUp tells the machine what Raft has of a file, so that it can believe (or refuse) a newer epoch or view. err is what
// came of Sync.
func (m *member) catchUp(f blocktree.FileID, err error) {
	var l *stripe.Layout
	if err == nil {
		l, err = m.group.Layout(f)
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	switch {
	case err == nil:
		m.learnOne(l)
	case blocktree.KindOf(err) == blocktree.NotFound && m.layouts[f] == nil: // else it came, or goes, by learn
		m.forget(f)
	}
	m.machine.CaughtUp(f)
	fx := m.turn()
	m.mu.Unlock()
	m.run(fx)
}
