package route

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"blocktree"
)

// AnswererConfig is what an Answerer works with.
type AnswererConfig struct {
	Namespace Namespace
	// Signer is asked for each answer, as credentials are renewed.
	Signer func() Signer
	May    May              // who may ask; nil is Standard
	Now    func() time.Time // nil is time.Now
	// TTL and NegativeTTL are of the answers that are given; 0 is RouteTTL and RouteNegativeTTL. At most RouteTTLMax.
	TTL, NegativeTTL time.Duration
}

// Answerer answers queries out of a namespace. It may be used by many goroutines.
type Answerer struct {
	cfg   AnswererConfig
	rates *rates
	stats answererCounts
}

// AnswererStats is how many queries had which end, since the start.
type AnswererStats struct {
	Found, Nobody, Redirected uint64
	Denied                    uint64 // may not ask
	Limited                   uint64 // asked too often
	Malformed                 uint64
	Failed                    uint64 // the namespace could not say
}

type answererCounts struct {
	found, nobody, redirected, denied, limited, malformed, failed atomic.Uint64
}

// NewAnswerer makes an Answerer. It fails with Invalid for a time to live that nobody would believe.
func NewAnswerer(cfg AnswererConfig) (*Answerer, error) {
	if cfg.May == nil {
		cfg.May = Standard
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.TTL == 0 {
		cfg.TTL = blocktree.RouteTTL
	}
	if cfg.NegativeTTL == 0 {
		cfg.NegativeTTL = blocktree.RouteNegativeTTL
	}
	for _, ttl := range []time.Duration{cfg.TTL, cfg.NegativeTTL} {
		if ttl < time.Millisecond || ttl > blocktree.RouteTTLMax {
			return nil, blocktree.E("route.NewAnswerer", blocktree.Invalid, errors.New("a time to live out of bounds"))
		}
	}
	return &Answerer{cfg: cfg, rates: newRates(cfg.Now())}, nil
}

// Stats returns the counters.
func (a *Answerer) Stats() AnswererStats {
	c := &a.stats
	return AnswererStats{Found: c.found.Load(), Nobody: c.nobody.Load(), Redirected: c.redirected.Load(), Denied: c.denied.Load(),
		Limited: c.limited.Load(), Malformed: c.malformed.Load(), Failed: c.failed.Load()}
}

// Serve answers an encoded query with a signed frame that Open reads. It fails with Busy for who asks too often, Permission for who may not ask, NotFound for
// a scope of another domain, Invalid, TooLarge or NewerFormat for what is no query, and with the kinds of the namespace.
func (a *Answerer) Serve(ctx context.Context, in []byte, from Querier) ([]byte, error) {
	if !a.rates.admit(from, a.cfg.Now()) {
		a.stats.limited.Add(1)
		return nil, blocktree.E("route.Serve", blocktree.Busy, errors.New("too many queries"))
	}
	q, err := DecodeQuery(in)
	if err != nil {
		a.stats.malformed.Add(1)
		return nil, err
	}
	answer, err := a.answer(ctx, q, from)
	if err == nil {
		answer.Given = a.cfg.Now()
		var frame []byte
		if frame, err = a.cfg.Signer().Seal(answer); err == nil {
			a.count(answer.Outcome)
			return frame, nil
		}
	}
	if blocktree.KindOf(err) == blocktree.Permission {
		a.stats.denied.Add(1)
	} else {
		a.stats.failed.Add(1)
	}
	return nil, &blocktree.Error{Op: "route.Serve", Path: string(q.Scope), Err: err}
}

func (a *Answerer) count(o Outcome) {
	switch o {
	case Found:
		a.stats.found.Add(1)
	case Nobody:
		a.stats.nobody.Add(1)
	case Redirected:
		a.stats.redirected.Add(1)
	}
}

// answer finds the answer, after it is clear that the querier may have one.
func (a *Answerer) answer(ctx context.Context, q Query, from Querier) (Answer, error) {
	ns := a.cfg.Namespace
	out := Answer{Query: q, Directory: ns.Directory(), TTL: a.cfg.TTL}
	if q.Scope.Root() != out.Directory.Root() {
		return out, blocktree.E("answer", blocktree.NotFound, errors.New("a path of another domain"))
	}
	inside := q.Scope.Within(out.Directory)
	known := q.Scope // as deep as it is known here
	var down Redirect
	var delegated bool
	if !inside {
		known = out.Directory
	} else {
		var err error
		if down, delegated, err = ns.Delegated(ctx, q.Scope); err != nil {
			return out, err
		}
		if delegated {
			known = down.Directory
		}
	}
	may, err := a.cfg.May(ctx, Asking{Querier: from.Identity, Domain: out.Directory.Root(), Scope: known,
		OthersRead: func(ctx context.Context) (bool, error) { return ns.OthersRead(ctx, known) },
		HasRight:   func(ctx context.Context) (bool, error) { return ns.HasRight(ctx, from.Identity, known) }})
	switch {
	case err != nil:
		return out, err
	case !may:
		return out, blocktree.E("answer", blocktree.Permission, errors.New("who is not of the domain may not ask here"))
	case delegated:
		return redirected(out, down)
	case !inside:
		return a.rootward(ctx, out)
	case q.Kind == InScope:
		return a.inScope(ctx, out)
	}
	return a.closest(ctx, out)
}

func (a *Answerer) inScope(ctx context.Context, out Answer) (Answer, error) {
	found, err := a.cfg.Namespace.Registered(ctx, out.Query.Scope, out.Query.Service)
	if err != nil {
		return out, err
	}
	return a.found(out, out.Query.Scope, found), nil
}

func (a *Answerer) closest(ctx context.Context, out Answer) (Answer, error) {
	if p, ok := a.cfg.Namespace.(Plain); ok {
		covers, ok, err := p.Plain(ctx, out.Query.Scope)
		if err != nil {
			return out, err
		}
		if ok {
			out.Covers = covers
		}
	}
	for _, dir := range Rootward(out.Query.Scope) {
		if !dir.Within(out.Directory) {
			break
		}
		list, err := a.cfg.Namespace.Registered(ctx, dir, out.Query.Service)
		if err != nil {
			return out, err
		}
		if got := a.found(out, dir, list); got.Outcome == Found {
			return got, nil
		}
	}
	if out.Directory == blocktree.RootPath(out.Directory.Root()) {
		return a.found(out, out.Directory, nil), nil
	}
	return a.rootward(ctx, out)
}

// found is the answer with the runtimes of a directory, those that can be reached; nobody if there is none.
func (a *Answerer) found(out Answer, dir blocktree.Scope, list []blocktree.Runtime) Answer {
	list = reachable(dir, list)
	if len(list) == 0 {
		out.Outcome, out.TTL = Nobody, a.cfg.NegativeTTL
		return out
	}
	out.Outcome, out.In, out.Runtimes = Found, dir, list
	if len(list) > blocktree.RouteRuntimesMax {
		out.Runtimes, out.Partial = list[:blocktree.RouteRuntimesMax], true
	}
	return out
}

// reachable leaves out what nobody could reach or recognize, so that one bad record does not spoil an answer, and puts the rest in order.
func reachable(dir blocktree.Scope, list []blocktree.Runtime) []blocktree.Runtime {
	list = slices.DeleteFunc(list, func(r blocktree.Runtime) bool {
		return check(r) != nil || r.Path.Parent() != dir || len(r.Endpoints) > blocktree.RouteEndpointsMax
	})
	slices.SortFunc(list, func(x, y blocktree.Runtime) int { return strings.Compare(string(x.Path), string(y.Path)) })
	return list
}

// rootward is the redirect to the parent cluster.
func (a *Answerer) rootward(ctx context.Context, out Answer) (Answer, error) {
	up, ok, err := a.cfg.Namespace.Parent(ctx)
	if err != nil {
		return out, err
	}
	if !ok {
		return out, blocktree.E("answer", blocktree.Unavailable, errors.New("the parent cluster is not known"))
	}
	return redirected(out, up)
}

// redirected makes the answer a redirect.
func redirected(out Answer, r Redirect) (Answer, error) {
	r.Runtimes = slices.DeleteFunc(reachable(r.Directory, r.Runtimes), func(r blocktree.Runtime) bool { return !slices.Contains(r.Services, blocktree.ServiceSector) })
	r.Runtimes = r.Runtimes[:min(len(r.Runtimes), blocktree.RouteRedirectRuntimesMax)]
	if len(r.Runtimes) == 0 {
		return out, &blocktree.Error{Op: "answer", Path: string(r.Directory), Kind: blocktree.Unavailable, Err: errors.New("no address of its cluster is known")}
	}
	out.Outcome, out.Redirect = Redirected, r
	if r.Directory.Within(out.Directory) {
		out.Covers = ""
	}
	return out, nil
}
