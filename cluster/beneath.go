package cluster

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// Beneath says of a cluster beneath a directory where something is in force in it that was said above.
type Beneath struct {
	Dir            blocktree.Path   // whose cluster it is
	Nodes, Missing []blocktree.Path // that go by it, and that have not said so
	// Err is why nobody of it could be asked: it goes by what it knew before, until it hears of its parent again.
	Err error
}

const (
	// beneathWait is how long a cluster beneath is waited for: it asks its parent each second, and three levels down that has happened three times.
	beneathWait = 5 * time.Second
	// beneathPause lies between two questions to one of its nodes.
	beneathPause = 100 * time.Millisecond
	// beneathAtOnce are asked at the same time.
	beneathAtOnce = 16
	// beneathMax bounds the clusters that are asked for one change: as many as a domain may have, and an end where one of them makes others up.
	beneathMax = 16 * meta.ChildrenMax
)

// beneath calls do with the client of each cluster beneath a directory of this client's cluster, to any depth, many at a time, and returns what it says, ascending by directory. With more there are others, which were not asked.
func (c *Client) beneath(ctx context.Context, path blocktree.Path, do func(ctx context.Context, cc *Client, b *Beneath)) (out []Beneath, more bool) {
	w := beneathWalk{room: make(chan struct{}, beneathAtOnce), met: map[blocktree.Path]bool{},
		children: func(of *Client, path blocktree.Path) (meta.Answer, error) {
			short, cancel := context.WithTimeout(ctx, beneathWait)
			defer cancel()
			a, err := of.queryHere(short, meta.Query{Kind: meta.QueryChildren, Path: path})
			if err == nil {
				err = a.Err("cluster")
			}
			return a, err
		},
		ask: func(of *Client, dir blocktree.Path) (Beneath, *Client) { return of.askBeneath(ctx, dir, do) }}
	w.visit(c, path)
	w.wg.Wait()
	slices.SortStableFunc(w.out, func(a, b Beneath) int { return strings.Compare(string(a.Dir), string(b.Dir)) })
	return w.out, w.more
}

// beneathWalk goes from a cluster to those beneath it. What a cluster says of its children is believed of directories below its own, at or beneath the one that is meant, and each is asked once: one that lies leads nobody around.
type beneathWalk struct {
	children func(of *Client, path blocktree.Path) (meta.Answer, error)
	ask      func(of *Client, dir blocktree.Path) (Beneath, *Client)
	room     chan struct{} // a token per cluster that is being asked

	wg   sync.WaitGroup
	mu   sync.Mutex
	met  map[blocktree.Path]bool
	out  []Beneath
	more bool
}

// visit asks a cluster for its children beneath a directory, and each of those for theirs.
func (w *beneathWalk) visit(of *Client, path blocktree.Path) {
	a, err := w.children(of, path)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.more = w.more || a.More; err != nil {
		w.out = append(w.out, Beneath{Dir: path, Err: err})
	}
	for _, dir := range a.Children {
		switch {
		case dir == of.cfg.Scope || !dir.Within(path) || w.met[dir]:
			continue
		case len(w.met) == beneathMax:
			w.more = true
			return
		}
		w.met[dir] = true
		w.wg.Go(func() {
			w.room <- struct{}{}
			b, cc := w.ask(of, dir)
			<-w.room
			w.mu.Lock()
			w.out = append(w.out, b)
			w.mu.Unlock()
			if cc != nil {
				w.visit(cc, dir)
			}
		})
	}
}

// askBeneath has do ask one of them; the client is nil where it cannot be asked.
func (c *Client) askBeneath(ctx context.Context, dir blocktree.Path, do func(context.Context, *Client, *Beneath)) (Beneath, *Client) {
	b := Beneath{Dir: dir}
	ctx, cancel := context.WithTimeout(ctx, beneathWait)
	defer cancel()
	cc, err := c.ClusterOf(ctx, dir)
	if err == nil && cc.Scope() != dir {
		err = blocktree.E("cluster of "+dir.Short(), blocktree.Unavailable, nil)
	}
	if err != nil {
		b.Err = err
		return b, nil
	}
	cc.tree.enter(cc)
	defer cc.tree.leave(cc)
	do(ctx, cc, &b)
	return b, cc
}

// awaitLevel returns where the clusters beneath a directory go by what is to be known of that, as it is now.
func (c *Client) awaitLevel(ctx context.Context, path blocktree.Path) ([]Beneath, bool) {
	depth := strings.Count(string(path), "/") - 1 // of the root directory 0
	return c.beneath(ctx, path, func(ctx context.Context, cc *Client, b *Beneath) {
		i, a, err := c.Allowed(ctx, path)
		if err != nil {
			b.Err = err
			return
		}
		want := meta.Level{Mode: i.Mode, UID: i.UID, GID: i.GID, Grants: a.Grants, Last: a.Last}
		cc.eachNode(ctx, b, func(ctx context.Context, ask func(meta.Query) (meta.Answer, error)) bool {
			known, err := ask(meta.Query{Kind: meta.QueryKnown})
			return err == nil && known.Above != nil && depth >= 0 && depth < len(known.Above.Levels) && reflect.DeepEqual(known.Above.Levels[depth], want)
		})
	})
}

// eachNode asks each node, again and again until it says yes or ctx ends; once, if it has been away for appliedWait.
func (c *Client) eachNode(ctx context.Context, b *Beneath, yes func(context.Context, func(meta.Query) (meta.Answer, error)) bool) {
	nodes, away := c.peers.nodes(), c.peers.silentFor(appliedWait)
	done := make([]bool, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			ask := func(q meta.Query) (a meta.Answer, err error) {
				conn := c.peers.conn(n)
				if conn == nil {
					return a, blocktree.E("cluster", blocktree.Unavailable, nil)
				}
				r, err := conn.CallWait(ctx, codeQuery, nil, meta.EncodeQuery(nil, q))
				if err != nil {
					return a, err
				}
				defer r.Release()
				if a, err = meta.DecodeAnswer(r.Body); err == nil {
					err = a.Err("cluster")
				}
				return a, err
			}
			for {
				if done[i] = yes(ctx, ask); done[i] || slices.Contains(away, n) && c.peers.conn(n) == nil {
					return
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(beneathPause):
				}
			}
		})
	}
	wg.Wait()
	for i, n := range nodes {
		if path := c.peers.runtime(n).Path; done[i] {
			b.Nodes = append(b.Nodes, path)
		} else {
			b.Missing = append(b.Missing, path)
		}
	}
	slices.Sort(b.Nodes)
	slices.Sort(b.Missing)
}
