package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

const (
	// redirectsMax is how many redirects are followed for one question: directories that are delegated below one another, and back.
	redirectsMax = 16
	// treeClustersMax bounds the clusters that a client keeps connections to; one that nobody uses makes room.
	treeClustersMax = 64
)

// tree is what a client knows of the clusters of its domain (docs/design/0033): one Client for each that it was redirected to, over the first one's endpoint. All of them share it.
// What is asked of any of them about a path or a file is asked of the one that answered last for such, and goes where that redirects. A redirect says which directory's cluster is meant, and no more: who that is the routes
// of the process find (docs/design/0032), and who is reached has to prove by credentials that it is the runtime which was named, directly in that directory.
type tree struct {
	first *Client // the one that was dialled
	// find returns the sector hosts of the cluster of a redirect's directory; failed says that nobody was where it said before.
	find   func(ctx context.Context, to *meta.Redirect, failed bool) ([]blocktree.Runtime, error)
	waysTo func(dir blocktree.Scope) []blocktree.Runtime // whom to ask for a way to a node in a directory

	mu      sync.Mutex
	byDir   map[blocktree.Path]*Client // the first one, too
	homes   map[blocktree.Generation]keeper
	revoked map[blocktree.Path]*revoked // by the directory of the cluster that told it
	turn    uint64
	ended   bool // no more are made
}

// keeper is who keeps the files of a generation, as the cluster of a directory has said.
type keeper struct {
	client *Client
	said   blocktree.Path
}

func newTree(first *Client, routes *Routes) *tree {
	find := func(ctx context.Context, to *meta.Redirect, failed bool) ([]blocktree.Runtime, error) {
		return routes.cluster(ctx, to.Dir, failed)
	}
	t := &tree{first: first, find: find, byDir: map[blocktree.Path]*Client{first.cfg.Scope: first}, homes: map[blocktree.Generation]keeper{},
		revoked: map[blocktree.Path]*revoked{}}
	t.waysTo = func(dir blocktree.Scope) []blocktree.Runtime { return append(routes.above(dir), t.above(dir)...) }
	return t
}

// above are nodes of the clusters above a directory that are reached directly.
func (t *tree) above(dir blocktree.Scope) (all []blocktree.Runtime) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for at, c := range t.byDir {
		if at == dir || !dir.Within(at) {
			continue
		}
		for _, q := range c.peers.gateways(nil) {
			all = append(all, q.where())
		}
	}
	return all
}

// inTree is what a tree keeps of one of its clients.
type inTree struct {
	users atomic.Int64 // questions that are being asked
	used  uint64       // turn of the newest, under tree.mu
	stale atomic.Bool  // nobody answered: who its nodes are is asked of others again
}

// nearest is the client with the longest directory that a path is in; of what is in the directory p itself, with inside. It is the first one where none fits.
func (t *tree) nearest(p blocktree.Path, inside bool) *Client {
	t.mu.Lock()
	defer t.mu.Unlock()
	best, length := t.first, -1
	for dir, c := range t.byDir {
		if p.Within(dir) && (inside || p != dir) && len(dir) > length && !c.inTree.stale.Load() {
			best, length = c, len(dir)
		}
	}
	return best
}

// home is the client of the files of a generation, or instead.
func (t *tree) home(g blocktree.Generation, instead *Client) *Client {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h, ok := t.homes[g]; ok && !h.client.inTree.stale.Load() {
		return h.client
	}
	return instead
}

// isHome notes that a client has answered for a file.
func (t *tree) isHome(f blocktree.FileID, c *Client) {
	if f.Generation == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byDir[c.cfg.Scope] == c {
		t.setHome(f.Generation, c, c.cfg.Scope)
	}
}

// setHome notes who keeps a generation. What a cluster has said, only one above that says otherwise: one that lies gets no files of others. t.mu is held.
func (t *tree) setHome(g blocktree.Generation, c *Client, said blocktree.Path) {
	if h, ok := t.homes[g]; !ok || h.said != said && h.said.Within(said) {
		t.homes[g] = keeper{c, said}
	}
}

// enter notes that somebody asks c, until leave.
func (t *tree) enter(c *Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn++
	c.inTree.used = t.turn
	c.inTree.users.Add(1)
}

func (t *tree) leave(c *Client) { c.inTree.users.Add(-1) }

// way is what was followed for one question.
type way struct {
	down bool // it went nearer: it does not go back
	seen []blocktree.Path
}

// errAstray is what a redirect gets that does not lead on.
func errAstray(r *meta.Redirect, why string) error {
	return &blocktree.Error{Op: "cluster: redirect", Path: r.Dir.Short(), Kind: blocktree.Unavailable, Err: errors.New(why),
		Hint: "a node of the directory above lies, or the directory was delegated just now: ask again, and look at the logs of its nodes"}
}

// follow asks one client after the other, beginning with at, until one does not redirect; it returns that one.
func (t *tree) follow(ctx context.Context, at *Client, ask func(*Client) (*meta.Redirect, error)) (*Client, error) {
	w := way{seen: []blocktree.Path{at.cfg.Scope}}
	if at != t.first {
		if err := t.stays(ctx, at.cfg.Scope); err != nil {
			return nil, err
		}
	}
	for hop := 0; ; hop++ {
		t.enter(at)
		began := time.Now()
		r, err := ask(at)
		t.leave(at)
		if at != t.first && nobodyAnswered(ctx, err, time.Since(began)) {
			at.inTree.stale.Store(true)
		}
		if err != nil || r == nil || r.Dir == "" {
			return at, err
		}
		if err := t.stays(ctx, r.Dir); err != nil {
			return nil, err
		}
		if hop >= redirectsMax {
			return nil, errAstray(r, fmt.Sprintf("more than %d redirects", redirectsMax))
		}
		if at, err = t.next(ctx, at, r, &w); err != nil {
			return nil, err
		}
	}
}

// nobodyAnswered reports whether err, of what was asked under ctx for so long, says that no node of a cluster did. Where whoever asked did not wait for as long as a node takes that is well it says nothing of those who were asked.
func nobodyAnswered(ctx context.Context, err error, asked time.Duration) bool {
	kind, kept := blocktree.KindOf(err), errKept("")
	return kind == blocktree.Closed || kind == blocktree.Unavailable && !errors.As(err, &kept) && (ctx.Err() == nil || asked >= blocktree.DeadAfter)
}

// stays refuses to ask the cluster of a directory on behalf of somebody, unless it is one below and this runtime a filesystem service: its nodes take nobody else at their word.
func (t *tree) stays(ctx context.Context, dir blocktree.Path) error {
	if cfg := &t.first.cfg; behind(ctx, nil) == nil || cfg.Speaks && dir.Within(cfg.Path.Parent()) {
		return nil
	}
	return &blocktree.Error{Op: "cluster", Kind: blocktree.Unsupported, Err: errors.New("another cluster keeps it"),
		Hint: "ask a filesystem service of the cluster that keeps the directory, or of one above it"}
}

// next is the client that a redirect of at leads to.
func (t *tree) next(ctx context.Context, at *Client, r *meta.Redirect, w *way) (*Client, error) {
	from := at.cfg.Scope
	up, down := from.Within(r.Dir) && from != r.Dir, r.Dir.Within(from) && from != r.Dir
	switch {
	case up && !w.down:
	case down:
		w.down = true
	default:
		return nil, errAstray(r, "it leads from "+from.Short()+" to "+r.Dir.Short()+", which is no nearer")
	}
	if slices.Contains(w.seen, r.Dir) {
		return nil, errAstray(r, "it leads in a circle")
	}
	w.seen = append(w.seen, r.Dir)
	t.mu.Lock()
	c := t.byDir[r.Dir]
	if c != nil && !c.inTree.stale.Load() {
		if r.Generation != 0 && down {
			t.setHome(r.Generation, c, from)
		}
		t.mu.Unlock()
		return c, nil
	}
	t.mu.Unlock()
	hosts, err := t.find(ctx, r, c != nil)
	if err != nil {
		return nil, err
	}
	hosts = slices.DeleteFunc(sectorHosts(hosts), func(x blocktree.Runtime) bool { return x.Path.Parent() != r.Dir || len(x.Endpoints) == 0 })
	t.mu.Lock()
	defer t.mu.Unlock()
	if c = t.byDir[r.Dir]; c != nil {
		if r.Generation != 0 && down {
			t.setHome(r.Generation, c, from)
		}
		c.inTree.stale.Store(false)
		c.peers.ensure(hosts)
		return c, nil
	}
	if t.ended {
		return nil, blocktree.E("cluster", blocktree.Closed, nil)
	}
	if len(hosts) == 0 {
		return nil, errAstray(r, "no node of that directory is known")
	}
	if err := t.makeRoom(); err != nil {
		return nil, err
	}
	c = t.first.beside(r.Dir, hosts)
	t.byDir[r.Dir] = c
	if r.Generation != 0 && down {
		t.setHome(r.Generation, c, from)
	}
	return c, nil
}

// several reports whether more than one cluster was met.
func (t *tree) several() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byDir) > 1
}

// makeRoom forgets the client that was used least lately, of those that nobody uses, if there are too many. t.mu is held.
func (t *tree) makeRoom() error {
	if len(t.byDir) < treeClustersMax {
		return nil
	}
	var oldest *Client
	for _, c := range t.byDir {
		if c != t.first && c.inTree.users.Load() == 0 && c.idle() && (oldest == nil || c.inTree.used < oldest.inTree.used) {
			oldest = c
		}
	}
	if oldest == nil {
		return &blocktree.Error{Op: "cluster", Kind: blocktree.TooLarge, Err: fmt.Errorf("files of %d clusters are open", len(t.byDir)),
			Hint: "a client works with at most " + fmt.Sprint(treeClustersMax) + " clusters at a time"}
	}
	delete(t.byDir, oldest.cfg.Scope)
	for g, h := range t.homes {
		if h.client == oldest {
			delete(t.homes, g)
		}
	}
	t.first.wg.Go(func() { _ = oldest.Close() }) // it holds nothing
	return nil
}

// idle reports whether nothing hangs on the client.
func (c *Client) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session == nil && len(c.readers) == 0
}

// others are all clients but the first; none is made any more.
func (t *tree) others() (cs []*Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for dir, c := range t.byDir {
		if c != t.first {
			cs = append(cs, c)
			delete(t.byDir, dir)
		}
	}
	clear(t.homes)
	t.ended = true
	return cs
}

// beside makes a client of another cluster of the domain, over the endpoint of this one.
func (c *Client) beside(dir blocktree.Path, hosts []blocktree.Runtime) *Client {
	cfg := c.cfg
	cfg.Scope = dir
	o := newClient(cfg, c.endpoint, newPeers(c.endpoint, cfg.Logger))
	o.tree = c.tree
	o.keep(hosts)
	return o
}

// HomeOf is the client of the cluster that keeps a file.
func (c *Client) HomeOf(ctx context.Context, f blocktree.FileID) (*Client, error) {
	if c.tree == nil {
		return c, nil
	}
	if h := c.tree.home(f.Generation, nil); h != nil {
		return h, nil
	}
	_, h, err := c.queryAt(ctx, meta.Query{Kind: meta.QueryStatID, File: f})
	return h, err
}

// ClusterOf is the client of the cluster that keeps what is in a directory, which need not be there.
func (c *Client) ClusterOf(ctx context.Context, dir blocktree.Path) (*Client, error) {
	if c.tree == nil {
		return c, nil
	}
	_, at, err := c.queryAt(ctx, meta.Query{Kind: meta.QueryBelow, Path: dir.Join("-")}) // whoever says that there is none
	return at, err
}

// Scope is the directory whose entries the client's cluster keeps.
func (c *Client) Scope() blocktree.Path { return c.cfg.Scope }
