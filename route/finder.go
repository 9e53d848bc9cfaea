package route

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// Seeder names runtimes of the root directory: a configuration, or DNS. They may have no principal and no path, but have endpoints.
type Seeder interface {
	// Seeds returns at least one and at most SeedsMax, those to be asked first in front. It may block until ctx ends, and fails with Unavailable, or with Unauthenticated for those of another domain.
	Seeds(ctx context.Context) ([]blocktree.Runtime, error)
}

// FinderConfig is what a Finder works with.
type FinderConfig struct {
	Root  blocktree.Principal // of the domain
	Asker Asker
	Cache *Cache // of the same domain; shared by all that dispatches
	Seeds Seeder
	// Home is a cluster that is known from the start, the own one; it is asked first about what lies in it, and before the seeds about all else. No runtimes: none is.
	Home Redirect
	// Believe refuses who is revoked; nil believes everybody whose credentials are good.
	Believe func(cred.Identity) error
	Now     func() time.Time // nil is time.Now
	// IntN draws a number below n, for the order in which runtimes are asked; nil is that of math/rand/v2.
	IntN func(n int) int
}

// Finder finds runtimes: in the cache, or by asking the nearest cluster that it knows and following redirects. It is a blocktree.Resolver and may be used by many goroutines.
type Finder struct {
	cfg   FinderConfig
	slots chan struct{} // questions on their way

	mu      sync.Mutex
	closed  bool
	flights map[flightKey]*flight
	running sync.WaitGroup
	stats   FinderStats

	seedsMu sync.Mutex // held while seeds are asked for: who comes then waits for the same
	seeds   []blocktree.Runtime
	seedsAt time.Time // of the last time that they were asked for
	seedErr error     // what came of it
}

var _ blocktree.Resolver = (*Finder)(nil)

// FinderStats counts since the Finder was made.
type FinderStats struct {
	Questions, Shared       uint64 // that the cache had no answer to; those of them that waited for another's
	Found, Nobody, Failed   uint64 // their ends
	Asked, Redirects        uint64 // runtimes; redirects that were followed
	Unreachable, Denied     uint64 // runtimes that did not answer, or would not
	Forged, Malformed       uint64 // answers that were refused: by whoever may not give them; that nobody may give
	TooDeep, Exhausted      uint64 // redirects that were refused, as too many led there; questions that asked too many
	SeedsAsked, SeedsFailed uint64
}

// flightKey makes equal questions one.
type flightKey struct {
	kind    QueryKind
	scope   blocktree.Scope
	service string
}

// flight is one question on its way, and all that wait for it.
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int
	result  result
	steps   []Step
	err     error
}

// NewFinder makes a Finder. It fails with Invalid where something is missing.
func NewFinder(cfg FinderConfig) (*Finder, error) {
	if cfg.Asker == nil || cfg.Cache == nil || cfg.Root.IsZero() || cfg.Seeds == nil && len(cfg.Home.Runtimes) == 0 {
		return nil, blocktree.E("route.NewFinder", blocktree.Invalid, errors.New("no asker, no cache, no root principal, or nobody to begin with"))
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.IntN == nil {
		cfg.IntN = rand.IntN
	}
	if cfg.Believe == nil {
		cfg.Believe = func(cred.Identity) error { return nil }
	}
	return &Finder{cfg: cfg, slots: make(chan struct{}, blocktree.RouteWaitingMax), flights: map[flightKey]*flight{}}, nil
}

// InScope implements blocktree.Resolver.
func (f *Finder) InScope(ctx context.Context, scope blocktree.Scope, service string) ([]blocktree.Runtime, error) {
	found, err := f.Explain(ctx, InScope, scope, service)
	return found.Runtimes, err
}

// Closest implements blocktree.Resolver.
func (f *Finder) Closest(ctx context.Context, scope blocktree.Scope, service string) ([]blocktree.Runtime, error) {
	found, err := f.Explain(ctx, Closest, scope, service)
	return found.Runtimes, err
}

// Finding is what was found, and how.
type Finding struct {
	In       blocktree.Scope // the directory of the runtimes
	Runtimes []blocktree.Runtime
	TTL      time.Duration // how long it holds, or held when it was asked
	Steps    []Step        // in order; of an error, too
}

// Explain answers a question, and says how it came to the answer. It fails with NotFound where nobody registers the service, Permission where who knows does not tell
// us, Unavailable where nobody could be asked, Unauthenticated where the seeds are of another domain, and Invalid, Timeout, Canceled, Closed.
func (f *Finder) Explain(ctx context.Context, kind QueryKind, scope blocktree.Scope, service string) (Finding, error) {
	fail := func(steps []Step, err error) (Finding, error) {
		if over := ctx.Err(); over != nil && errors.Is(err, over) {
			err = blocktree.E(kind.String(), ended(over), over)
		}
		return Finding{Steps: steps}, &blocktree.Error{Op: "route.Find", Path: string(scope), Err: err}
	}
	q := Query{Kind: kind, Scope: scope, Service: service}
	if err := q.Check(); err != nil {
		return fail(nil, err)
	}
	if scope.Root() != f.cfg.Root {
		return fail(nil, blocktree.E(kind.String(), blocktree.NotFound, errors.New("a path of another domain")))
	}
	if err := ctx.Err(); err != nil {
		return fail(nil, err)
	}
	if known, ok := f.cfg.Cache.Lookup(kind, scope, service); ok {
		steps := []Step{{What: StepCached, Scope: scope, Directory: known.In, TTL: known.Left, Runtimes: len(known.Runtimes)}}
		return finish(steps, result{in: known.In, runtimes: known.Runtimes, ttl: known.Left}, fail, service)
	}
	fl, err := f.join(ctx, flightKey{kind, scope, service})
	if err != nil {
		return fail(nil, err)
	}
	select {
	case <-fl.done:
	case <-ctx.Done():
		f.leave(fl)
		return fail(nil, ctx.Err())
	}
	if fl.err != nil {
		return fail(fl.steps, fl.err)
	}
	return finish(fl.steps, fl.result, fail, service)
}

// finish copies a result for its caller.
func finish(steps []Step, r result, fail func([]Step, error) (Finding, error), service string) (Finding, error) {
	if len(r.runtimes) == 0 {
		return fail(steps, blocktree.E("answer", blocktree.NotFound, fmt.Errorf("no runtime registers %q", service)))
	}
	out := Finding{In: r.in, TTL: r.ttl, Steps: steps, Runtimes: make([]blocktree.Runtime, len(r.runtimes))}
	for i, rt := range r.runtimes {
		out.Runtimes[i] = clone(rt)
	}
	return out, nil
}

// join waits with those that ask the same already, or begins.
func (f *Finder) join(ctx context.Context, key flightKey) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, blocktree.E("find", blocktree.Closed, nil)
	}
	f.stats.Questions++
	if fl := f.flights[key]; fl != nil {
		f.stats.Shared++
		fl.waiting++
		return fl, nil
	}
	// The question outlives its first asker as long as others wait for it.
	running, cancel := context.WithTimeout(context.WithoutCancel(ctx), blocktree.RouteFindTimeout)
	fl := &flight{done: make(chan struct{}), cancel: cancel, waiting: 1}
	f.flights[key] = fl
	f.running.Go(func() {
		defer cancel()
		w := &walk{f: f, kind: key.kind, service: key.service, asked: map[asking]bool{}}
		select {
		case f.slots <- struct{}{}:
			fl.result, fl.err = w.find(running, key.scope)
			<-f.slots
		case <-running.Done():
			fl.err = running.Err()
		}
		fl.steps = w.steps
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.flights[key] == fl {
			delete(f.flights, key)
		}
		switch {
		case fl.err != nil:
			f.stats.Failed++
		case len(fl.result.runtimes) == 0:
			f.stats.Nobody++
		default:
			f.stats.Found++
		}
		close(fl.done)
	})
	return fl, nil
}

// leave is one that waits less; the last one ends the question. Who asks the same after that begins anew.
func (f *Finder) leave(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.waiting--; fl.waiting > 0 {
		return
	}
	fl.cancel()
	for key, other := range f.flights {
		if other == fl {
			delete(f.flights, key)
		}
	}
}

// Failed says that nobody could be reached where a question was answered, or that who was there was not it: the answer is forgotten, and the next question is asked.
func (f *Finder) Failed(kind QueryKind, scope blocktree.Scope, service string) {
	f.cfg.Cache.Forget(kind, scope, service)
}

// Stats returns the counters.
func (f *Finder) Stats() FinderStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// count changes the counters.
func (f *Finder) count(change func(*FinderStats)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.stats)
}

// Close ends all questions and waits for them. Later ones fail with Closed, unless the cache has the answer.
func (f *Finder) Close() error {
	f.mu.Lock()
	f.closed = true
	for _, fl := range f.flights {
		fl.cancel()
	}
	f.mu.Unlock()
	f.running.Wait()
	return nil
}

// rootCluster returns the cluster of the root directory as the seeds name it. again asks for them though some are known, as all of those failed: they
// are fresh if that was done, which is no sooner than SeedsAgain after the last time; until then an error is the same, too.
func (f *Finder) rootCluster(ctx context.Context, again bool) (to Redirect, fresh bool, err error) {
	to = Redirect{Directory: blocktree.RootPath(f.cfg.Root)}
	if f.cfg.Seeds == nil {
		return to, false, nil
	}
	f.seedsMu.Lock()
	defer f.seedsMu.Unlock()
	recent := !f.seedsAt.IsZero() && f.cfg.Now().Sub(f.seedsAt) < blocktree.SeedsAgain
	if len(f.seeds) > 0 && !again || recent && again {
		to.Runtimes = f.seeds
		return to, false, nil
	}
	if recent && f.seedErr != nil {
		return to, false, f.seedErr
	}
	f.count(func(s *FinderStats) { s.SeedsAsked++ })
	seeds, err := f.cfg.Seeds.Seeds(ctx)
	if err == nil && (len(seeds) == 0 || len(seeds) > blocktree.SeedsMax) {
		err = blocktree.E("seeds", blocktree.Invalid, fmt.Errorf("%d seeds, from 1 to %d", len(seeds), blocktree.SeedsMax))
	}
	if err == nil && slices.ContainsFunc(seeds, func(r blocktree.Runtime) bool { return len(r.Endpoints) == 0 }) {
		err = blocktree.E("seeds", blocktree.Invalid, errors.New("a seed without an endpoint"))
	}
	if ctx.Err() != nil {
		return to, true, ctx.Err()
	}
	f.seedsAt, f.seedErr = f.cfg.Now(), err
	if err != nil {
		f.count(func(s *FinderStats) { s.SeedsFailed++ })
		return to, true, err
	}
	f.seeds = seeds
	to.Runtimes = seeds
	return to, true, nil
}
