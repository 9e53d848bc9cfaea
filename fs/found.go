package fs

import (
	"context"
	"errors"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/route"
)

// How a client finds the services that it asks: docs/design/0042-found.md.

// errNoService is in the errors of a service that was not found.
var errNoService = errors.New("no filesystem service is known")

// NoService reports whether an error is that no service was found, which says nothing of the path.
func NoService(err error) bool { return errors.Is(err, errNoService) }

// Nearest returns the directory of the services that are asked about what is in a directory, and who they are. Kinds: NotFound, and those of route.Finder.
func (c *Client) Nearest(ctx context.Context, dir blocktree.Scope) (blocktree.Scope, []blocktree.Runtime, error) {
	f, err := c.find(ctx, dir)
	return f.in, f.runtimes, err
}

// found is the services in a directory.
type found struct {
	in       blocktree.Scope
	runtimes []blocktree.Runtime
	asked    bool            // they were found by asking
	scope    blocktree.Scope // for this one
}

// find returns the services that are closest to a scope, rootward: those that are found by asking, else those that the configuration names. Kinds: NotFound, and those of route.Finder.
func (c *Client) find(ctx context.Context, scope blocktree.Scope) (found, error) {
	err := error(blocktree.E("find", blocktree.NotFound, errors.New("the configuration says nowhere to begin")))
	if c.cfg.Routes != nil {
		var f found
		if f, err = c.seek(ctx, scope); err == nil {
			return f, nil
		}
	}
	if c.cfg.Resolver != nil {
		if named, errNamed := c.cfg.Resolver.Closest(ctx, scope, blocktree.ServiceFilesystem); errNamed == nil {
			if f := proving(scope, named, false); len(f.runtimes) > 0 {
				return f, nil
			}
		}
	}
	return found{}, &blocktree.Error{Op: "find a filesystem service", Path: scope.Short(), Kind: blocktree.KindOf(err), Err: errors.Join(errNoService, err),
		Hint: "a node is one by filesystem: in its configuration and by its process record (btnode node add --filesystem), or is named in cluster.members with services: [filesystem]; a reader key in the config (readerKey) does without"}
}

// seek asks for the services that are closest to a scope. Where the nodes of a cluster on the way do not admit or believe this runtime, as they do nobody in particular, or are not believed, those above it are asked for: a service there reaches down.
func (c *Client) seek(ctx context.Context, scope blocktree.Scope) (found, error) {
	at := c.beyond(scope)
	for range blocktree.PathDepthMax + 1 {
		f, err := c.cfg.Routes.Finder().Explain(ctx, route.Closest, at, blocktree.ServiceFilesystem)
		if err == nil {
			got := proving(scope, f.Runtimes, true)
			got.scope = at
			return got, nil
		}
		wall := blocktree.Scope("")
		for _, s := range f.Steps {
			shut := s.What == route.StepDenied || s.What == route.StepRefused || s.What == route.StepUnreachable && len(c.cfg.Credentials) == 0 // who cannot ask for a way
			if shut && len(s.Directory) > len(wall) {
				wall = s.Directory
			}
		}
		if wall == "" || !at.Within(wall) || wall == blocktree.RootPath(wall.Root()) || ctx.Err() != nil {
			return found{}, err
		}
		at = wall.Parent()
		c.setBeyond(scope, at)
	}
	return found{}, blocktree.E("find", blocktree.Unavailable, nil) // no path is so long
}

// beyond is the scope that is asked for instead of another: that of a cluster above one that did not tell lately.
func (c *Client) beyond(scope blocktree.Scope) blocktree.Scope {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.walls[scope]; ok && time.Now().Before(b.until) {
		return b.scope
	}
	return scope
}

func (c *Client) setBeyond(scope, instead blocktree.Scope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.walls) >= wallsMax {
		clear(c.walls)
	}
	c.walls[scope] = wall{instead, time.Now().Add(blocktree.RouteNegativeTTL)}
}

// wall is what is asked for instead of a scope, until a time.
type wall struct {
	scope blocktree.Scope
	until time.Time
}

// wallsMax bounds the scopes of which a Client remembers that; all of them are forgotten where there would be more.
const wallsMax = 256

// proving has each runtime prove the service, whatever else it has. Those that are not in the first one's directory, or if that is not at or above the scope, are left out.
func proving(scope blocktree.Scope, runtimes []blocktree.Runtime, asked bool) found {
	f := found{in: runtimes[0].Path.Parent(), asked: asked}
	for _, r := range runtimes {
		if r.Path.Parent() == f.in && scope.Within(f.in) {
			r.Services = []string{blocktree.ServiceFilesystem}
			f.runtimes = append(f.runtimes, r)
		}
	}
	return f
}

// conn returns a connection to one of the services, to the one that answered last if it is among them. Where none can be reached that were found, they are forgotten, and looked for once more.
func (c *Client) conn(ctx context.Context, scope blocktree.Scope) (*bttp.Conn, found, error) {
	for again := false; ; again = true {
		f, err := c.find(ctx, scope)
		if err != nil {
			return nil, f, err
		}
		conn, err := c.oneOf(ctx, f.runtimes)
		if err == nil || !f.asked || again || ctx.Err() != nil {
			return conn, f, err
		}
		c.cfg.Routes.Finder().Failed(route.Closest, f.scope, blocktree.ServiceFilesystem)
	}
}

// oneOf connects to one of several runtimes.
func (c *Client) oneOf(ctx context.Context, runtimes []blocktree.Runtime) (*bttp.Conn, error) {
	var errs []error
	kind := blocktree.Unavailable
	for range runtimes {
		c.mu.Lock()
		r := runtimes[c.lead%len(runtimes)]
		c.mu.Unlock()
		conn, err := c.to(ctx, r)
		if err == nil {
			return conn, nil
		}
		if k := blocktree.KindOf(err); k != blocktree.Other {
			kind = k
		}
		errs = append(errs, err)
		c.next()
	}
	return nil, &blocktree.Error{Op: "fs: no filesystem service answers", Kind: kind, Err: errors.Join(errs...)}
}

// to returns the connection to a runtime, by whatever way there is.
func (c *Client) to(ctx context.Context, r blocktree.Runtime) (*bttp.Conn, error) {
	c.mu.Lock()
	conn := c.asked[r.Principal]
	if conn != nil && conn.Err() != nil {
		delete(c.asked, r.Principal)
		conn = nil
	}
	c.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	conn, err := c.dial(ctx, r)
	if err != nil || !conn.Asked() {
		return conn, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.asked[r.Principal]; other != nil && other.Err() == nil { // two asked at a time
		go conn.Close() // it waits for nothing but its own goroutines; the endpoint's Close waits for those
		return other, nil
	}
	c.asked[r.Principal] = conn
	return conn, nil
}

// next has another runtime asked first.
func (c *Client) next() {
	c.mu.Lock()
	c.lead++
	c.mu.Unlock()
}

// rootward does something at the services closest to a scope, and where those do not reach the cluster that is meant (Unsupported: a service speaks to clusters below its own), at the next ones rootward.
func (c *Client) rootward(ctx context.Context, scope blocktree.Scope, do func(*bttp.Conn) error) error {
	var first error
	for range blocktree.PathDepthMax + 1 {
		conn, f, err := c.conn(ctx, scope)
		if err == nil {
			err = do(conn)
		}
		switch {
		case first != nil && blocktree.KindOf(err) == blocktree.NotFound && conn == nil: // nobody is above
			return first
		case blocktree.KindOf(err) != blocktree.Unsupported || conn == nil:
			return err
		}
		if first == nil {
			first = err
		}
		if f.in == blocktree.RootPath(f.in.Root()) {
			return first
		}
		scope = f.in.Parent()
	}
	return first
}

// again does what changes nothing until the answer is another than Unavailable.
func (c *Client) again(ctx context.Context, scope blocktree.Scope, do func(*bttp.Conn) error) error {
	return retry(ctx, func() error {
		err := c.rootward(ctx, scope, do)
		if blocktree.KindOf(err) == blocktree.Unavailable {
			c.next()
		}
		return err
	})
}
