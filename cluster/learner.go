package cluster

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

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
			var anew []*stripe.Layout
			var gone []blocktree.FileID
			if whileCrowded(ctx, func() (err error) {
				anew, gone, err = m.compare(group)
				return err
			}) != nil {
				return // the group has stopped, and says why
			}
			layouts, removed = append(layouts, anew...), append(removed, gone...)
		}
		m.learn(layouts, removed)
	}
}

// crowdedPause lies between two tries to read the group's state.
const crowdedPause = 100 * time.Millisecond

// whileCrowded reads the group's state, again as long as too many others do, as where its disk is full.
func whileCrowded(ctx context.Context, read func() error) error {
	for {
		err := read()
		if blocktree.KindOf(err) != blocktree.Unavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(crowdedPause):
		}
	}
}

// compare returns the layouts, as they are applied now, of those files whose layouts the member has in memory, and the files that it knows and that are
// not there any more.
func (m *member) compare(group *meta.Group) (anew []*stripe.Layout, gone []blocktree.FileID, err error) {
	known := m.files()
	if gone, err = missing(known, group.EachFile); err != nil {
		return nil, nil, err
	}
	for _, f := range known {
		m.mu.Lock()
		kept := m.machine.Layout(f) != nil
		m.mu.Unlock()
		if !kept {
			continue
		}
		switch l, err := group.Layout(f); blocktree.KindOf(err) {
		case blocktree.NotFound: // it is gone, or goes
		case blocktree.Other:
			anew = append(anew, l)
		default:
			return nil, nil, err
		}
	}
	return anew, gone, nil
}

// missing returns those of some files that there are not: each tells the ones there are, ascending by inode.
func missing(files []blocktree.FileID, each func(func(blocktree.FileID) bool) error) (gone []blocktree.FileID, err error) {
	slices.SortFunc(files, func(a, b blocktree.FileID) int {
		return cmp.Or(cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.Generation, b.Generation))
	})
	at := 0
	err = each(func(f blocktree.FileID) bool {
		for ; at < len(files) && files[at].Inode < f.Inode; at++ {
			gone = append(gone, files[at])
		}
		for ; at < len(files) && files[at].Inode == f.Inode; at++ {
			if files[at] != f {
				gone = append(gone, files[at])
			}
		}
		return at < len(files)
	})
	return append(gone, files[at:]...), err
}

// files lists the files that the machine knows.
func (m *member) files() []blocktree.FileID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machine.Files()
}

// start makes the member serve under its incarnations. removed are the files that it knows and that Raft's state has no more, after everything that
// the machine may have learnt from it before a restart.
func (m *member) start(i incarnations, removed []blocktree.FileID) {
	m.mu.Lock()
	m.machine.Serve(i.disk)
	m.machine.ServeVolatile(i.volatile)
	m.mu.Unlock()
	m.learn(nil, removed)
	m.mu.Lock()
	m.serving = true
	m.mu.Unlock()
	m.wg.Go(m.checkpoints)
	m.wg.Go(m.loads)
	m.wg.Go(m.catchUps)
}

// learn passes on what the node's own Raft log says.
func (m *member) learn(layouts []*stripe.Layout, removed []blocktree.FileID) {
	m.mu.Lock()
	for _, l := range layouts {
		m.machine.Learn(l)
	}
	for _, f := range removed {
		m.forget(f)
	}
	fx := m.turn()
	m.mu.Unlock()
	m.run(fx)
}

// fileSectorsMax is more than any file has.
const fileSectorsMax = 1 << 48

// forget drops a removed file; mu is held. Its index is dropped here, since the machine does not know how long the file
// was if it has not learnt of it since the start.
func (m *member) forget(f blocktree.FileID) {
	if r, read := m.reading[f]; read {
		r.forgotten = true
		m.reading[f] = r
	}
	m.machine.Forget(f)
	if err := m.store.DropRange(f, 0, fileSectorsMax); err != nil {
		m.logger.Error("a removed file's sectors are not forgotten", "file", f.String(), "err", err)
	}
}

// loads tells the machine of the layouts that it asks for, as they are applied here. It never waits for other nodes: whoever has to goes on in catchUps.
func (m *member) loads() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.loadWake:
		}
		m.mu.Lock()
		files := m.loading
		m.loading = nil
		m.mu.Unlock()
		for _, f := range files {
			m.load(f)
		}
	}
}

// load tells the machine of a layout as it is applied here, and leaves to catchUps a file of which messages go by something newer.
func (m *member) load(f blocktree.FileID) {
	l, err := m.applied(f)
	m.mu.Lock()
	gone := m.wasRead(f)
	if m.closed {
		m.mu.Unlock()
		return
	}
	if err == nil && !gone {
		m.machine.Learn(l)
	}
	if m.machine.Waits(f) {
		m.catching = append(m.catching, f)
		signal(m.catchWake)
	} else {
		m.machine.CaughtUp(f)
	}
	fx := m.turn()
	m.mu.Unlock()
	m.run(fx)
}

// applied returns a file's layout as it is applied here; wasRead must follow.
func (m *member) applied(f blocktree.FileID) (*stripe.Layout, error) {
	m.mu.Lock()
	m.reads(f)
	m.mu.Unlock()
	return m.group.Layout(f)
}

// layoutReads are reads of a file's layout that are under way: of loads and of catchUps there may be one each.
type layoutReads struct {
	count     int
	forgotten bool // the file, since the first of them began
}

// reads notes that a file's layout is being read. mu is held.
func (m *member) reads(f blocktree.FileID) {
	r := m.reading[f]
	r.count++
	m.reading[f] = r
}

// wasRead ends reads, and reports whether the file was forgotten meanwhile: then what was read must not bring it back. mu is held.
func (m *member) wasRead(f blocktree.FileID) (gone bool) {
	r := m.reading[f]
	if r.count--; r.count == 0 {
		delete(m.reading, f)
	} else {
		m.reading[f] = r
	}
	return r.forgotten
}

// catchUps brings the node's Raft state up to now for the files whose messages go by something newer, for all of them that there are at once.
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
	read := err == nil
	if read {
		l, err = m.applied(f)
	}
	m.mu.Lock()
	gone := read && m.wasRead(f)
	if m.closed {
		m.mu.Unlock()
		return
	}
	switch {
	case err == nil && !gone:
		m.machine.Learn(l)
	case blocktree.KindOf(err) == blocktree.NotFound && m.machine.Layout(f) == nil: // else it came, or goes, by learn
		m.forget(f)
	}
	m.machine.CaughtUp(f)
	fx := m.turn()
	m.mu.Unlock()
	m.run(fx)
}
