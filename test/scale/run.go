package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/route"
)

// load is what the clients of a domain do.
type load struct {
	seed      uint64
	processes int           // each with a cache of its own
	lookups   int           // of each
	pause     time.Duration // between two of one process
	near      float64       // the part of lookups that stays below the process's own place of the first level
	lives     time.Duration // how long a cluster stays where it is, each from a moment of its own on; 0: for ever
	founds    time.Duration // in which every directory of the last level gets a cluster of its own, each at a moment of its own; 0: none does
}

// What a process asks for. It has files that it comes back to, the first of them most often (Zipf), and now and then one that it never asked for, which takes the place of one of these. Which files these are is drawn from all of the
// domain, some of which everybody wants (Zipf again).
const (
	filesEach    = 256
	freshPercent = 5
	ownSkew      = 1.1
	allSkew      = 1.05
)

// window counts lookups, the n-th to the m-th of each process.
type window struct {
	upTo                                   int
	lookups, hits, asks, root, most, stale uint64
	founded                                uint64 // the directory had got a cluster of its own meanwhile
}

// rate is one number for each lookup.
func (w window) rate(n uint64) float64 { return float64(n) / float64(max(w.lookups, 1)) }

// outcome is what came of a load on a shape.
type outcome struct {
	shape
	load
	windows []window
	cache   route.CacheStats // of the last process
}

// all adds the windows up.
func (o outcome) all() (sum window) {
	for _, w := range o.windows {
		sum.lookups, sum.hits, sum.asks, sum.root, sum.stale = sum.lookups+w.lookups, sum.hits+w.hits, sum.asks+w.asks, sum.root+w.root, sum.stale+w.stale
		sum.most, sum.founded = max(sum.most, w.most), sum.founded+w.founded
	}
	return sum
}

// windowEnds are where one window ends and the next begins.
func windowEnds(lookups int) (ends []int) {
	for n := 1; n < lookups; n *= 2 {
		ends = append(ends, n)
	}
	return append(ends, lookups)
}

// run puts a load on a domain, one process after the other.
func run(ctx context.Context, s shape, l load) (outcome, error) {
	out := outcome{shape: s, load: l}
	for _, end := range windowEnds(l.lookups) {
		out.windows = append(out.windows, window{upTo: end})
	}
	d, err := newDomain(s, l.lives)
	if err != nil {
		return out, err
	}
	d.founds = l.founds
	for p := range l.processes {
		if out.cache, err = d.process(ctx, l, p, out.windows); err != nil {
			return out, fmt.Errorf("%s, process %d: %w", s.name, p, err)
		}
	}
	return out, nil
}

// process is the life of one.
func (d *domain) process(ctx context.Context, l load, p int, windows []window) (route.CacheStats, error) {
	random := rand.New(rand.NewPCG(l.seed, uint64(p)))
	clock := func() time.Time { return d.now }
	cache := route.NewCache(route.CacheConfig{Root: d.root.Principal(), Now: clock})
	var id cred.Identity // a querier of its own
	id.Path = d.path.Join("p")
	binary.BigEndian.PutUint64(id.Principal[1:], uint64(p)+1)
	f, err := route.NewFinder(route.FinderConfig{Root: d.root.Principal(), Cache: cache, Asker: member{d, id}, Seeds: rootSeeds{d}, Now: clock, IntN: random.IntN})
	if err != nil {
		return route.CacheStats{}, err
	}
	defer f.Close()
	place := random.IntN(d.fan[0])
	all := d.clusters() * (d.directories + 1)
	popular, own := rand.NewZipf(random, allSkew, 1, uint64(all-1)), rand.NewZipf(random, ownSkew, 1, filesEach-1)
	draw := func() blocktree.Scope {
		scope := d.directory(int(popular.Uint64() * 2654435761 % uint64(all))) // what is popular lies anywhere
		if random.Float64() < l.near {
			scope = d.move(scope, place)
		}
		return scope.Join("disk" + strconv.Itoa(random.IntN(4)))
	}
	files := make([]blocktree.Scope, filesEach)
	for i := range files {
		files[i] = draw()
	}
	w := 0
	for n := range l.lookups {
		if n == windows[w].upTo {
			w++
		}
		i := own.Uint64()
		if random.IntN(100) < freshPercent {
			i = uint64(random.IntN(filesEach))
			files[i] = draw()
		}
		if err := d.lookup(ctx, f, files[i], &windows[w]); err != nil {
			return route.CacheStats{}, err
		}
		d.now = d.now.Add(l.pause)
	}
	return cache.Stats(), nil
}

// move puts a directory below another place of the first level.
func (d *domain) move(scope blocktree.Scope, place int) blocktree.Scope {
	rest := string(scope[len(d.path):])
	if len(rest) < 2 || rest[1] != 'c' {
		return scope
	}
	end := 2
	for end < len(rest) && rest[end] != '/' {
		end++
	}
	return d.path + blocktree.Path(fmt.Sprintf("/c%d%s", place, rest[end:]))
}

// lookup finds the cluster of a file, and uses it: where nobody is there any more it says so and asks again.
func (d *domain) lookup(ctx context.Context, f *route.Finder, scope blocktree.Scope, w *window) error {
	asked, root := d.asked, d.atRoot
	hits := f.Stats().Questions
	home, err := d.home(scope)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		got, err := f.Closest(ctx, scope, blocktree.ServiceSector)
		if err != nil {
			return err
		}
		if in := got[0].Path.Parent(); in != home.dir && home.own && home.dir.Parent() == in { // who is there redirects, and the cluster that it names is found
			w.founded++
			if got, err = f.InScope(ctx, home.dir, blocktree.ServiceSector); err != nil {
				return err
			}
		}
		if got[0].Path.Parent() != home.dir {
			return fmt.Errorf("%s is kept by %s, found %s", scope.Short(), home.dir.Short(), got[0].Path.Short())
		}
		if got[0].Endpoints[0] == home.runtimes()[0].Endpoints[0] {
			break
		}
		if try == 1 {
			return fmt.Errorf("%s: the answer is old, after it was asked anew", scope.Short())
		}
		w.stale++
		f.Failed(route.Closest, scope, blocktree.ServiceSector)
	}
	w.lookups++
	if f.Stats().Questions == hits {
		w.hits++
	}
	w.asks += d.asked - asked
	w.root += d.atRoot - root
	w.most = max(w.most, d.asked-asked)
	return nil
}

// sweep has one process look at every directory once, in the order of the tree: what a busy gateway comes to know.
func sweep(ctx context.Context, s shape) (outcome, error) {
	all := s.clusters() * (s.directories + 1)
	out := outcome{shape: s, load: load{processes: 1, lookups: all}, windows: []window{{upTo: all}}}
	d, err := newDomain(s, 0)
	if err != nil {
		return out, err
	}
	clock := func() time.Time { return d.now }
	cache := route.NewCache(route.CacheConfig{Root: d.root.Principal(), Now: clock})
	id := cred.Identity{Path: d.path.Join("p"), Principal: blocktree.Principal{1}}
	f, err := route.NewFinder(route.FinderConfig{Root: d.root.Principal(), Cache: cache, Asker: member{d, id}, Seeds: rootSeeds{d}, Now: clock,
		IntN: rand.New(rand.NewPCG(1, 1)).IntN})
	if err != nil {
		return out, err
	}
	defer f.Close()
	for n := range all {
		if err := d.lookup(ctx, f, d.directory(n).Join("disk0"), &out.windows[0]); err != nil {
			return out, err
		}
		d.now = d.now.Add(100 * time.Microsecond)
	}
	out.cache = cache.Stats()
	return out, nil
}
