package route_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/route"
)

// world is a domain of several clusters that answer each other's questions in memory.
type world struct {
	t        testing.TB
	key      cred.Key
	root     blocktree.Path
	now      func() time.Time
	begin    time.Time
	clusters map[blocktree.Scope]*cluster

	mu    sync.Mutex
	hosts map[string]*host // by endpoint
	asked []string         // "path query scope", in order
}

// cluster is one of them, and what it knows.
type cluster struct {
	w          *world
	dir        blocktree.Scope
	parent     *cluster
	hosts      []*host
	registered map[blocktree.Scope][]blocktree.Runtime
	private    map[blocktree.Scope]bool // directories that others may not read
	rights     map[blocktree.Principal]blocktree.Scope
}

// host is a sector host. say, if set, is what it answers instead of the truth.
type host struct {
	runtime  blocktree.Runtime
	signer   route.Signer
	cluster  *cluster
	answerer *route.Answerer
	say      func(q route.Query, truth func() ([]byte, error)) ([]byte, error)
}

// identity issues credentials for a path of the world.
func (w *world) identity(path blocktree.Path, services ...string) route.Signer {
	w.t.Helper()
	key, err := cred.GenerateKey()
	if err != nil {
		w.t.Fatal(err)
	}
	chain, err := cred.Issue(w.key, nil, w.key.Principal(), cred.Grant{Subject: key.Public(), Path: path, Services: services,
		NotBefore: w.begin.Add(-time.Hour), NotAfter: w.begin.Add(1000 * time.Hour)})
	if err != nil {
		w.t.Fatal(err)
	}
	return route.Signer{Key: key, Credentials: chain}
}

// newWorld makes a domain with a cluster of so many hosts for each directory, parents first.
func newWorld(t testing.TB, each int, dirs ...string) *world {
	t.Helper()
	key, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, key: key, root: blocktree.RootPath(key.Principal()), begin: time.Now(), now: time.Now,
		clusters: map[blocktree.Scope]*cluster{}, hosts: map[string]*host{}}
	for i, dir := range dirs {
		scope := w.at(dir)
		c := &cluster{w: w, dir: scope, registered: map[blocktree.Scope][]blocktree.Runtime{}, private: map[blocktree.Scope]bool{},
			rights: map[blocktree.Principal]blocktree.Scope{}}
		for _, up := range route.Rootward(scope)[1:] {
			if c.parent = w.clusters[up]; c.parent != nil {
				break
			}
		}
		w.clusters[scope] = c
		for n := range each {
			signer := w.identity(scope.Join(fmt.Sprintf("node%d", n)), blocktree.ServiceSector)
			h := &host{cluster: c, signer: signer, runtime: blocktree.Runtime{Path: scope.Join(fmt.Sprintf("node%d", n)), Principal: signer.Key.Principal(),
				Node: blocktree.NodeID(100*i + n + 1), Endpoints: []string{fmt.Sprintf("10.0.%d.%d:7000", i, n+1)}, Services: []string{blocktree.ServiceSector}}}
			h.answers(c)
			c.hosts = append(c.hosts, h)
			c.registered[scope] = append(c.registered[scope], h.runtime)
			w.hosts[h.runtime.Endpoints[0]] = h
		}
	}
	return w
}

// answers lets the host answer out of a namespace.
func (h *host) answers(ns route.Namespace) {
	h.cluster.w.t.Helper()
	w := h.cluster.w
	var err error
	h.answerer, err = route.NewAnswerer(route.AnswererConfig{Namespace: ns, Signer: func() route.Signer { return h.signer }, Now: func() time.Time { return w.now() }})
	if err != nil {
		w.t.Fatal(err)
	}
}

// at is a path of the world from its short form; "" is the root directory.
func (w *world) at(short string) blocktree.Scope { return w.root + blocktree.Path(short) }

// service adds a runtime that registers a service in a directory, with the cluster that keeps it.
func (w *world) service(dir, name, service string) blocktree.Runtime {
	scope := w.at(dir)
	signer := w.identity(scope.Join(name), service)
	r := blocktree.Runtime{Path: scope.Join(name), Principal: signer.Key.Principal(), Endpoints: []string{"10.9.9.9:1"}, Services: []string{service}}
	for _, up := range route.Rootward(scope) {
		if c := w.clusters[up]; c != nil {
			c.registered[scope] = append(c.registered[scope], r)
			return r
		}
	}
	w.t.Fatal("no cluster for", dir)
	return r
}

func (c *cluster) redirect() route.Redirect {
	return route.Redirect{Directory: c.dir, Generation: blocktree.Generation(len(c.dir)), Runtimes: slices.Clone(c.registered[c.dir])}
}

func (c *cluster) Directory() blocktree.Scope { return c.dir }

func (c *cluster) Parent(context.Context) (route.Redirect, bool, error) {
	if c.parent == nil {
		return route.Redirect{}, false, nil
	}
	return c.parent.redirect(), true, nil
}

func (c *cluster) Delegated(_ context.Context, scope blocktree.Scope) (route.Redirect, bool, error) {
	way := route.Rootward(scope)
	slices.Reverse(way)
	for _, dir := range way {
		if child := c.w.clusters[dir]; child != nil && child != c && dir.Within(c.dir) {
			return child.redirect(), true, nil
		}
	}
	return route.Redirect{}, false, nil
}

func (c *cluster) Registered(_ context.Context, dir blocktree.Scope, service string) (list []blocktree.Runtime, err error) {
	for _, r := range c.registered[dir] {
		if slices.Contains(r.Services, service) {
			list = append(list, r)
		}
	}
	return list, nil
}

func (c *cluster) OthersRead(_ context.Context, scope blocktree.Scope) (bool, error) {
	for _, dir := range route.Rootward(scope) {
		for _, other := range c.w.clusters {
			if other.private[dir] {
				return false, nil
			}
		}
	}
	return true, nil
}

func (c *cluster) HasRight(_ context.Context, caller cred.Identity, scope blocktree.Scope) (bool, error) {
	at, ok := c.rights[caller.Principal]
	return ok && scope.Within(at), nil
}

// asker asks in the name of an identity.
type asker struct {
	w    *world
	from cred.Identity
}

// Ask implements route.Asker.
func (a asker) Ask(ctx context.Context, to blocktree.Runtime, in blocktree.Scope, q route.Query) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a.w.mu.Lock()
	h := a.w.hosts[to.Endpoints[0]]
	name := to.Endpoints[0]
	if h != nil {
		name = h.runtime.Path.Short()
	}
	a.w.asked = append(a.w.asked, fmt.Sprintf("%s %v %s", name, q.Kind, q.Scope.Short()))
	a.w.mu.Unlock()
	switch {
	case h == nil:
		return nil, blocktree.E("dial", blocktree.Unavailable, errors.New("nobody there"))
	case !to.Principal.IsZero() && to.Principal != h.runtime.Principal:
		return nil, blocktree.E("dial", blocktree.Unauthenticated, errors.New("somebody else"))
	}
	truth := func() ([]byte, error) {
		return h.answerer.Serve(ctx, q.Encode(), route.Querier{Identity: a.from})
	}
	if h.say != nil {
		return h.say(q, truth)
	}
	return truth()
}

// takeAsked returns what was asked since the last call.
func (w *world) takeAsked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked
	w.asked = nil
	return asked
}

// caller is the identity of a runtime of the domain.
func (w *world) caller(path string, services ...string) cred.Identity {
	w.t.Helper()
	id, err := cred.Verify(w.identity(w.at(path), services...).Credentials, w.key.Principal(), w.now())
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func question(kind route.QueryKind, scope blocktree.Scope, service string) route.Query {
	return route.Query{Kind: kind, Scope: scope, Service: service, Nonce: route.NewNonce()}
}
