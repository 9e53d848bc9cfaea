package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/internal/dispatch"
	"blocktree/route"
)

// How a process' messages find whom they are for: docs/design/0048-dispatch.md.

// Dispatcher makes a dispatcher of messages over an endpoint, by the routes of the process. named says who has a service where nobody is found, as a configuration does; nil: nobody does. routes may be nil, for who has nothing but that.
// It must be closed before the endpoint.
func Dispatcher(endpoint *bttp.Endpoint, routes *Routes, named blocktree.Resolver) *dispatch.Dispatcher {
	s := &services{routes: routes, named: named, anonymous: len(endpoint.Credentials()) == 0, walls: map[blocktree.Scope]wall{}}
	connect := endpoint.Dial
	if routes != nil && !s.anonymous { // nobody else can sign an ask for a way
		connect = routes.Ways(endpoint)
	}
	return dispatch.New(dispatch.Config{Routes: s, Connect: connect})
}

// services are dispatch.Routes by the finder and the cache of a process.
type services struct {
	routes    *Routes
	named     blocktree.Resolver
	anonymous bool

	mu    sync.Mutex
	walls map[blocktree.Scope]wall
}

var _ dispatch.Routes = (*services)(nil)

// kindOf is the query that an address is.
func kindOf(a dispatch.Address) route.QueryKind {
	if a.Kind == dispatch.InScope {
		return route.InScope
	}
	return route.Closest
}

// Known implements dispatch.Routes.
func (s *services) Known(a dispatch.Address) (dispatch.Found, bool) {
	if s.routes == nil {
		return dispatch.Found{}, false
	}
	known, ok := s.routes.cache.Lookup(kindOf(a), s.beyond(a), a.Service)
	return dispatch.Found{Runtimes: known.Runtimes, Asked: true}, ok && len(known.Runtimes) > 0
}

// Find implements dispatch.Routes: those who are found by asking, else those who are named.
func (s *services) Find(ctx context.Context, a dispatch.Address) (found dispatch.Found, err error) {
	err = blocktree.E("find", blocktree.NotFound, errors.New("the configuration says nowhere to begin"))
	if s.routes != nil {
		if found, err = s.seek(ctx, a); err == nil {
			return found, nil
		}
	}
	if s.named == nil {
		return found, err
	}
	resolve := s.named.Closest
	if a.Kind == dispatch.InScope {
		resolve = s.named.InScope
	}
	named, errNamed := resolve(ctx, a.Scope, a.Service)
	if errNamed != nil || len(named) == 0 {
		return found, err
	}
	found.Steps = append(found.Steps, fmt.Sprintf("nobody is found: the configuration names %d runtimes in %s", len(named), named[0].Path.Parent().Short()))
	return dispatch.Found{Runtimes: named, Steps: found.Steps}, nil
}

// Failed implements dispatch.Routes.
func (s *services) Failed(a dispatch.Address) {
	if s.routes != nil {
		s.routes.finder.Failed(kindOf(a), s.beyond(a), a.Service)
	}
}

// seek asks. Rootward, where the nodes of a cluster on the way do not admit or believe this runtime, as they do nobody in particular, or are not believed, those above it are asked for: a service there reaches down.
func (s *services) seek(ctx context.Context, a dispatch.Address) (found dispatch.Found, err error) {
	at := s.beyond(a)
	if at != a.Scope {
		found.Steps = append(found.Steps, fmt.Sprintf("a cluster below %s did not tell lately: those from there on rootward are asked for", at.Short()))
	}
	for range blocktree.PathDepthMax + 1 {
		f, err := s.routes.finder.Explain(ctx, kindOf(a), at, a.Service)
		for _, x := range f.Steps {
			found.Steps = append(found.Steps, x.String())
		}
		if err == nil {
			found.Runtimes, found.Asked = f.Runtimes, true
			return found, nil
		}
		above, ok := s.overWall(f.Steps, at)
		if a.Kind != dispatch.Rootward || !ok || ctx.Err() != nil {
			return found, err
		}
		at = above
		s.setBeyond(a.Scope, at)
		found.Steps = append(found.Steps, fmt.Sprintf("a cluster below %s does not tell: those from there on rootward are asked for", at.Short()))
	}
	return found, blocktree.E("find", blocktree.Unavailable, nil) // no path is so long
}

// overWall is the scope above the deepest cluster of some steps that did not tell.
func (s *services) overWall(steps []route.Step, at blocktree.Scope) (blocktree.Scope, bool) {
	deepest := blocktree.Scope("")
	for _, x := range steps {
		shut := x.What == route.StepDenied || x.What == route.StepRefused || x.What == route.StepUnreachable && s.anonymous // who cannot ask for a way
		if shut && len(x.Directory) > len(deepest) {
			deepest = x.Directory
		}
	}
	if deepest == "" || !at.Within(deepest) || deepest == blocktree.RootPath(deepest.Root()) {
		return "", false
	}
	return deepest.Parent(), true
}

// wall is what is asked for instead of a scope, until a time.
type wall struct {
	scope blocktree.Scope
	until time.Time
}

// wallsMax bounds the scopes of which that is remembered; all of them are forgotten where there would be more.
const wallsMax = 256

// beyond is the scope that is asked for instead of an address': that of a cluster above one that did not tell lately.
func (s *services) beyond(a dispatch.Address) blocktree.Scope {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.walls) == 0 || a.Kind != dispatch.Rootward {
		return a.Scope
	}
	if b, ok := s.walls[a.Scope]; ok && time.Now().Before(b.until) {
		return b.scope
	}
	return a.Scope
}

func (s *services) setBeyond(scope, instead blocktree.Scope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.walls) >= wallsMax {
		clear(s.walls)
	}
	s.walls[scope] = wall{instead, time.Now().Add(blocktree.RouteNegativeTTL)}
}
