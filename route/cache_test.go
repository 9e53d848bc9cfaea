package route_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/route"
)

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newCache(scopes, bytes int) (*route.Cache, *clock) {
	c := &clock{at: time.Unix(1e9, 0)}
	return route.NewCache(route.CacheConfig{Root: principal("root"), Now: c.now, Scopes: scopes, Bytes: bytes}), c
}

func below(short string) blocktree.Scope { return root + blocktree.Path(short) }

func TestCachePrefix(t *testing.T) {
	c, clk := newCache(0, 0)
	say := func(kind route.QueryKind, scope string, covers bool, dir string, ttl time.Duration) {
		var list []blocktree.Runtime
		if dir != "-" {
			list = []blocktree.Runtime{at(dir+"/n", 1, "sector")}
		}
		if err := c.Learn(kind, below(scope), "sector", covers, below(dir), list, ttl); err != nil {
			t.Fatal(err)
		}
	}
	look := func(kind route.QueryKind, scope, want string) {
		t.Helper()
		known, ok := c.Lookup(kind, below(scope), "sector")
		got := "?"
		if ok && len(known.Runtimes) == 0 {
			got = "nobody"
		} else if ok {
			got = known.Runtimes[0].Path.Parent().Short()
		}
		if got != want {
			t.Errorf("%v %q: %s, want %s", kind, scope, got, want)
		}
	}
	look(route.Closest, "/a", "?")
	say(route.Closest, "", true, "", time.Minute)
	look(route.Closest, "", "/")
	look(route.Closest, "/a/b", "/")
	look(route.InScope, "/a", "?")
	say(route.Closest, "/a/b", true, "/a", 30*time.Second)
	look(route.Closest, "/a", "/")
	look(route.Closest, "/a/b/c/d", "/a") // the longest prefix wins
	look(route.Closest, "/a/bc", "/")     // a name that begins like another is not below it
	say(route.Closest, "/a/b/c", false, "/a/b", time.Minute)
	look(route.Closest, "/a/b/c", "/a/b")
	look(route.Closest, "/a/b/c/d", "/a") // said of one scope only
	say(route.InScope, "/a/b", false, "/a/b", time.Minute)
	look(route.InScope, "/a/b", "/a/b")
	look(route.InScope, "/a/b/c", "?")
	say(route.InScope, "/a/b/c", false, "-", time.Minute)
	look(route.InScope, "/a/b/c", "nobody")
	if _, ok := c.Lookup(route.Closest, below("/a"), "filesystem"); ok {
		t.Error("another service is not known")
	}
	if _, ok := c.Lookup(route.Closest, blocktree.RootPath(principal("other")), "sector"); ok {
		t.Error("another domain is not known")
	}
	clk.at = clk.at.Add(30 * time.Second)
	look(route.Closest, "/a/b/c/d", "/") // what is over does not hide what is above
	look(route.Closest, "/a/b/c", "/a/b")
	clk.at = clk.at.Add(30 * time.Second)
	look(route.Closest, "/a/b/c", "?")
	look(route.InScope, "/a/b", "?")
}

// A cluster that is learnt of voids what was said from above of everything in it, and is where to ask next.
func TestCacheClusters(t *testing.T) {
	c, clk := newCache(0, 0)
	to := func(dir string) route.Redirect {
		return route.Redirect{Directory: below(dir), Generation: 7, Runtimes: []blocktree.Runtime{at(dir+"/n", 1, "sector")}}
	}
	learn := func(dir string, ttl time.Duration) {
		if err := c.LearnCluster(to(dir), ttl); err != nil {
			t.Fatal(err)
		}
	}
	nearest := func(scope, want string) {
		t.Helper()
		if got, ok := c.Nearest(below(scope)); ok != (want != "") || ok && got.Directory.Short() != want {
			t.Errorf("nearest to %q: %s, want %s", scope, got.Directory.Short(), want)
		}
	}
	nearest("/a", "")
	learn("", time.Hour)
	learn("/a/b", time.Minute)
	nearest("", "/")
	nearest("/a", "/")
	nearest("/a/b", "/a/b")
	nearest("/a/b/c/d", "/a/b")
	if got, _ := c.Nearest(below("/a/b")); got.Generation != 7 || got.Runtimes[0].Path != below("/a/b/n") {
		t.Errorf("%+v", got)
	}
	for _, kind := range []route.QueryKind{route.InScope, route.Closest} {
		_ = c.Learn(kind, below("/a/c"), "sector", true, below(""), to("").Runtimes, time.Minute)
		learn("/a/c", time.Minute)
		if _, ok := c.Lookup(kind, below("/a/c"), "sector"); ok {
			t.Errorf("%v: what was said before the directory had a cluster", kind)
		}
		c.ForgetCluster(below("/a/c"))
	}
	_ = c.Learn(route.Closest, below(""), "sector", true, below(""), to("").Runtimes, time.Hour)
	if _, ok := c.Lookup(route.Closest, below("/a/x"), "sector"); !ok {
		t.Error("what has no cluster of its own is the root's")
	}
	if _, ok := c.Lookup(route.Closest, below("/a/b/x"), "sector"); ok {
		t.Error("the root does not know what is in /a/b")
	}
	_ = c.Learn(route.Closest, below("/a/b"), "sector", true, below("/a/b"), to("/a/b").Runtimes, time.Hour)
	learn("/a/b", time.Hour) // again: nothing new
	if known, ok := c.Lookup(route.Closest, below("/a/b/x"), "sector"); !ok || known.In != below("/a/b") {
		t.Error("what it said itself")
	}
	c.Forget(route.Closest, below("/a/b/x"), "sector")
	c.ForgetCluster(below("/a/b"))
	c.ForgetCluster(below("/never/heard/of"))
	nearest("/a/b/c", "/")
	clk.at = clk.at.Add(2 * time.Hour)
	nearest("/a/b/c", "")
	if s := c.Stats(); s.Forgotten != 4 {
		t.Errorf("%+v", s)
	}
}

// said is one thing that the model of the cache was told.
type said struct {
	kind     route.QueryKind
	scope    string
	covers   bool
	dir      string
	expires  time.Time
	negative bool
}

// model is the simplest cache: everything that it was told, searched through.
type model map[string]said

func (m model) answer(kind route.QueryKind, scope string, now time.Time) (said, bool) {
	for _, dir := range route.Rootward(below(scope)) {
		short := strings.TrimSuffix(dir.Short(), "/")
		one, there := m[kind.String()+short]
		if there && one.expires.After(now) && (short == scope || kind == route.Closest && one.covers) {
			return one, true
		}
		if kind == route.InScope {
			break
		}
	}
	return said{}, false
}

// agree looks whether cache and model answer the same.
func (m model) agree(c *route.Cache, kind route.QueryKind, scope string, now time.Time) error {
	want, ok := m.answer(kind, scope, now)
	got, known := c.Lookup(kind, below(scope), "sector")
	if known != ok || ok && (want.negative != (len(got.Runtimes) == 0) || !want.negative && got.In != below(want.dir) || got.Left != want.expires.Sub(now)) {
		return fmt.Errorf("%v %q: %+v %t, want %+v %t", kind, scope, got, known, want, ok)
	}
	return nil
}

// The cache against its model, in any order of what can be done with it.
func TestCacheAgainstModel(t *testing.T) {
	for seed := range uint64(40) {
		c, clk := newCache(0, 0)
		random := rand.New(rand.NewPCG(seed, 1))
		m := model{}
		for range 2000 {
			kind := route.QueryKind(1 + random.IntN(2))
			scope := ""
			names := 4
			if seed%8 == 0 {
				names = blocktree.PathDepthMax + 1
			}
			for range random.IntN(names) {
				scope += "/" + strings.Repeat(string(rune('a'+random.IntN(3))), 1+18*random.IntN(3)) // 1, 19 and 37: short and long ones
			}
			switch random.IntN(8) {
			case 0, 1:
				one := said{kind: kind, scope: scope, covers: kind == route.Closest && random.IntN(2) == 0, dir: fmt.Sprintf("/d%d", random.IntN(4)),
					expires: clk.at.Add(time.Duration(1+random.IntN(100)) * time.Second), negative: random.IntN(4) == 0}
				var list []blocktree.Runtime
				if !one.negative {
					list = []blocktree.Runtime{at(one.dir+"/n", 1, "sector")}
				}
				if err := c.Learn(kind, below(scope), "sector", one.covers, below(one.dir), list, one.expires.Sub(clk.at)); err != nil {
					t.Fatal(err)
				}
				m[kind.String()+scope] = one
			case 2:
				one, ok := m.answer(kind, scope, clk.at)
				c.Forget(kind, below(scope), "sector")
				if ok {
					delete(m, one.kind.String()+one.scope)
				}
			case 3:
				clk.at = clk.at.Add(time.Duration(random.IntN(20)) * time.Second)
			default:
				if err := m.agree(c, kind, scope, clk.at); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		}
		if err := c.Verify(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// What is asked for again and again stays, however much is learnt beside it; the bounds hold all the time.
func TestCacheEviction(t *testing.T) {
	const scopes, bytes = 1000, 150000
	c, _ := newCache(scopes, bytes)
	hot := []blocktree.Runtime{at("/hot/n", 1, "sector")}
	_ = c.Learn(route.InScope, below("/hot"), "sector", false, below("/hot"), hot, time.Hour)
	for i := range 20000 {
		dir := fmt.Sprintf("/c%d/d%d", i%7, i)
		list := []blocktree.Runtime{at(dir+"/n", 1, "sector")}
		if err := c.Learn(route.InScope, below(dir), "sector", false, below(dir), list, time.Hour); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.Lookup(route.InScope, below("/hot"), "sector"); !ok {
			t.Fatalf("what is used all the time is gone after %d others", i)
		}
		if s := c.Stats(); s.Scopes > scopes || s.Bytes > bytes {
			t.Fatalf("%+v", s)
		}
	}
	if s := c.Stats(); s.Evicted == 0 || s.Scopes < scopes/4 {
		t.Errorf("%+v", s)
	}
	if err := c.Verify(); err != nil {
		t.Fatal(err)
	}
}

func TestCacheRefuses(t *testing.T) {
	c, _ := newCache(0, 0)
	other := blocktree.RootPath(principal("other"))
	if err := c.Learn(route.InScope, other, "sector", false, other, nil, time.Second); blocktree.KindOf(err) != blocktree.Invalid {
		t.Error(err)
	}
	if err := c.LearnCluster(route.Redirect{Directory: root + "x"}, time.Second); blocktree.KindOf(err) != blocktree.Invalid {
		t.Error(err)
	}
	for i := range 255 {
		if err := c.Learn(route.InScope, root, fmt.Sprint(i), false, root, nil, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Learn(route.InScope, root, "one more", false, root, nil, time.Second); blocktree.KindOf(err) != blocktree.TooLarge {
		t.Error(err)
	}
	_ = c.Learn(route.InScope, root, "1", false, root, nil, 1000*time.Hour)
	if known, _ := c.Lookup(route.InScope, root, "1"); known.Left > blocktree.RouteTTLMax {
		t.Error(known.Left)
	}
}

func TestCacheConcurrent(t *testing.T) {
	c := route.NewCache(route.CacheConfig{Root: principal("root"), Scopes: 50})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				dir := fmt.Sprintf("/d%d", (i*7+g)%80)
				_ = c.Learn(route.Closest, below(dir), "sector", true, below(dir), []blocktree.Runtime{at(dir+"/n", 1, "sector")}, time.Minute)
				if known, ok := c.Lookup(route.Closest, below(dir+"/x"), "sector"); ok && known.Runtimes[0].Path.Parent() != below(dir) {
					t.Error(known)
				}
				_, _ = c.Nearest(below(dir))
				c.Forget(route.Closest, below(dir), "sector")
			}
		})
	}
	wg.Wait()
	if err := c.Verify(); err != nil {
		t.Fatal(err)
	}
}

const bigScopes, bigClusters = 1_000_000, 100_000

// fill makes a cache that knows a million directories in a hundred thousand clusters of three.
func fill(tb testing.TB) (*route.Cache, func(i int) blocktree.Scope) {
	return fillWith(tb, func(i int) string { return fmt.Sprintf("/site%d/rack%d", i%100, i/100) }, func(i int) string { return fmt.Sprintf("/dir%d", i) })
}

// fillDeep is fill with directories five to eight names deep, of all lengths, at random.
func fillDeep(tb testing.TB) (*route.Cache, func(i int) blocktree.Scope) {
	name := func(random *rand.Rand) string {
		return "/" + strings.Repeat("x", random.IntN(12)) + strconv.FormatUint(random.Uint64()>>(20+random.IntN(30)), 36)
	}
	return fillWith(tb, func(i int) (out string) {
		random := rand.New(rand.NewPCG(uint64(i/50), 1)) // fifty beside one another
		for range 3 + i/50%2 {
			out += name(random)
		}
		return out + "/home" + strconv.Itoa(i)
	}, func(i int) (out string) {
		random := rand.New(rand.NewPCG(uint64(i), 2))
		for range 1 + random.IntN(3) {
			out += name(random)
		}
		return out
	})
}

// fillWith is fill with names of one's own: of the i-th cluster, and of the i-th directory of each.
func fillWith(tb testing.TB, cluster, directory func(i int) string) (*route.Cache, func(i int) blocktree.Scope) {
	tb.Helper()
	c := route.NewCache(route.CacheConfig{Root: principal("root"), Scopes: 2 * bigScopes, Bytes: 1 << 30})
	const each = bigScopes / bigClusters
	home := func(i int) blocktree.Scope { return below(cluster(i)) }
	dir := func(i int) blocktree.Scope { return home(i/each) + blocktree.Path(directory(i%each)) }
	for i := range bigClusters {
		list := make([]blocktree.Runtime, 3)
		for n := range list {
			list[n] = blocktree.Runtime{Path: home(i).Join(fmt.Sprintf("node%d", n)), Principal: principal(fmt.Sprint(i, n)), Node: blocktree.NodeID(3*i + n + 1),
				Endpoints: []string{fmt.Sprintf("10.%d.%d.%d:7000", i%100, i/100%250, n)}, Services: []string{"sector"}}
		}
		for n := range each {
			if err := c.Learn(route.Closest, dir(i*each+n), "sector", true, home(i), list, time.Hour); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return c, dir
}

// A million scopes take at most 200 bytes each, all counted, and the cache's own count is not below what they take; a question costs no allocation.
func TestMillionScopes(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for name, fill := range map[string]func(testing.TB) (*route.Cache, func(int) blocktree.Scope){"wide": fill, "deep": fillDeep} {
		t.Run(name, func(t *testing.T) { millionScopes(t, heap, fill) })
	}
}

func millionScopes(t *testing.T, heap func() uint64, fill func(testing.TB) (*route.Cache, func(int) blocktree.Scope)) {
	before := heap()
	c, dir := fill(t)
	took := heap() - before
	s := c.Stats()
	t.Logf("%d scopes, %d records: %d bytes each; counted %d", s.Scopes, s.Records, took/bigScopes, s.Bytes/bigScopes)
	if took > 200*bigScopes {
		t.Errorf("%d bytes for each scope, at most 200", took/bigScopes)
	}
	if uint64(s.Bytes) < took*9/10 {
		t.Errorf("%d bytes are counted, %d are taken", s.Bytes, took)
	}
	scopes := make([]blocktree.Scope, 1000)
	for i := range scopes {
		scopes[i] = dir(i * 997).Join("disk0")
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := c.Lookup(route.Closest, scopes[i%1000], "sector"); !ok {
			t.Fatal("not known")
		}
		_, _ = c.Lookup(route.InScope, scopes[i%1000], "sector")
		_, _ = c.Nearest(scopes[i%1000])
		i++
	}); n != 0 {
		t.Errorf("%v allocations for a lookup", n)
	}
	runtime.KeepAlive(c)
}

func BenchmarkLookup(b *testing.B) { benchmarkLookup(b, fill) }

func BenchmarkLookupDeep(b *testing.B) { benchmarkLookup(b, fillDeep) }

func benchmarkLookup(b *testing.B, fill func(testing.TB) (*route.Cache, func(int) blocktree.Scope)) {
	c, dir := fill(b)
	scopes := make([]blocktree.Scope, 1<<16)
	random := rand.New(rand.NewPCG(1, 1))
	for i := range scopes {
		scopes[i] = dir(random.IntN(bigScopes)).Join("disk0")
	}
	slices.Sort(scopes)
	random.Shuffle(len(scopes), func(i, j int) { scopes[i], scopes[j] = scopes[j], scopes[i] })
	b.ReportAllocs()
	begin := processor(b)
	const part = 1 << 14
	last, least := begin, time.Duration(1<<62) // of the parts: others on the machine disturb some of them less
	i := 0
	for b.Loop() {
		if _, ok := c.Lookup(route.Closest, scopes[i&(1<<16-1)], "sector"); !ok {
			b.Fatal("not known")
		}
		if i++; i%part == 0 {
			now := processor(b)
			last, least = now, min(least, now-last)
		}
	}
	if i >= part {
		b.ReportMetric(float64(least)/part, "least-ns/op")
	}
	b.ReportMetric(float64(processor(b)-begin)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(memory(b), "read-ns")
}

// memory is the processor time of one read of memory that is in no cache and that the next one depends on: what a lookup consists of, and what others on the same machine make dearer.
func memory(b *testing.B) float64 {
	const size, reads = 16 << 20, 1 << 20
	next := make([]uint32, size)
	for i := range next {
		next[i] = uint32(i)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := size - 1; i > 0; i-- { // one cycle through all of them
		j := random.IntN(i)
		next[i], next[j] = next[j], next[i]
	}
	begin, at := processor(b), uint32(0)
	for range reads {
		at = next[at]
	}
	took := processor(b) - begin
	if at == 0 {
		b.Fatal("a short cycle")
	}
	return float64(took) / reads
}

// processor is the processor time of this process: on a machine that is busy the clock on the wall says little.
func processor(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
