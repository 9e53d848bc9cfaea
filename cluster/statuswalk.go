package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// statusWalk asks what Status tells, several questions at a time: one after the other, nobody would wait for their answers from far away.
type statusWalk struct {
	c     *Client
	ctx   context.Context
	ask   func(meta.Query) (meta.Answer, error) // query, but for tests
	heard func()                                // somebody has answered
}

var errNoSense = errors.New("the cluster's answer makes no sense")

// query is Client.query, of this cluster alone.
func (w *statusWalk) query(q meta.Query) (meta.Answer, error) {
	a, err := w.c.queryHere(w.ctx, q)
	if err == nil {
		err = a.Err("cluster")
	}
	if err == nil {
		w.heard()
	}
	return a, err
}

// nodes adds every node to a status, in ascending order, and returns how many serve.
func (w *statusWalk) nodes(s *Status) (live int) {
	c := w.c
	all := c.peers.nodes()
	s.Nodes = make([]NodeStatus, len(all))
	sum := newSuspectSum()
	var wg sync.WaitGroup
	defer func() {
		wg.Wait()
		w.weigh(sum, all)
		for i, n := range all {
			s.Nodes[i].Suspects = sum.suspectsOf(n)
		}
	}()
	for i, n := range all {
		node := &s.Nodes[i]
		node.Path, node.State = blocktree.Path(c.peers.runtime(n).Path.Short()), "down"
		if !c.peers.isServing(n) {
			continue
		}
		node.State, node.Via = "up", c.peers.via(n)
		if conn := c.peers.conn(n); conn != nil {
			node.Way = conn.Way()
			node.Credentials = c.credentialsStatus(conn.Peer())
		}
		live++
		wg.Go(func() {
			if r, err := c.askScrub(w.ctx, n, scrubRequest{}); err == nil {
				w.heard()
				node.Scrub = r
			}
		})
		wg.Go(func() {
			if x, err := c.askSpace(w.ctx, n); err == nil {
				w.heard()
				node.Space = &x
			}
		})
		wg.Go(func() {
			if own, told, err := c.askSuspects(w.ctx, n); err == nil {
				w.heard()
				sum.add(n, own, told)
			}
		})
	}
	return live
}

// files adds the files of the cluster to a status, in the order of the directories, and what the nodes that drain have of all. With an
// error there is nothing of either.
func (w *statusWalk) files(s *Status, spare int) error {
	ups := make(chan map[blocktree.FileID]copyUp, 1)
	go func() { ups <- w.c.copyUps(w.ctx) }() // it is waited for below
	d, err := w.c.drains(w.ctx)
	t := &fileTally{whole: statusFilesMax, hurt: statusFilesMax, drains: d}
	if err == nil {
		w.heard()
		err = w.walk(t, w.c.cfg.Scope)
	}
	copyUps := <-ups
	if err != nil {
		return err
	}
	for i := range t.found {
		x := &t.found[i]
		var up *CopyUpStatus
		if u, ok := copyUps[x.inode.ID]; ok {
			up = u.status(&x.inode)
		}
		s.add(w.c.fileStatus(x.path, &x.inode, x.layout, spare), &x.inode, up)
		d.addRates(x.layout, up)
	}
	s.addUnlisted(t.unlisted)
	d.report(s)
	return nil
}

// statusFile is a file that a walk has found.
type statusFile struct {
	path   blocktree.Path
	inode  meta.Inode
	layout *stripe.Layout
}

// fileTally is what a walk over the directories has found.
type fileTally struct {
	mu          sync.Mutex
	whole, hurt int // how many more of these are listed
	found       []statusFile
	unlisted    UnlistedFiles
	drains      drains
	dirs        []blocktree.Path // that are not walked yet
	walked      int              // that are being walked
	err         error            // the first
}

// walk counts every file below dir, and lists what there is room for in the order of the directories.
func (w *statusWalk) walk(t *fileTally, dir blocktree.Path) error {
	t.dirs = append(t.dirs, dir)
	next := sync.NewCond(&t.mu)
	var wg sync.WaitGroup
	for range statusAsksMax {
		wg.Go(func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			for {
				for t.err == nil && len(t.dirs) == 0 && t.walked > 0 {
					next.Wait()
				}
				n := len(t.dirs)
				if t.err != nil || n == 0 {
					next.Broadcast()
					return
				}
				dir := t.dirs[n-1]
				t.dirs = t.dirs[:n-1]
				t.walked++
				t.mu.Unlock()
				err := w.walkDir(t, dir)
				t.mu.Lock()
				t.walked--
				if t.err == nil {
					t.err = err
				}
				next.Broadcast()
			}
		})
	}
	wg.Wait()
	slices.SortFunc(t.found, func(a, b statusFile) int {
		return slices.Compare(strings.Split(string(a.path), "/"), strings.Split(string(b.path), "/"))
	})
	return t.err
}

// walkDir counts the files of one directory, and notes the directories in it.
func (w *statusWalk) walkDir(t *fileTally, dir blocktree.Path) error {
	for after := ""; ; {
		t.mu.Lock()
		q := meta.Query{Kind: meta.QueryFiles, Path: dir, After: after, Tell: meta.TellNone}
		if t.whole > 0 {
			q.Tell = meta.TellAll
		} else if t.hurt > 0 {
			q.Tell = meta.TellHurt
		}
		t.mu.Unlock()
		q.Serving = w.serving()
		a, err := w.ask(q)
		kind := blocktree.KindOf(err)
		switch {
		case a.Redirect != nil || kind == blocktree.NotFound && dir != w.c.cfg.Scope:
			return nil // another cluster keeps it, or it was removed meanwhile
		case kind == blocktree.Permission: // who may not see a directory is told of the others
			t.mu.Lock()
			defer t.mu.Unlock()
			t.unlisted.Directories++
			return nil
		case err != nil:
			return err
		case a.Files == nil || a.More && a.Files.After <= after:
			return blocktree.E("status", blocktree.Corrupt, errNoSense)
		}
		if err := t.add(dir, &a); err != nil || !a.More {
			return err
		}
		after = a.Files.After
	}
}

// serving are the nodes that can be reached now.
func (w *statusWalk) serving() (nodes []blocktree.NodeID) {
	for _, n := range w.c.peers.nodes() {
		if w.c.peers.isServing(n) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// add counts a page of a directory.
func (t *fileTally) add(dir blocktree.Path, a *meta.Answer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	layouts := a.Files.Layouts
	for i := range a.Entries {
		e := &a.Entries[i]
		if e.Inode.Kind == meta.KindDir {
			t.dirs = append(t.dirs, dir.Join(e.Name))
			continue
		}
		if len(layouts) == 0 || !fits(layouts[0], &e.Inode) {
			return blocktree.E("status", blocktree.Corrupt, errNoSense)
		}
		t.found = append(t.found, statusFile{dir.Join(e.Name), e.Inode, layouts[0]})
		layouts = layouts[1:]
		if t.whole > 0 {
			t.whole--
		} else {
			t.hurt--
		}
	}
	t.unlisted.Whole += a.Files.Whole
	t.unlisted.Degraded += a.Files.Degraded
	t.unlisted.Unavailable += a.Files.Unavailable
	for _, x := range a.Files.Drains {
		if d := t.drains[x.Node]; d != nil {
			d.Places += int(x.Places)
			d.LeftBytes += x.Bytes
		}
	}
	return nil
}

// addUnlisted adds files that are counted only.
func (s *Status) addUnlisted(u UnlistedFiles) {
	switch {
	case u.Unavailable > 0:
		s.Health = HealthUnavailable
	case u.Degraded > 0 && s.Health == HealthOK:
		s.Health = HealthDegraded
	}
	if u != (UnlistedFiles{}) {
		s.Unlisted = &u
	}
}

// add adds a file, and what it means for the cluster's health.
func (s *Status) add(f FileStatus, inode *meta.Inode, up *CopyUpStatus) {
	if f.InSync < inode.Code.Shards() || f.Moving > 0 {
		f.CopyUp = up
	}
	switch {
	case f.InSync < inode.Code.MinWrite():
		s.Health = HealthUnavailable
	case f.InSync < inode.Code.Shards() && s.Health == HealthOK:
		s.Health = HealthDegraded
	}
	s.Files = append(s.Files, f)
}
