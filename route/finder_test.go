package route_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/route"
)

// seeds are the sector hosts of the root directory, by endpoint alone, as DNS names them.
type seeds struct {
	list  []blocktree.Runtime
	err   error
	asked int
}

func (s *seeds) Seeds(context.Context) ([]blocktree.Runtime, error) {
	s.asked++
	return slices.Clone(s.list), s.err
}

func (w *world) seeds() *seeds {
	s := &seeds{}
	for _, r := range w.clusters[w.root].redirect().Runtimes {
		s.list = append(s.list, blocktree.Runtime{Endpoints: r.Endpoints})
	}
	return s
}

// finder is one of a member of the domain that knows nothing but the seeds. It asks in order.
func (w *world) finder(change ...func(*route.FinderConfig)) *route.Finder {
	w.t.Helper()
	cfg := route.FinderConfig{Root: w.key.Principal(), Asker: asker{w: w, from: w.caller("/client")}, Seeds: w.seeds(), Now: func() time.Time { return w.now() },
		Cache: route.NewCache(route.CacheConfig{Root: w.key.Principal(), Now: func() time.Time { return w.now() }}), IntN: func(n int) int { return n - 1 }}
	for _, c := range change {
		c(&cfg)
	}
	f, err := route.NewFinder(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = f.Close() })
	return f
}

// find asks, and returns what was found in short, or the error's kind, and who was asked.
func find(t *testing.T, w *world, f *route.Finder, kind route.QueryKind, scope, service string) (string, string) {
	t.Helper()
	w.takeAsked()
	got, err := f.Explain(t.Context(), kind, w.at(scope), service)
	asked := strings.Join(w.takeAsked(), ", ")
	if err != nil {
		return blocktree.KindOf(err).String(), asked
	}
	return fmt.Sprintf("%s: %d", got.In.Short(), len(got.Runtimes)), asked
}

func TestFind(t *testing.T) {
	w := newWorld(t, 2, "", "/a", "/a/b/c", "/z")
	w.service("/a/b", "fs1", "filesystem")
	w.service("", "fs0", "filesystem")
	f := w.finder()
	for _, x := range []struct {
		kind                       route.QueryKind
		scope, service, want, asks string
	}{
		{route.Closest, "/a/b/c/d/disk0", "sector", "/a/b/c: 2", "/node0 closest /a/b/c/d/disk0, /a/node0 closest /a/b/c/d/disk0, /a/b/c/node0 closest /a/b/c/d/disk0"},
		{route.Closest, "/a/b/c/d/disk0", "sector", "/a/b/c: 2", ""},                                    // known
		{route.Closest, "/a/b/c/d/disk1", "sector", "/a/b/c: 2", "/a/b/c/node0 closest /a/b/c/d/disk1"}, // the nearest cluster is
		{route.Closest, "/a/x", "sector", "/a: 2", "/a/node0 closest /a/x"},
		{route.Closest, "/a/b/c/d", "filesystem", "/a/b: 1", "/a/b/c/node0 closest /a/b/c/d, /a/node0 closest /a/b"}, // out of the cluster, rootward
		{route.Closest, "/a/b", "filesystem", "/a/b: 1", ""},                                                         // learnt on the way
		{route.Closest, "/z/y", "filesystem", "/: 1", "/node0 closest /z/y, /z/node0 closest /z/y, /node0 closest /"},
		{route.Closest, "/z/y", "nothing", "not found", "/z/node0 closest /z/y, /node0 closest /"},
		{route.Closest, "/z/y", "nothing", "not found", ""},
		{route.InScope, "/a/b", "filesystem", "/a/b: 1", "/a/node0 in scope /a/b"},
		{route.InScope, "/a/b", "sector", "not found", "/a/node0 in scope /a/b"},
		{route.InScope, "/a/b", "sector", "not found", ""},
		{route.InScope, "", "sector", "/: 2", "/node0 in scope /"},
	} {
		got, asked := find(t, w, f, x.kind, x.scope, x.service)
		if got != x.want || asked != x.asks {
			t.Errorf("%v %q %s: %s by %q, want %s by %q", x.kind, x.scope, x.service, got, asked, x.want, x.asks)
		}
	}
	if s := f.Stats(); s.Found != 7 || s.Nobody != 2 || s.Failed != 0 || s.Redirects != 6 {
		t.Errorf("%+v", s)
	}
}

// A member of a cluster below begins at home, whoever else it knows, and climbs from there.
func TestFindFromHome(t *testing.T) {
	w := newWorld(t, 1, "", "/a", "/a/b", "/z")
	f := w.finder(func(c *route.FinderConfig) { c.Home, c.Seeds = w.clusters[w.at("/a/b")].redirect(), nil })
	for _, x := range []struct{ scope, want, asks string }{
		{"/z/y", "/z: 1", "/a/b/node0 closest /z/y, /a/node0 closest /z/y, /node0 closest /z/y, /z/node0 closest /z/y"},
		{"/a/b/c", "/a/b: 1", "/a/b/node0 closest /a/b/c"},
		{"/z/x", "/z: 1", "/z/node0 closest /z/x"},
		{"/y", "/: 1", "/node0 closest /y"}, // who has shown itself there
	} {
		if got, asked := find(t, w, f, route.Closest, x.scope, "sector"); got != x.want || asked != x.asks {
			t.Errorf("%q: %s by %q, want %s by %q", x.scope, got, asked, x.want, x.asks)
		}
	}
}

// Whoever sends a question rootward does not speak for what is there: of what he names only who has proven it is asked again.
func TestRootwardIsProven(t *testing.T) {
	w := newWorld(t, 2, "", "/a")
	for _, h := range w.clusters[w.at("/a")].hosts {
		h.say = func(q route.Query, _ func() ([]byte, error)) ([]byte, error) {
			to := w.clusters[w.root].redirect()
			to.Runtimes[1].Endpoints = []string{"192.0.2.66:1"}
			return route.SealUnchecked(h.signer, route.Answer{Query: q, Directory: w.at("/a"), Outcome: route.Redirected, TTL: time.Minute, Redirect: to}), nil
		}
	}
	f := w.finder(func(c *route.FinderConfig) {
		c.Home, c.Seeds = w.clusters[w.at("/a")].redirect(), nil
		c.IntN = func(int) int { return 0 } // the last one first
	})
	if got, asked := find(t, w, f, route.Closest, "/x", "sector"); got != "/: 2" || !strings.HasPrefix(asked, "/a/node1 closest /x, 192.0.2.66:1 closest /x, /node0") {
		t.Fatalf("%s by %q", got, asked)
	}
	for _, scope := range []string{"/x1", "/x2", "/x3"} {
		if got, asked := find(t, w, f, route.Closest, scope, "sector"); got != "/: 2" || asked != "/node0 closest "+scope {
			t.Errorf("%s by %q", got, asked)
		}
	}
}

// A seed that is a sector host, and good, but of another cluster than the root's is not taken for one of the root's.
func TestSeedOfAnotherCluster(t *testing.T) {
	w := newWorld(t, 1, "", "/a")
	s := w.seeds()
	s.list = append([]blocktree.Runtime{{Endpoints: w.clusters[w.at("/a")].hosts[0].runtime.Endpoints}}, s.list...)
	f := w.finder(func(c *route.FinderConfig) { c.Seeds = s })
	if got, _ := find(t, w, f, route.Closest, "/a/x", "sector"); got != "/a: 1" || f.Stats().Forged != 1 {
		t.Errorf("%s, %+v", got, f.Stats())
	}
}

// plainCluster knows that nothing below a directory is special.
type plainCluster struct {
	*cluster
	plain blocktree.Scope
}

func (p plainCluster) Plain(_ context.Context, scope blocktree.Scope) (blocktree.Scope, bool, error) {
	return p.plain, scope.Within(p.plain), nil
}

// Where the answerer knows how far its answer holds, one answer does for all of that.
func TestFindCovered(t *testing.T) {
	w := newWorld(t, 1, "", "/a")
	c := w.clusters[w.at("/a")]
	c.hosts[0].answers(plainCluster{c, w.at("/a")})
	w.service("", "fs0", "filesystem")
	f := w.finder()
	for _, x := range []struct{ scope, service, asks string }{
		{"/a/x/1", "sector", "/node0 closest /a/x/1, /a/node0 closest /a/x/1"},
		{"/a/y/2", "sector", ""},
		{"/a", "sector", ""},
		{"/a/x/1", "filesystem", "/a/node0 closest /a/x/1, /node0 closest /"},
		{"/a/y/3", "filesystem", ""},
	} {
		if _, asked := find(t, w, f, route.Closest, x.scope, x.service); asked != x.asks {
			t.Errorf("%q %s: asked %q, want %q", x.scope, x.service, asked, x.asks)
		}
	}
}

// lie is what one sector host says instead of the truth. node0 of a cluster lies.
type lie struct {
	name  string
	liar  string // the directory of its cluster
	say   func(w *world, a route.Answer, h *host) []byte
	count func(s route.FinderStats) uint64 // that must count it; nil for one that is never asked
}

func lies(evil *world) []lie {
	return []lie{

		{"not an answer", "", func(*world, route.Answer, *host) []byte { return []byte("hello") }, func(s route.FinderStats) uint64 { return s.Malformed }},
		{"a runtime of its own as the child's", "/a", func(w *world, a route.Answer, h *host) []byte {
			a.Runtimes[0].Principal = principal("evil")
			return route.SealUnchecked(evil.clusters[evil.at("/a")].hosts[0].signer, a)
		}, func(s route.FinderStats) uint64 { return s.Forged }},
		{"what the child speaks for, by the parent's other child", "/z", func(w *world, a route.Answer, h *host) []byte {
			return route.SealUnchecked(h.signer, route.Answer{Query: a.Query, Directory: w.at("/a"), Outcome: route.Nobody, TTL: time.Minute})
		}, nil},
		{"in the name of the root directory", "/a", func(w *world, a route.Answer, h *host) []byte {
			a.Directory = w.root
			return route.SealUnchecked(h.signer, a)
		}, func(s route.FinderStats) uint64 { return s.Forged }},
		{"for ever", "", func(w *world, a route.Answer, h *host) []byte {
			a.TTL = 1000 * time.Hour
			return route.SealUnchecked(h.signer, a)
		}, func(s route.FinderStats) uint64 { return s.Malformed }},
		{"an answer to another question", "", func(w *world, a route.Answer, h *host) []byte {
			a.Query.Nonce = route.NewNonce()
			return route.SealUnchecked(h.signer, a)
		}, func(s route.FinderStats) uint64 { return s.Malformed }},
		{"aside", "/a", func(w *world, a route.Answer, h *host) []byte {
			a.Outcome, a.Redirect = route.Redirected, w.clusters[w.at("/z")].redirect()
			return route.SealUnchecked(h.signer, a)
		}, func(s route.FinderStats) uint64 { return s.Malformed }},
		{"to where nobody is", "", func(w *world, a route.Answer, h *host) []byte {
			a.Redirect.Runtimes[0].Endpoints, a.Redirect.Runtimes[1].Endpoints = []string{"192.0.2.1:1"}, []string{"192.0.2.2:1"}
			return route.SealUnchecked(h.signer, a)
		}, func(s route.FinderStats) uint64 { return s.Unreachable }},
		{"to machines of another domain", "", func(w *world, a route.Answer, h *host) []byte {
			for i := range a.Redirect.Runtimes { // they are there, and answer: their credentials end at another root
				e := fmt.Sprintf("203.0.113.%d:1", i)
				fake := evil.clusters[evil.at("/a")].hosts[0]
				w.hosts[e] = &host{runtime: a.Redirect.Runtimes[i], signer: fake.signer, cluster: h.cluster, say: func(q route.Query, _ func() ([]byte, error)) ([]byte, error) {
					return route.SealUnchecked(fake.signer, route.Answer{Query: q, Directory: w.at("/a"), Outcome: route.Nobody, TTL: time.Minute}), nil
				}}
				a.Redirect.Runtimes[i].Endpoints = []string{e}
			}
			return route.SealUnchecked(h.signer, a)
		}, func(s route.FinderStats) uint64 { return s.Forged }},
	}
}

// What is wrong is refused and counted, the next runtime is asked, and the truth is found.
func TestLiars(t *testing.T) {
	for _, x := range lies(newWorld(t, 1, "", "/a")) {
		w := newWorld(t, 2, "", "/a", "/z")
		liar := w.clusters[w.at(x.liar)].hosts[0]
		liar.say = func(q route.Query, truth func() ([]byte, error)) ([]byte, error) {
			frame, err := truth()
			if err != nil {
				return nil, err
			}
			a, _, err := route.Open(frame, w.key.Principal(), q, w.now())
			if err != nil {
				t.Fatal(err)
			}
			return x.say(w, a, liar), nil
		}
		f := w.finder()
		got, err := f.Explain(t.Context(), route.Closest, w.at("/a/disk0"), "sector")
		if err != nil && x.count != nil || err == nil && (got.In != w.at("/a") || got.Runtimes[0].Principal != w.clusters[w.at("/a")].hosts[0].runtime.Principal) {
			t.Errorf("%s: %+v, %v", x.name, got, err)
		}
		if x.count != nil && x.count(f.Stats()) == 0 {
			t.Errorf("%s: not counted: %+v", x.name, f.Stats())
		}
	}
}

// Two clusters that both say the other has it, the root's among them, end as a refusal and not in a chase; so do chains that go on for ever.
func TestLoopsAndDepth(t *testing.T) {
	dirs := []string{""}
	deep := ""
	for i := range blocktree.RouteHopsMax + 2 {
		deep += fmt.Sprintf("/d%d", i)
		dirs = append(dirs, deep)
	}
	w := newWorld(t, 1, dirs...)
	f := w.finder()
	if _, err := f.Closest(t.Context(), w.at(deep), "sector"); blocktree.KindOf(err) != blocktree.Invalid || f.Stats().TooDeep == 0 || f.Stats().Asked > 2*blocktree.RouteHopsMax+4 {
		t.Errorf("%v, %+v", err, f.Stats())
	}

	w = newWorld(t, 3, "", "/a")
	for _, h := range w.clusters[w.at("/a")].hosts { // they send those who climb up from /z back to where they came from
		h.say = func(q route.Query, _ func() ([]byte, error)) ([]byte, error) {
			a := route.Answer{Query: q, Directory: w.at("/a"), Outcome: route.Redirected, TTL: time.Minute, Redirect: w.clusters[w.root].redirect()}
			return route.SealUnchecked(h.signer, a), nil
		}
	}
	for _, h := range w.clusters[w.root].hosts { // and these are in it
		h.say = func(q route.Query, _ func() ([]byte, error)) ([]byte, error) {
			a := route.Answer{Query: q, Directory: w.root, Outcome: route.Redirected, TTL: time.Minute, Redirect: w.clusters[w.at("/a")].redirect()}
			return route.SealUnchecked(h.signer, a), nil
		}
	}
	f = w.finder()
	if _, err := f.Closest(t.Context(), w.at("/a/x"), "sector"); err == nil || f.Stats().Asked > blocktree.RouteAsksMax {
		t.Errorf("%v, %+v", err, f.Stats())
	}
	if _, err := f.InScope(t.Context(), w.at("/a/x"), "sector"); err == nil || f.Stats().Malformed == 0 {
		t.Errorf("%v, %+v", err, f.Stats())
	}
}

// A question that all lead astray asks a bounded number of runtimes.
func TestAsksAreBounded(t *testing.T) {
	w := newWorld(t, 0, "")
	f := w.finder(func(c *route.FinderConfig) {
		home := route.Redirect{Directory: w.at("/a")}
		for i := range 2 * blocktree.RouteAsksMax {
			home.Runtimes = append(home.Runtimes, blocktree.Runtime{Principal: principal(fmt.Sprint(i)), Endpoints: []string{fmt.Sprintf("192.0.2.%d:1", i)}})
		}
		c.Home = home
	})
	_, err := f.Closest(t.Context(), w.at("/a"), "sector")
	if s := f.Stats(); blocktree.KindOf(err) != blocktree.Unavailable || s.Asked != blocktree.RouteAsksMax || s.Exhausted != 1 {
		t.Errorf("%v, %+v", err, s)
	}
}

// A cluster that has moved is forgotten when nobody is there any more, and found again from above; what was answered is forgotten when whoever used it says so.
func TestMoved(t *testing.T) {
	w := newWorld(t, 2, "", "/a")
	s := w.seeds()
	f := w.finder(func(c *route.FinderConfig) { c.Seeds = s })
	if got, _ := find(t, w, f, route.Closest, "/a/x", "sector"); got != "/a: 2" {
		t.Fatal(got)
	}
	move := func(dir string) {
		c := w.clusters[w.at(dir)]
		for i, h := range c.hosts {
			delete(w.hosts, h.runtime.Endpoints[0])
			h.runtime.Endpoints = []string{fmt.Sprintf("new%s.%s", strings.ReplaceAll(dir, "/", "-"), h.runtime.Endpoints[0])}
			w.hosts[h.runtime.Endpoints[0]] = h
			c.registered[c.dir][i] = h.runtime
		}
	}
	move("/a")
	if got, asked := find(t, w, f, route.Closest, "/a/x", "sector"); got != "/a: 2" || asked != "" {
		t.Errorf("%s by %q", got, asked)
	}
	f.Failed(route.Closest, w.at("/a/x"), "sector")
	got, err := f.Explain(t.Context(), route.Closest, w.at("/a/x"), "sector")
	if err != nil || !strings.HasPrefix(got.Runtimes[0].Endpoints[0], "new") {
		t.Errorf("%+v, %v", got, err)
	}
	what := []route.StepKind{}
	for _, step := range got.Steps {
		what = append(what, step.What)
	}
	if !slices.Equal(what, []route.StepKind{route.StepNearest, route.StepUnreachable, route.StepUnreachable, route.StepForgotten, route.StepSeeds, route.StepRedirected, route.StepFound}) {
		t.Errorf("%v", got.Steps)
	}
	// The root moves: DNS says where to.
	w.now = func() time.Time { return time.Now().Add(blocktree.SeedsAgain) }
	move("")
	s.list = w.seeds().list
	if got, _ := find(t, w, f, route.Closest, "/b", "sector"); got != "/: 2" || s.asked != 2 {
		t.Errorf("%s, seeds asked for %d times", got, s.asked)
	}
}

// Seeds that nobody answers at are asked for again, and not at each question.
func TestSeedsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "")
		s := &seeds{list: []blocktree.Runtime{{Endpoints: []string{"192.0.2.1:1"}}}}
		f := w.finder(func(c *route.FinderConfig) { c.Seeds = s })
		for range 10 {
			if _, err := f.Closest(t.Context(), w.at("/x"), "sector"); blocktree.KindOf(err) != blocktree.Unavailable {
				t.Fatal(err)
			}
		}
		if s.asked != 1 {
			t.Errorf("asked for %d times at once", s.asked)
		}
		time.Sleep(blocktree.SeedsAgain)
		s.list = w.seeds().list
		if _, err := f.Closest(t.Context(), w.at("/x"), "sector"); err != nil || s.asked != 2 {
			t.Error(err, s.asked)
		}
		for _, bad := range []*seeds{{err: blocktree.E("dns", blocktree.Unauthenticated, errors.New("another root"))}, {}, {list: make([]blocktree.Runtime, 1)}, {list: make([]blocktree.Runtime, blocktree.SeedsMax+1)}} {
			f := w.finder(func(c *route.FinderConfig) { c.Seeds = bad })
			if _, err := f.Closest(t.Context(), w.at("/x"), "sector"); err == nil || bad.err != nil && blocktree.KindOf(err) != blocktree.Unauthenticated {
				t.Error(err)
			}
		}
	})
}

// slow is an asker whose answers take a second.
type slow struct {
	asker
	n atomic.Int32
}

func (s *slow) Ask(ctx context.Context, to blocktree.Runtime, in blocktree.Scope, q route.Query) ([]byte, error) {
	s.n.Add(1)
	select {
	case <-time.After(time.Second):
		return s.asker.Ask(ctx, to, in, q)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Equal questions are one, which lasts as long as anybody waits for it.
func TestOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "")
		a := &slow{asker: asker{w: w, from: w.caller("/client")}}
		f := w.finder(func(c *route.FinderConfig) { c.Asker = a })
		var wg sync.WaitGroup
		first, cancel := context.WithCancel(t.Context())
		for i := range 50 {
			ctx := t.Context()
			if i == 0 {
				ctx = first
			}
			wg.Go(func() {
				got, err := f.Closest(ctx, w.at("/x"), "sector")
				if i == 0 && blocktree.KindOf(err) != blocktree.Canceled || i > 0 && (err != nil || len(got) != 1) {
					t.Error(i, got, err)
				}
				if i > 0 {
					got[0].Endpoints[0] = "changed" // an answer belongs to its caller
				}
			})
			synctest.Wait()
		}
		cancel()
		wg.Wait()
		if s := f.Stats(); a.n.Load() != 1 || s.Shared != 49 || s.Questions != 50 {
			t.Errorf("%d asked, %+v", a.n.Load(), s)
		}
		if got, err := f.Closest(t.Context(), w.at("/x"), "sector"); err != nil || got[0].Endpoints[0] == "changed" {
			t.Error(got, err)
		}
		// All leave: the question ends, and the next one begins anew.
		short, end := context.WithTimeout(t.Context(), time.Second/2)
		defer end()
		if _, err := f.Closest(short, w.at("/y"), "sector"); blocktree.KindOf(err) != blocktree.Timeout {
			t.Error(err)
		}
		if _, err := f.Closest(t.Context(), w.at("/y"), "sector"); err != nil || a.n.Load() != 3 {
			t.Error(err, a.n.Load())
		}
		// One that never answers costs its time, and no more.
		go func() { _, _ = f.Closest(t.Context(), w.at("/z"), "sector") }()
		synctest.Wait()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if _, err := f.Closest(t.Context(), w.at("/never"), "sector"); blocktree.KindOf(err) != blocktree.Closed {
			t.Error(err)
		}
	})
}

func TestFindRefuses(t *testing.T) {
	w := newWorld(t, 1, "")
	w.clusters[w.root].private[w.at("/secret")] = true
	f := w.finder(func(c *route.FinderConfig) { c.Asker = asker{w: w} })
	for _, x := range []struct {
		kind  route.QueryKind
		scope blocktree.Scope
		want  blocktree.Kind
	}{
		{route.Closest, w.at("/secret"), blocktree.Permission},
		{route.Closest, "/short", blocktree.Invalid},
		{9, w.root, blocktree.Invalid},
		{route.Closest, root, blocktree.NotFound},
	} {
		if _, err := f.Explain(t.Context(), x.kind, x.scope, "sector"); blocktree.KindOf(err) != x.want {
			t.Errorf("%v %s: %v", x.kind, x.scope, err)
		}
	}
	if s := f.Stats(); s.Denied != 1 || s.Failed != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := route.NewFinder(route.FinderConfig{}); blocktree.KindOf(err) != blocktree.Invalid {
		t.Error(err)
	}
}

// dead is an asker to whom no endpoint of 192.0.2.0/24 says anything, as a machine behind a firewall that drops what comes.
type dead struct{ asker }

func (d dead) Ask(ctx context.Context, to blocktree.Runtime, in blocktree.Scope, q route.Query) ([]byte, error) {
	if strings.HasPrefix(to.Endpoints[0], "192.0.2.") {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return d.asker.Ask(ctx, to, in, q)
}

// A redirect to machines that say nothing costs a question time, and no answer: somebody else is asked, also where it is remembered because one of them was real.
func TestRedirectToTheDead(t *testing.T) {
	for name, real := range map[string]bool{"nobody is there": false, "one is": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2, "", "/a")
				liar := w.clusters[w.root].hosts[0]
				liar.say = func(q route.Query, _ func() ([]byte, error)) ([]byte, error) {
					to := route.Redirect{Directory: w.at("/a")}
					for i := range blocktree.RouteRedirectRuntimesMax - 1 {
						to.Runtimes = append(to.Runtimes, blocktree.Runtime{Path: w.at(fmt.Sprintf("/a/a%02d", i)), Principal: blocktree.Principal{byte(i + 1)}, Node: blocktree.NodeID(500 + i),
							Endpoints: []string{fmt.Sprintf("192.0.2.%d:1", i+1)}, Services: []string{blocktree.ServiceSector}})
					}
					if real {
						to.Runtimes = append(to.Runtimes, w.clusters[w.at("/a")].redirect().Runtimes[0])
					}
					return route.SealUnchecked(liar.signer, route.Answer{Query: q, Directory: w.root, Outcome: route.Redirected, TTL: time.Hour, Redirect: to}), nil
				}
				last := true // of a cluster's runtimes the last one is asked first
				f := w.finder(func(c *route.FinderConfig) {
					c.Asker = dead{asker{w: w, from: w.caller("/client")}}
					c.IntN = func(n int) int {
						if last {
							return 0
						}
						return n - 1
					}
				})
				for _, scope := range []string{"/a/x", "/a/y"} {
					got, err := f.Closest(t.Context(), w.at(scope), "sector")
					if err != nil || len(got) != 2 {
						t.Errorf("%s: %d runtimes, %v", scope, len(got), err)
					}
					last = false
					w.clusters[w.root].hosts[0].say = nil // nobody lies any more
				}
			})
		})
	}
}

// Who lies that there is nobody is believed for a minute, as long as he may say that it holds: nothing else puts that right.
func TestNobodyIsNotForLong(t *testing.T) {
	w := newWorld(t, 2, "")
	now := w.begin
	w.now = func() time.Time { return now }
	w.service("/a", "fs1", "filesystem")
	liar := w.clusters[w.root].hosts[0]
	liar.say = func(q route.Query, _ func() ([]byte, error)) ([]byte, error) {
		return route.SealUnchecked(liar.signer, route.Answer{Query: q, Directory: w.root, Outcome: route.Nobody, TTL: blocktree.RouteTTLMax}), nil
	}
	f := w.finder()
	for _, x := range []struct {
		after time.Duration
		want  string
	}{{0, "not found"}, {blocktree.RouteNegativeTTLMax - time.Second, "not found"}, {time.Second, "/a: 1"}} {
		now = now.Add(x.after)
		if got, asked := find(t, w, f, route.InScope, "/a", "filesystem"); got != x.want {
			t.Errorf("after %v: %s by %q, want %s", x.after, got, asked, x.want)
		}
		liar.say = nil
	}
}
