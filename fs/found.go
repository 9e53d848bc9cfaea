package fs

import (
	"context"
	"errors"
	"fmt"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/dispatch"
)

// How a client's requests get to the services: docs/design/0042-found.md and 0048-dispatch.md.

// errNoService is in the errors of a service that was not found.
var errNoService = errors.New("no filesystem service is known")

// NoService reports whether an error is that no service was found, which says nothing of the path.
func NoService(err error) bool { return errors.Is(err, errNoService) }

// service is the address of the services that are closest to what is in a directory.
func service(dir blocktree.Scope) dispatch.Address {
	return dispatch.Address{Kind: dispatch.Rootward, Scope: dir, Service: blocktree.ServiceFilesystem}
}

// Nearest returns the directory of the services that are asked about what is in a directory, and who they are. Kinds: NotFound, and those of route.Finder.
func (c *Client) Nearest(ctx context.Context, dir blocktree.Scope) (blocktree.Scope, []blocktree.Runtime, error) {
	runtimes, _, err := c.Explain(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	return runtimes[0].Path.Parent(), runtimes, nil
}

// Explain is Nearest, and says how it came to the answer, a line for people each; with an error, too.
func (c *Client) Explain(ctx context.Context, dir blocktree.Scope) ([]blocktree.Runtime, []string, error) {
	f, err := c.dispatcher.Find(ctx, service(dir))
	return f.Runtimes, f.Steps, undelivered(dir, err)
}

// Routes are how services are found; nil where the client knows nothing but those that are named.
func (c *Client) Routes() *cluster.Routes { return c.cfg.Routes }

// dispatch has a request about what is in a directory done by a service that is closest to it, and where that does not reach the cluster that is meant (Unsupported: a service speaks to clusters below its own), by the next ones rootward.
// The answer must be released.
func (c *Client) dispatch(ctx context.Context, dir blocktree.Scope, m dispatch.Message) (dispatch.Answer, error) {
	answer, done, err := c.toFilled(ctx, dir, m, m.Code == codeMakeWhole)
	if done {
		return answer, undelivered(dir, err)
	}
	answer, err = c.dispatcher.Dispatch(ctx, service(dir), m)
	return answer, undelivered(dir, err)
}

// undelivered gives the error of a request about a path that reached no service the kind of what it came of: this package's callers know no services. Why stays in its chain (dispatch.WhyOf).
func undelivered(dir blocktree.Scope, err error) error {
	u := (*dispatch.Undelivered)(nil)
	if !errors.As(err, &u) {
		return err
	}
	switch u.Why {
	case dispatch.NoService, dispatch.NoRoute:
		return &blocktree.Error{Op: "find a filesystem service", Path: dir.Short(), Kind: blocktree.KindOf(u.Err), Err: fmt.Errorf("%w: %w", errNoService, err),
			Hint: "a node is one by filesystem: in its configuration and by its process record (btnode node add --filesystem), or is named in cluster.members with services: [filesystem]; a reader key in the config (readerKey) does without"}
	case dispatch.NoAnswer:
		return &blocktree.Error{Op: "fs: no filesystem service answers", Kind: blocktree.KindOf(u.Err), Err: err}
	}
	return &blocktree.Error{Op: "fs", Kind: blocktree.KindOf(u.Err), Err: err}
}

// ask asks something about what is in a directory that changes nothing, again and again while the answer is Unavailable.
func (c *Client) ask(ctx context.Context, dir blocktree.Scope, code uint16, r *pathRequest) (b []byte, err error) {
	err = retry(ctx, func() error {
		b, err = c.request(ctx, dir, code, r.encode())
		return err
	})
	return b, err
}

// askOnce asks for a change. It is asked for once, as nobody knows what became of a request without an answer; of the next service rootward where one does not reach the cluster, and has done nothing.
func (c *Client) askOnce(ctx context.Context, code uint16, r *pathRequest) ([]byte, error) {
	return c.request(ctx, r.path.Parent(), code, r.encode())
}

// request is dispatch, once, with a copy of the answer's body.
func (c *Client) request(ctx context.Context, dir blocktree.Scope, code uint16, body []byte) ([]byte, error) {
	answer, err := c.dispatch(ctx, dir, dispatch.Message{Code: code, Body: body})
	if err != nil {
		return nil, err
	}
	defer answer.Release()
	return append([]byte(nil), answer.Body...), nil
}
