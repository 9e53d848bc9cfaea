package route

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"blocktree"
)

// walk is one question on its way through the clusters.
type walk struct {
	f       *Finder
	kind    QueryKind
	service string
	asked   map[asking]bool
	asks    int
	way     []blocktree.Scope // the directories of the clusters from where it began to where it is
	steps   []Step
	denied  error // the first refusal to tell us, which says more than who could not be reached
}

// asking is one runtime asked about one scope: nobody is asked twice, but at other endpoints, as those may have been wrong.
type asking struct {
	runtime blocktree.Principal
	at      string
	scope   blocktree.Scope
}

// result is what was found.
type result struct {
	in       blocktree.Scope
	runtimes []blocktree.Runtime // none: nobody
	covers   blocktree.Scope
	ttl      time.Duration
}

// exhausted ends a question that asked too many.
var errExhausted = blocktree.E("find", blocktree.Unavailable, fmt.Errorf("%d runtimes were asked", blocktree.RouteAsksMax))

// find asks the clusters that are known, the nearest first, then the own one, then the root's, and remembers the answer.
func (w *walk) find(ctx context.Context, scope blocktree.Scope) (result, error) {
	r, err := w.begin(ctx, scope)
	if err == nil {
		w.learn(scope, r)
		return r, nil
	}
	switch {
	case ctx.Err() != nil:
		return result{}, blocktree.E("find", ended(ctx.Err()), ctx.Err())
	case errors.Is(err, errExhausted):
		w.f.count(func(s *FinderStats) { s.Exhausted++ })
	case w.denied != nil:
		err = w.denied
	}
	return result{}, err
}

func (w *walk) begin(ctx context.Context, scope blocktree.Scope) (result, error) {
	cfg, tried := w.f.cfg, blocktree.Scope("")
	over := func(err error) bool { return err == nil || ctx.Err() != nil || errors.Is(err, errExhausted) }
	home := len(cfg.Home.Runtimes) > 0
	askHome := func() (result, error) {
		home = false
		w.add(Step{What: StepHome, Scope: scope, Directory: cfg.Home.Directory, Runtimes: len(cfg.Home.Runtimes)})
		ctx, cancel := mostOf(ctx)
		defer cancel()
		return w.ask(ctx, cfg.Home, scope, 0, w.anyOrder(cfg.Home))
	}
	for {
		known, ok := cfg.Cache.Nearest(scope)
		if ok && known.Directory == tried { // told again meanwhile by another question: one time is enough
			ok = false
		}
		if home && scope.Within(cfg.Home.Directory) && (!ok || len(known.Directory) <= len(cfg.Home.Directory)) {
			if r, err := askHome(); over(err) {
				return r, err
			}
		}
		if !ok {
			break
		}
		w.add(Step{What: StepNearest, Scope: scope, Directory: known.Directory, Runtimes: len(known.Runtimes)})
		most, cancel := mostOf(ctx)
		r, err := w.ask(most, known, scope, 0, w.anyOrder(known))
		cancel()
		if over(err) {
			return r, err
		}
		tried = known.Directory
		w.add(Step{What: StepForgotten, Scope: scope, Directory: tried})
		cfg.Cache.ForgetCluster(tried)
	}
	if home {
		if r, err := askHome(); over(err) {
			return r, err
		}
	}
	var err error
	for _, again := range []bool{false, true} {
		root, fresh, errSeeds := w.f.rootCluster(ctx, again)
		if again && !fresh {
			break
		}
		w.add(Step{What: StepSeeds, Scope: scope, Directory: root.Directory, Runtimes: len(root.Runtimes), Err: errSeeds})
		if errSeeds != nil {
			return result{}, errSeeds
		}
		var r result
		if r, err = w.ask(ctx, root, scope, 0, slices.All(root.Runtimes)); over(err) {
			return r, err
		}
	}
	return result{}, err
}

// mostOf is three quarters of the time that is left: where a redirect leads, or what is remembered, may be machines that only take time, and somebody else is to be asked after them.
func mostOf(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)*3/4)
}

func (w *walk) add(s Step) { w.steps = append(w.steps, s) }

// learn remembers what was answered about a scope.
func (w *walk) learn(scope blocktree.Scope, r result) {
	covers := w.kind == Closest && r.covers != ""
	if covers {
		scope = r.covers
	}
	_ = w.f.cfg.Cache.Learn(w.kind, scope, w.service, covers, r.in, r.runtimes, r.ttl) // too many services: it is asked again
}

// ask puts the question to the runtimes of a cluster, one after the other, in the order given, and follows where they lead. ttl is how long the redirect holds that led here, zero
// for a beginning.
func (w *walk) ask(ctx context.Context, to Redirect, scope blocktree.Scope, ttl time.Duration, order iter.Seq2[int, blocktree.Runtime]) (result, error) {
	w.way = append(w.way, to.Directory)
	defer func() { w.way = w.way[:len(w.way)-1] }()
	err := error(blocktree.E("find", blocktree.Unavailable, fmt.Errorf("nobody of %s answers", to.Directory.Short())))
	for _, runtime := range order {
		key := asking{runtime: runtime.Principal, at: strings.Join(runtime.Endpoints, " "), scope: scope}
		if w.asked[key] {
			continue
		}
		if w.asks++; w.asks > blocktree.RouteAsksMax {
			return result{}, errExhausted
		}
		w.asked[key] = true
		a, errOne := w.one(ctx, runtime, to.Directory, scope)
		if ctx.Err() != nil {
			return result{}, ctx.Err()
		}
		if errOne != nil {
			err = errOne
			continue
		}
		if ttl > 0 {
			w.proven(to, runtime, ttl)
		}
		r, errOne := w.take(ctx, a, scope)
		if errOne == nil || ctx.Err() != nil || errors.Is(errOne, errExhausted) {
			return r, errOne
		}
		err = errOne
	}
	return result{}, err
}

// anyOrder goes through the runtimes of a cluster so that the questions of many are spread over all. (Seeds come in the order that they should be asked in.)
func (w *walk) anyOrder(to Redirect) iter.Seq2[int, blocktree.Runtime] {
	list := make([]blocktree.Runtime, len(to.Runtimes))
	for i, r := range to.Runtimes {
		j := w.f.cfg.IntN(i + 1)
		list[i] = list[j]
		list[j] = r
	}
	return slices.All(list)
}

// one asks one runtime and opens its answer. It counts, and writes a step for all but an answer that is believed.
func (w *walk) one(ctx context.Context, to blocktree.Runtime, dir, scope blocktree.Scope) (Answer, error) {
	f, begin := w.f, w.f.cfg.Now()
	q := Query{Kind: w.kind, Scope: scope, Service: w.service, Nonce: NewNonce()}
	f.count(func(s *FinderStats) { s.Asked++ })
	limited, cancel := context.WithTimeout(ctx, blocktree.RouteAskTimeout)
	frame, err := f.cfg.Asker.Ask(limited, to, dir, q)
	cancel()
	step := Step{Scope: scope, Directory: dir, Runtime: name(to), Took: f.cfg.Now().Sub(begin)}
	if err != nil {
		step.What, step.Err = StepUnreachable, err
		switch blocktree.KindOf(err) {
		case blocktree.Permission:
			step.What = StepDenied
			if w.denied == nil {
				w.denied = err
			}
			f.count(func(s *FinderStats) { s.Denied++ })
		case blocktree.Unauthenticated:
			step.What = StepRefused
			f.count(func(s *FinderStats) { s.Forged++ })
		default:
			f.count(func(s *FinderStats) { s.Unreachable++ })
		}
		w.add(step)
		return Answer{}, err
	}
	a, id, err := Open(frame, f.cfg.Root, q, f.cfg.Now())
	if err == nil && (a.Directory != dir || !to.Principal.IsZero() && id.Principal != to.Principal) {
		err = &blocktree.Error{Op: "answer", Runtime: id.Path.Short(), Kind: blocktree.Unauthenticated,
			Err: fmt.Errorf("it was not asked: %s of %s was", name(to), dir.Short())}
	}
	if err == nil {
		err = f.cfg.Believe(id)
	}
	if err != nil {
		if blocktree.KindOf(err) == blocktree.Unauthenticated || blocktree.KindOf(err) == blocktree.Permission {
			f.count(func(s *FinderStats) { s.Forged++ })
		} else {
			f.count(func(s *FinderStats) { s.Malformed++ })
		}
		step.What, step.Err = StepRefused, err
		w.add(step)
		return Answer{}, err
	}
	if a.Outcome == Nobody {
		a.TTL = min(a.TTL, blocktree.RouteNegativeTTLMax)
	}
	step.TTL = a.TTL
	switch a.Outcome {
	case Found:
		step.What, step.To, step.Runtimes = StepFound, a.In, len(a.Runtimes)
	case Nobody:
		step.What = StepNobody
	case Redirected:
		step.What, step.To, step.Runtimes = StepRedirected, a.Redirect.Directory, len(a.Redirect.Runtimes)
	}
	w.add(step)
	return a, nil
}

// name is how steps call a runtime.
func name(r blocktree.Runtime) string {
	if r.Path != "" {
		return r.Path.Short()
	}
	return r.Endpoints[0]
}

// proven remembers a cluster that a redirect named, once a runtime of it has shown itself. Of a redirect rootward only that one is believed: who gave it
// does not speak for what is above it, and all that is asked from now on would go by what it said.
func (w *walk) proven(to Redirect, by blocktree.Runtime, ttl time.Duration) {
	cache := w.f.cfg.Cache
	if len(w.way) > 1 && !to.Directory.Within(w.way[len(w.way)-2]) {
		if known, ok := cache.Nearest(to.Directory); ok && known.Directory == to.Directory {
			return
		}
		to.Runtimes = []blocktree.Runtime{by}
	}
	_ = cache.LearnCluster(to, ttl) // never of another domain
}

// take makes a result of an answer that is believed, or follows it. No chain of redirects comes back to a cluster with the same rest of a question: Answer.Check lets it go rootward only
// until it is above the scope, from there on down, and up again only with a scope that has become shorter.
func (w *walk) take(ctx context.Context, a Answer, scope blocktree.Scope) (result, error) {
	switch a.Outcome {
	case Found:
		return result{in: a.In, runtimes: a.Runtimes, covers: a.Covers, ttl: a.TTL}, nil
	case Nobody:
		return result{covers: a.Covers, ttl: a.TTL}, nil
	}
	rest := scope
	rootward := !a.Redirect.Directory.Within(a.Directory)
	if rootward && scope.Within(a.Directory) { // nobody up to there: the rest is above
		rest = a.Directory.Parent()
	}
	if len(w.way) > blocktree.RouteHopsMax {
		w.f.count(func(s *FinderStats) { s.TooDeep++ })
		err := blocktree.E("redirect", blocktree.Invalid, errors.New("too many redirects"))
		w.add(Step{What: StepRefused, Scope: scope, Directory: a.Directory, Runtime: "the redirect", To: a.Redirect.Directory, Err: err})
		return result{}, err
	}
	w.f.count(func(s *FinderStats) { s.Redirects++ })
	ctx, cancel := mostOf(ctx)
	defer cancel()
	r, err := w.ask(ctx, a.Redirect, rest, a.TTL, w.anyOrder(a.Redirect))
	if err != nil {
		return result{}, err
	}
	if rest != scope {
		w.learn(rest, r)
		r.covers = a.Covers
	}
	r.ttl = min(r.ttl, a.TTL)
	return r, nil
}
