package cluster

import (
	"context"
	"net"
	"net/netip"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/route"
)

// routeQueryBytesMax is above what any query has: a path, a service and a nonce.
const routeQueryBytesMax = blocktree.PathBytesMax + 1024

// namespace is what this member knows of the tree, as applied here.
type namespace struct {
	directory blocktree.Scope
	group     *meta.Group
	now       func() time.Time
}

var _ interface {
	route.Namespace
	route.Plain
} = (*namespace)(nil)

// Directory implements route.Namespace.
func (n *namespace) Directory() blocktree.Scope { return n.directory }

// Parent implements route.Namespace.
func (n *namespace) Parent(context.Context) (route.Redirect, bool, error) {
	if n.directory == blocktree.RootPath(n.directory.Root()) {
		return route.Redirect{}, false, nil
	}
	a, err := n.group.Above()
	if a == nil {
		return route.Redirect{}, err == nil, err
	}
	return route.Redirect{Directory: a.Parent, Generation: a.Generation, Runtimes: a.Runtimes}, true, nil
}

// Delegated implements route.Namespace.
func (n *namespace) Delegated(_ context.Context, scope blocktree.Scope) (route.Redirect, bool, error) {
	r, err := n.group.Delegated(scope)
	if r == nil {
		return route.Redirect{}, false, err
	}
	return route.Redirect{Directory: r.Dir, Generation: r.Generation, Runtimes: r.Runtimes}, true, nil
}

// Registered implements route.Namespace.
func (n *namespace) Registered(_ context.Context, dir blocktree.Scope, service string) ([]blocktree.Runtime, error) {
	return n.group.Registered(dir, service)
}

// OthersRead implements route.Namespace.
func (n *namespace) OthersRead(_ context.Context, scope blocktree.Scope) (bool, error) {
	return n.group.OthersRead(scope)
}

// HasRight implements route.Namespace.
func (n *namespace) HasRight(_ context.Context, who cred.Identity, scope blocktree.Scope) (bool, error) {
	return n.group.HasRight(callerOf(who), scope, n.now().UnixNano())
}

// Plain implements route.Plain.
func (n *namespace) Plain(_ context.Context, scope blocktree.Scope) (blocktree.Scope, bool, error) {
	return n.group.Plain(scope)
}

// openRoutes has this member answer queries, and ask them.
func (s *Service) openRoutes() (err error) {
	s.answerer, err = route.NewAnswerer(route.AnswererConfig{Namespace: &namespace{s.cfg.Directory, s.group, s.cfg.Clock.Now}, Now: s.cfg.Clock.Now,
		Signer: func() route.Signer { return route.Signer{Key: s.cfg.Key, Credentials: s.endpoint.Credentials()} }})
	if err != nil {
		return err
	}
	if s.routes = s.cfg.Routes; s.routes == nil {
		s.routes, err = NewRoutes(RoutesConfig{Root: s.cfg.Root, Home: route.Redirect{Directory: s.cfg.Directory, Runtimes: s.cfg.Members}, Logger: s.cfg.Logger, Clock: s.cfg.Clock})
		if err != nil {
			return err
		}
	}
	s.routes.join(&routeAsker{endpoint: s.endpoint, answerer: s.answerer, believe: s.revoked.refuses})
	return nil
}

// closeRoutes ends what openRoutes began.
func (s *Service) closeRoutes() error {
	if s.routes == nil {
		return nil
	}
	s.routes.leave(s.endpoint)
	if s.routes == s.cfg.Routes {
		return nil
	}
	return s.routes.Close()
}

// serveRoute answers a query of anybody's, in its own time. Who asks too often is refused before anything is looked at.
func (s *Service) serveRoute(req *bttp.Request) {
	if req.OneWay || len(req.Body) > routeQueryBytesMax {
		req.Fail(blocktree.E("route", blocktree.Invalid, nil))
		return
	}
	from := route.Querier{Identity: req.Conn.Peer()}
	if host, _, err := net.SplitHostPort(req.Conn.RemoteAddr()); err == nil {
		from.Address, _ = netip.ParseAddr(host) // the zero one is one querier for all
	}
	body := append([]byte(nil), req.Body...)
	s.requests.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, metaTimeout)
		defer cancel()
		frame, err := s.answerer.Serve(ctx, body, from)
		if err != nil {
			req.Fail(err)
			return
		}
		req.Reply(nil, frame)
	})
}
