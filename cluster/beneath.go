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
)

// beneath calls do with the client of each cluster beneath a directory of this client's cluster, to any depth, many at a time, and returns what it says, ascending by directory. With more there are others, which were not asked.
func (c *Client) beneath(ctx context.Context, path blocktree.Path, do func(ctx context.Context, cc *Client, b *Beneath)) (out []Beneath, more bool) {
	room := make(chan struct{}, beneathAtOnce)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var visit func(of *Client, path blocktree.Path)
	visit = func(of *Client, path blocktree.Path) {
		short, cancel := context.WithTimeout(ctx, beneathWait)
		defer cancel()
		a, err := of.queryHere(short, meta.Query{Kind: meta.QueryChildren, Path: path})
		if err == nil {
			err = a.Err("cluster")
		}
		mu.Lock()
		defer mu.Unlock()
		if more = more || a.More; err != nil {
			out = append(out, Beneath{Dir: path, Err: err})
		}
		for _, dir := range a.Children {
			wg.Go(func() {
				room <- struct{}{}
				b, cc := of.askBeneath(ctx, dir, do)
				<-room
				mu.Lock()
				out = append(out, b)
				mu.Unlock()
				if cc != nil {
					visit(cc, dir)
				}
			})
		}
	}
	visit(c, path)
	wg.Wait()
	slices.SortStableFunc(out, func(a, b Beneath) int { return strings.Compare(string(a.Dir), string(b.Dir)) })
	return out, more
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

// eachNode asks each node, again and again until it says yes or ctx ends.
func (c *Client) eachNode(ctx context.Context, b *Beneath, yes func(context.Context, func(meta.Query) (meta.Answer, error)) bool) {
	nodes := c.peers.nodes()
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
				if done[i] = yes(ctx, ask); done[i] {
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
