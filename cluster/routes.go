package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/route"
)

// reachedMax bounds the directories of which it is remembered who was reached directly, and reachedRuntimesMax those of one: a few are enough to be asked for a way.
const (
	reachedMax         = 64
	reachedRuntimesMax = 4
)

// RoutesConfig says where a process begins to look for things.
type RoutesConfig struct {
	Root  blocktree.Principal
	Seeds route.Seeder // of the root directory; nil: Home leads there
	// Home is a cluster that is known from the configuration; no Runtimes: none is.
	Home route.Redirect
	// Ways are runtimes that are asked for a way where a connection does not come about, beside those above that were reached; they may be of any cluster.
	Ways   []blocktree.Runtime
	Logger *slog.Logger
	Clock  blocktree.Clock
}

// Routes find runtimes (package route) for all of a process, with one cache. They ask by the endpoint of the client or service of the process that was opened last. It may be used by many goroutines.
type Routes struct {
	cfg    RoutesConfig
	cache  *route.Cache
	finder *route.Finder
	asking chan struct{} // a token per runtime that is being asked: each is a connection

	mu     sync.Mutex
	askers []*routeAsker
	direct map[blocktree.Scope][]blocktree.Runtime // who was reached directly, by directory, the newest first
}

// routeAsker is how questions get to others: by the endpoint of a client or a service.
type routeAsker struct {
	endpoint *bttp.Endpoint
	answerer *route.Answerer           // the runtime's own; nil: it answers nobody
	believe  func(cred.Identity) error // refuses who is revoked
	ways     *ways
}

// RouteStats counts what was looked for and what is remembered.
type RouteStats struct {
	Finder route.FinderStats
	Cache  route.CacheStats
}

// NewRoutes makes routes by which nobody asks yet. It fails with Invalid without a beginning.
func NewRoutes(cfg RoutesConfig) (*Routes, error) {
	r := &Routes{cfg: cfg, asking: make(chan struct{}, blocktree.BriefConnectionsMax), direct: map[blocktree.Scope][]blocktree.Runtime{}}
	r.cache = route.NewCache(route.CacheConfig{Root: cfg.Root, Now: cfg.Clock.Now})
	var err error
	r.finder, err = route.NewFinder(route.FinderConfig{Root: cfg.Root, Asker: r, Cache: r.cache, Seeds: cfg.Seeds, Home: cfg.Home, Believe: r.believe, Now: cfg.Clock.Now})
	return r, err
}

// Finder answers queries, and says how it came to the answer.
func (r *Routes) Finder() *route.Finder { return r.finder }

// Stats returns the counters.
func (r *Routes) Stats() RouteStats { return RouteStats{r.finder.Stats(), r.cache.Stats()} }

// Close ends all questions. It must come before the end of the endpoints by which they are asked.
func (r *Routes) Close() error { return r.finder.Close() }

// join has questions asked by an endpoint from now on, until leave.
func (r *Routes) join(a *routeAsker) {
	a.ways = &ways{parents: r.above, own: a.endpoint.DialBriefly, ask: askBy(a.endpoint), hard: map[blocktree.Principal]bool{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.askers = append(r.askers, a)
}

// leave ends what join began. Questions that are on their way end with the endpoint.
func (r *Routes) leave(endpoint *bttp.Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.askers = slices.DeleteFunc(r.askers, func(a *routeAsker) bool { return a.endpoint == endpoint })
}

// Join has questions asked by an endpoint that is no client's and no service's: that of a caller without credentials. Leave ends it, before the endpoint is closed.
func (r *Routes) Join(endpoint *bttp.Endpoint) { r.join(&routeAsker{endpoint: endpoint}) }

// Leave see Join.
func (r *Routes) Leave(endpoint *bttp.Endpoint) { r.leave(endpoint) }

// Ways returns how an endpoint with credentials connects to what these routes have found: by itself, else by asking those above, as who was asked is reached. A connection that is Asked is the caller's own.
func (r *Routes) Ways(endpoint *bttp.Endpoint) func(context.Context, blocktree.Runtime) (*bttp.Conn, error) {
	w := &ways{parents: r.above, own: endpoint.Dial, ask: askBy(endpoint), hard: map[blocktree.Principal]bool{}}
	return w.dial
}

// by is who asks.
func (r *Routes) by() *routeAsker {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.askers) == 0 {
		return nil
	}
	return r.askers[len(r.askers)-1]
}

func (r *Routes) believe(id cred.Identity) error {
	if a := r.by(); a != nil && a.believe != nil {
		return a.believe(id)
	}
	return nil
}

// Ask implements route.Asker.
func (r *Routes) Ask(ctx context.Context, to blocktree.Runtime, in blocktree.Scope, q route.Query) ([]byte, error) {
	const op = "cluster: find"
	a := r.by()
	if a == nil {
		return nil, blocktree.E(op, blocktree.Unavailable, errors.New("the runtime is starting"))
	}
	if id := a.endpoint.Identity(); a.answerer != nil && to.Principal == id.Principal { // a command may be run as the node that it asks
		return a.answerer.Serve(ctx, q.Encode(), route.Querier{Identity: id})
	}
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		return nil, &blocktree.Error{Op: op, Kind: blocktree.Unavailable, Err: fmt.Errorf("%d runtimes are being asked: %w", cap(r.asking), ctx.Err()),
			Hint: "more than that are not asked at a time: try again when some have answered"}
	}
	to, err := a.discovered(ctx, to, in)
	if err != nil {
		return nil, err
	}
	to.Services = []string{blocktree.ServiceSector} // which it must prove, whatever else it may be
	conn, err := a.ways.dial(ctx, to)
	if err != nil {
		r.lost(in, to.Principal)
		return nil, err
	}
	if conn.Asked() {
		defer conn.Close() // nobody else knows it
	} else {
		r.reached(in, to)
	}
	if at, ok := route.SpeaksFor(conn.Peer()); !ok || at != in {
		return nil, &blocktree.Error{Op: op, Runtime: conn.Peer().Path.Short(), Kind: blocktree.Unauthenticated, Err: fmt.Errorf("it is no sector host of %s", in.Short())}
	}
	reply, err := conn.CallWait(ctx, codeRoute, nil, q.Encode())
	if err != nil {
		return nil, err
	}
	defer reply.Release()
	if len(reply.Body) > blocktree.RouteAnswerBytesMax {
		return nil, blocktree.E(op, blocktree.TooLarge, errors.New("an answer that is too long"))
	}
	return bytes.Clone(reply.Body), nil
}

// discovered is a runtime of which nothing but addresses may be known, with who is there: a sector host of in.
func (a *routeAsker) discovered(ctx context.Context, to blocktree.Runtime, in blocktree.Scope) (blocktree.Runtime, error) {
	if !to.Principal.IsZero() {
		return to, nil
	}
	err := error(blocktree.E("cluster: seed", blocktree.Invalid, errors.New("no address")))
	for _, at := range to.Endpoints {
		id, errOne := a.endpoint.Discover(ctx, at)
		if errOne != nil {
			err = errOne
			continue
		}
		if dir, ok := route.SpeaksFor(id); !ok || dir != in {
			err = &blocktree.Error{Op: "cluster: seed", Path: at, Runtime: id.Path.Short(), Kind: blocktree.Unauthenticated, Err: fmt.Errorf("it is no sector host of %s", in.Short()),
				Hint: "the records in DNS, or the seeds, must be those of sector hosts of the root directory"}
			continue
		}
		return blocktree.Runtime{Path: id.Path, Principal: id.Principal, Endpoints: []string{at}}, nil
	}
	return to, err
}

// reached notes who was reached directly: it may be asked for ways to what is below.
func (r *Routes) reached(dir blocktree.Scope, who blocktree.Runtime) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.direct[dir] == nil && len(r.direct) >= reachedMax {
		for old := range r.direct { // any one: what is used comes back
			delete(r.direct, old)
			break
		}
	}
	list := slices.DeleteFunc(slices.Clone(r.direct[dir]), func(x blocktree.Runtime) bool { return x.Principal == who.Principal })
	list = slices.Insert(list, 0, who)
	r.direct[dir] = list[:min(len(list), reachedRuntimesMax)]
}

func (r *Routes) lost(dir blocktree.Scope, who blocktree.Principal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.direct[dir] = slices.DeleteFunc(slices.Clone(r.direct[dir]), func(x blocktree.Runtime) bool { return x.Principal == who })
	if len(r.direct[dir]) == 0 {
		delete(r.direct, dir)
	}
}

// above are the runtimes that are asked for a way to one in a directory: those of the configuration, and those of directories above that were reached. It does not block.
func (r *Routes) above(dir blocktree.Scope) (all []blocktree.Runtime) {
	if dir == blocktree.RootPath(dir.Root()) {
		return slices.Clone(r.cfg.Ways)
	}
	all = slices.Clone(r.cfg.Ways)
	r.mu.Lock()
	for d := dir; d != blocktree.RootPath(d.Root()); {
		d = d.Parent()
		all = append(all, r.direct[d]...)
	}
	r.mu.Unlock()
	if seeds, ok := r.cfg.Seeds.(route.Seeds); ok && len(all) == len(r.cfg.Ways) {
		all = append(all, seeds[:min(len(seeds), reachedRuntimesMax)]...)
	}
	return slices.DeleteFunc(all, func(x blocktree.Runtime) bool { return x.Principal.IsZero() })
}

// cluster returns the sector hosts of the cluster that a directory has; failed says that nobody could be reached where it was said to be.
func (r *Routes) cluster(ctx context.Context, dir blocktree.Scope, failed bool) ([]blocktree.Runtime, error) {
	if failed {
		r.finder.Failed(route.InScope, dir, blocktree.ServiceSector)
	}
	return r.finder.InScope(ctx, dir, blocktree.ServiceSector)
}

// nearest returns the directory of the cluster that keeps what is in a directory, and its sector hosts; failed as in cluster.
func (r *Routes) nearest(ctx context.Context, dir blocktree.Scope, failed bool) (blocktree.Scope, []blocktree.Runtime, error) {
	if failed {
		r.finder.Failed(route.Closest, dir, blocktree.ServiceSector)
	}
	found, err := r.finder.Explain(ctx, route.Closest, dir, blocktree.ServiceSector)
	return found.In, found.Runtimes, err
}
