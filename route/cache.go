package route

import (
	"errors"
	"sync"
	"time"

	"blocktree"
)

// recordKind is what a record of the cache says about its scope.
type recordKind uint8

const (
	recordInScope recordKind = iota + 1 // an answer to InScope
	recordClosest                       // an answer to Closest
	recordCluster                       // the directory has a cluster of its own: its sector hosts
)

// servicesMax bounds the names of services that a cache has seen; there are a handful. Answers about more are not kept.
const servicesMax = 255

// CacheConfig is what a Cache is made from.
type CacheConfig struct {
	Root          blocktree.Principal // of the domain
	Now           func() time.Time    // nil is time.Now
	Scopes, Bytes int                 // bounds; 0 is RouteScopesMax and RouteBytesMax
}

// Cache is what a process remembers of where runtimes are. All that dispatches shares one; it may be used by many goroutines.
type Cache struct {
	cfg   CacheConfig
	root  string
	start time.Time

	mu       sync.Mutex
	scopes   *scopes
	sets     *sets
	hand     int
	services map[string]uint8
	stats    CacheStats
}

// CacheStats is what a cache did since it was made, and what it has.
type CacheStats struct {
	Hits, NegativeHits, Misses uint64 // questions
	Evicted                    uint64 // records that made room
	Expired                    uint64 // that were found to be over
	Forgotten                  uint64 // because nobody was where they said
	Records, Scopes, Bytes     int    // now; Bytes as estimated, a little above what they take
}

// Known is what a cache says to a question.
type Known struct {
	In       blocktree.Scope     // the directory of the runtimes
	Runtimes []blocktree.Runtime // the cache's own, not to be changed; none: it is known that there is nobody
	Left     time.Duration       // how long it holds still
}

// NewCache makes an empty cache.
func NewCache(cfg CacheConfig) *Cache {
	start := time.Now()
	if cfg.Now != nil {
		start = cfg.Now()
	}
	if cfg.Scopes == 0 {
		cfg.Scopes = blocktree.RouteScopesMax
	}
	if cfg.Bytes == 0 {
		cfg.Bytes = blocktree.RouteBytesMax
	}
	return &Cache{cfg: cfg, root: string(blocktree.RootPath(cfg.Root)), start: start, scopes: newScopes(), sets: newSets(), services: map[string]uint8{}}
}

func (c *Cache) now() time.Duration {
	if c.cfg.Now == nil { // reads one clock instead of two
		return time.Since(c.start)
	}
	return c.cfg.Now().Sub(c.start)
}

// Lookup answers a question from memory; false if it must be asked. It does not block or allocate.
func (c *Cache) Lookup(kind QueryKind, scope blocktree.Scope, service string) (Known, bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.find(kind, scope, service, now)
	if i == 0 {
		c.stats.Misses++
		return Known{}, false
	}
	r := &c.scopes.records[i]
	if !r.used {
		r.used = true
	}
	if r.set == 0 {
		c.stats.NegativeHits++
	} else {
		c.stats.Hits++
	}
	s := &c.sets.list[r.set]
	return Known{In: s.directory, Runtimes: s.runtimes, Left: r.expires - now}, true
}

// find returns the record that answers a question, 0 if there is none.
func (c *Cache) find(kind QueryKind, scope blocktree.Scope, service string, now time.Duration) uint32 {
	number := c.services[service]
	if number == 0 {
		return 0
	}
	w := c.follow(scope)
	if w == nil {
		return 0
	}
	best, at := uint32(0), 0
	for depth := range w.n {
		last := depth == w.n-1
		for i := w.heads[depth]; i != 0; {
			r := &c.scopes.records[i]
			switch {
			case r.expires <= now:
			case r.kind == recordCluster && (best == 0 || at != depth):
				best = 0 // what was said of directories above is not said of this cluster
			case kind == InScope && r.kind == recordInScope && last && r.service == number:
				return i
			case kind == Closest && r.kind == recordClosest && (last || r.covers) && r.service == number:
				best, at = i, depth
			}
			i = r.next
		}
	}
	return best
}

// follow is scopes.follow and find.
func (c *Cache) follow(scope blocktree.Scope) *way {
	w := c.scopes.follow(c.root, string(scope))
	if w != nil {
		c.scopes.find(w)
	}
	return w
}

// Nearest returns the deepest cluster that is known whose directory is scope or above it; false if none is. It does not block or allocate.
func (c *Cache) Nearest(scope blocktree.Scope) (Redirect, bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.follow(scope)
	if w == nil {
		return Redirect{}, false
	}
	for depth := w.n - 1; depth >= 0; depth-- {
		i := c.scopes.of(w.heads[depth], recordCluster, 0)
		if i == 0 || c.scopes.records[i].expires <= now {
			continue
		}
		c.scopes.records[i].used = true
		s := &c.sets.list[c.scopes.records[i].set]
		return Redirect{Directory: s.directory, Generation: s.generation, Runtimes: s.runtimes}, true
	}
	return Redirect{}, false
}

// Learn remembers an answer: runtimes of directory in, or none, for scope alone or, of Closest, for all that is below it too. It copies what it keeps.
// It fails with Invalid for a scope of another domain, TooLarge where there are too many services.
func (c *Cache) Learn(kind QueryKind, scope blocktree.Scope, service string, covers bool, in blocktree.Scope, runtimes []blocktree.Runtime, ttl time.Duration) error {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scopes.follow(c.root, string(scope)) == nil { // before its service takes a number
		return foreign(scope)
	}
	number := c.services[service]
	if number == 0 {
		if len(c.services) == servicesMax {
			return blocktree.E("route.Learn", blocktree.TooLarge, errors.New("too many services"))
		}
		number = uint8(len(c.services) + 1)
		c.services[service] = number
	}
	r := record{kind: recordInScope, service: number, expires: now + min(ttl, blocktree.RouteTTLMax)}
	if kind == Closest {
		r.kind, r.covers = recordClosest, covers
	}
	return c.put(scope, r, Redirect{Directory: in, Runtimes: runtimes})
}

// LearnCluster remembers which cluster a directory has. What was answered about the directory before it had one is forgotten.
func (c *Cache) LearnCluster(to Redirect, ttl time.Duration) error {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put(to.Directory, record{kind: recordCluster, expires: now + min(ttl, blocktree.RouteTTLMax)}, to)
}

func foreign(scope blocktree.Scope) error {
	return &blocktree.Error{Op: "route.Learn", Path: string(scope), Kind: blocktree.Invalid, Err: errors.New("a path of another domain")}
}

// put keeps a record in the place of the one of its kind and service.
func (c *Cache) put(scope blocktree.Scope, r record, what Redirect) error {
	w := c.follow(scope)
	if w == nil {
		return foreign(scope)
	}
	last := w.n - 1
	r.place, r.depth = w.places[last], uint8(last)
	if len(what.Runtimes) > 0 { // taken before the old one is dropped, which is the same most of the time
		r.set = c.sets.take(what.Directory, what.Generation, what.Runtimes)
	}
	i := c.scopes.of(w.heads[last], r.kind, r.service)
	if i != 0 {
		old := &c.scopes.records[i]
		c.sets.drop(old.set)
		r.next = old.next
		*old = r
	} else {
		if r.kind == recordCluster {
			c.dropAnswers(w.heads[last])
		}
		i = c.scopes.add(r)
	}
	c.makeRoom(int(i))
	return nil
}

// dropAnswers forgets what was answered about a directory that has no cluster yet, as far as is known: the whole list of records.
func (c *Cache) dropAnswers(head uint32) {
	for i := head; i != 0; {
		next := c.scopes.records[i].next
		c.remove(i)
		i = next
	}
}

// remove takes a record out.
func (c *Cache) remove(i uint32) {
	c.sets.drop(c.scopes.records[i].set)
	c.scopes.remove(i)
}

// bytes is what is kept, as estimated.
func (c *Cache) bytes() int {
	return c.scopes.used*scopeBytes + c.scopes.kept*recordBytes + c.sets.bytes
}

// makeRoom evicts what was not used since the hand came by last, until the bounds are kept, but not what is new. Two rounds evict everything else. What is new counts as not
// used: if all were, the hand would go round once and evict what is used most.
func (c *Cache) makeRoom(keep int) {
	now := c.now()
	for c.scopes.kept > 1 && (c.scopes.used > c.cfg.Scopes || c.bytes() > c.cfg.Bytes) {
		if c.hand++; c.hand >= len(c.scopes.records) {
			c.hand = 1
		}
		switch r := &c.scopes.records[c.hand]; {
		case r.kind == 0 || c.hand == keep:
		case r.expires <= now:
			c.stats.Expired++
			c.remove(uint32(c.hand))
		case r.used:
			r.used = false
		default:
			c.stats.Evicted++
			c.remove(uint32(c.hand))
		}
	}
}

// Forget drops what answers a question: nobody was where it says.
func (c *Cache) Forget(kind QueryKind, scope blocktree.Scope, service string) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.find(kind, scope, service, now); i != 0 {
		c.stats.Forgotten++
		c.remove(i)
	}
}

// ForgetCluster drops what is known of a directory's cluster.
func (c *Cache) ForgetCluster(dir blocktree.Scope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.follow(dir)
	if w == nil {
		return
	}
	if i := c.scopes.of(w.heads[w.n-1], recordCluster, 0); i != 0 {
		c.stats.Forgotten++
		c.remove(i)
	}
}

// Stats returns the counters.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Records, s.Scopes, s.Bytes = c.scopes.kept, c.scopes.used, c.bytes()
	return s
}
