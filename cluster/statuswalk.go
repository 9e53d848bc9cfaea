package cluster

import (
	"context"
	"sync"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// statusWalk asks what Status tells, several questions at a time: one after the other, nobody would wait for their answers from far away.
type statusWalk struct {
	c     *Client
	ctx   context.Context
	heard func() // somebody has answered
}

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

// list returns the entries of a directory, none of one that another cluster keeps.
func (w *statusWalk) list(dir blocktree.Path) (all []meta.DirEntry, err error) {
	for after := ""; ; {
		a, err := w.query(meta.Query{Kind: meta.QueryList, Path: dir, After: after})
		if a.Redirect != nil {
			return nil, nil
		}
		n := len(a.Entries)
		if err != nil || n == 0 {
			return all, err
		}
		if all = append(all, a.Entries...); !a.More || a.Entries[n-1].Name <= after {
			return all, nil
		}
		after = a.Entries[n-1].Name
	}
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

// files adds every file of the cluster to a status, in the order of the directories, and what the nodes that drain have of them. With an
// error there is nothing of either.
func (w *statusWalk) files(s *Status, spare int) error {
	ups := make(chan map[blocktree.FileID]copyUp, 1)
	go func() { ups <- w.c.copyUps(w.ctx) }() // it is waited for below
	d, err := w.c.drains(w.ctx)
	var found []statusFile
	if err == nil {
		w.heard()
		found, err = w.walk(nil, w.c.cfg.Scope)
	}
	if err == nil {
		err = w.layouts(found)
	}
	copyUps := <-ups
	if err != nil {
		return err
	}
	for i := range found {
		if x := &found[i]; x.layout != nil { // else it was removed meanwhile
			var up *CopyUpStatus
			if u, ok := copyUps[x.inode.ID]; ok {
				up = u.status(&x.inode)
			}
			s.add(w.c.fileStatus(x.path, &x.inode, x.layout, spare), &x.inode, up)
			d.add(x.layout, up)
		}
	}
	d.report(s)
	return nil
}

// statusFile is a file that a walk has found.
type statusFile struct {
	path   blocktree.Path
	inode  meta.Inode
	layout *stripe.Layout
}

// walk appends every file below dir.
func (w *statusWalk) walk(found []statusFile, dir blocktree.Path) ([]statusFile, error) {
	entries, err := w.list(dir)
	if blocktree.KindOf(err) == blocktree.Permission {
		return found, nil // who may not see a directory is told of the others
	}
	if err != nil {
		return nil, err
	}
	w.heard()
	for _, e := range entries {
		path := dir.Join(e.Name)
		if e.Inode.Kind == meta.KindFile && e.Inode.SectorBytes == 0 {
			continue // another cluster keeps it
		}
		if e.Inode.Kind != meta.KindDir {
			found = append(found, statusFile{path: path, inode: e.Inode})
		} else if found, err = w.walk(found, path); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// layouts asks for the layout of each file, and returns the first error.
func (w *statusWalk) layouts(files []statusFile) (first error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return first != nil
	}
	tokens := make(chan struct{}, statusAsksMax)
	for i := range files {
		if tokens <- struct{}{}; failed() {
			break
		}
		wg.Go(func() {
			defer func() { <-tokens }()
			layout, err := w.c.layout(w.ctx, &files[i].inode)
			if kind := blocktree.KindOf(err); kind == blocktree.NotFound || kind == blocktree.Permission {
				return // removed meanwhile
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
				}
				return
			}
			w.heard()
			files[i].layout = layout
		})
	}
	wg.Wait()
	return first
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
