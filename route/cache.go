package route

import (
	"errors"
	"sync"
	"time"
	"unsafe"

	"blocktree"
)

// recordKind is what a record of the cache says about its scope.
type recordKind uint8

const (
	recordInScope recordKind = iota + 1 // an answer to InScope
	recordClosest                       // an answer to Closest
	recordCluster                       // the directory has a cluster of its own: its sector hosts
)

// record is one thing that is known of a scope, until a time.
type record struct {
	expires         time.Duration // since the cache was made
	node, next, set uint32        // set 0: nobody
	kind            recordKind
	service         uint8 // number of its name
	covers          bool  // what it says holds for all that is below
	used            bool  // since the hand came by
}

// recordBytes is a record, and what append keeps for more.
const recordBytes = int(unsafe.Sizeof(record{})) * 5 / 4

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
	trie     *trie
	sets     *sets
	records  []record // records[0] is nobody; one whose node is 0 is not used
	free     uint32   // linked by next
	kept     int
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
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Scopes == 0 {
		cfg.Scopes = blocktree.RouteScopesMax
	}
	if cfg.Bytes == 0 {
		cfg.Bytes = blocktree.RouteBytesMax
	}
	return &Cache{cfg: cfg, root: string(blocktree.RootPath(cfg.Root)), start: cfg.Now(), trie: newTrie(), sets: newSets(),
		records: make([]record, 1), services: map[string]uint8{}}
}

func (c *Cache) now() time.Duration { return c.cfg.Now().Sub(c.start) }

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
	r := &c.records[i]
	r.used = true
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
	var w way
	if number == 0 || !c.trie.follow(c.root, string(scope), &w) {
		return 0
	}
	best, at := uint32(0), uint32(topNode)
	for depth := 0; ; depth++ {
		last := depth == w.n
		for i := c.trie.nodes[at].records; i != 0; i = c.records[i].next {
			r := &c.records[i]
			switch {
			case r.expires <= now:
			case r.kind == recordCluster && (best == 0 || c.records[best].node != at):
				best = 0 // what was said of directories above is not said of this cluster
			case kind == InScope && r.kind == recordInScope && last && r.service == number:
				return i
			case kind == Closest && r.kind == recordClosest && (last || r.covers) && r.service == number:
				best = i
			}
		}
		if last {
			return best
		}
		if at = c.trie.child(at, &w, depth); at == 0 {
			return best
		}
	}
}

// Nearest returns the deepest cluster that is known whose directory is scope or above it; false if none is. It does not block or allocate.
func (c *Cache) Nearest(scope blocktree.Scope) (Redirect, bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var w way
	best, at := uint32(0), uint32(topNode)
	if !c.trie.follow(c.root, string(scope), &w) {
		return Redirect{}, false
	}
	for depth := 0; at != 0; depth++ {
		if i := c.at(at, recordCluster, 0); i != 0 && c.records[i].expires > now {
			best = i
		}
		if depth == w.n {
			break
		}
		at = c.trie.child(at, &w, depth)
	}
	if best == 0 {
		return Redirect{}, false
	}
	c.records[best].used = true
	s := &c.sets.list[c.records[best].set]
	return Redirect{Directory: s.directory, Generation: s.generation, Runtimes: s.runtimes}, true
}

// at returns a node's record of a kind and service, 0 if it has none.
func (c *Cache) at(n uint32, kind recordKind, service uint8) uint32 {
	i := c.trie.nodes[n].records
	for i != 0 && (c.records[i].kind != kind || c.records[i].service != service) {
		i = c.records[i].next
	}
	return i
}

// Learn remembers an answer: runtimes of directory in, or none, for scope alone or, of Closest, for all that is below it too. It copies what it keeps.
// It fails with Invalid for a scope of another domain, TooLarge where there are too many services.
func (c *Cache) Learn(kind QueryKind, scope blocktree.Scope, service string, covers bool, in blocktree.Scope, runtimes []blocktree.Runtime, ttl time.Duration) error {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.trie.follow(c.root, string(scope), new(way)) { // before its service takes a number
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
	var w way
	if !c.trie.follow(c.root, string(scope), &w) {
		return foreign(scope)
	}
	at := c.trie.add(&w)
	if len(what.Runtimes) > 0 { // taken before the old one is dropped, which is the same most of the time
		r.set = c.sets.take(what.Directory, what.Generation, what.Runtimes)
	}
	i := c.at(at, r.kind, r.service)
	if i != 0 {
		c.sets.drop(c.records[i].set)
		r.next = c.records[i].next
	} else {
		if r.kind == recordCluster {
			c.dropAnswers(at)
		}
		if i = c.free; i != 0 {
			c.free = c.records[i].next
		} else {
			i = uint32(len(c.records))
			c.records = append(c.records, record{})
		}
		r.next, c.trie.nodes[at].records = c.trie.nodes[at].records, i
		c.kept++
	}
	r.node = at
	c.records[i] = r
	c.makeRoom(int(i))
	return nil
}

// dropAnswers forgets what was answered about a directory. The node stays.
func (c *Cache) dropAnswers(n uint32) {
	for i := c.trie.nodes[n].records; i != 0; {
		next := c.records[i].next
		if c.records[i].kind != recordCluster {
			c.unlink(i)
		}
		i = next
	}
}

// unlink takes a record out of its node, and leaves the node.
func (c *Cache) unlink(i uint32) {
	r := c.records[i]
	link := &c.trie.nodes[r.node].records
	for *link != i {
		link = &c.records[*link].next
	}
	*link = r.next
	c.sets.drop(r.set)
	c.records[i] = record{next: c.free}
	c.free = i
	c.kept--
}

// remove takes a record out, with its node if that has nothing else.
func (c *Cache) remove(i uint32) {
	n := c.records[i].node
	c.unlink(i)
	c.trie.prune(n)
}

// bytes is what is kept, as estimated.
func (c *Cache) bytes() int {
	return c.trie.used*nodeBytes + c.trie.bytes + c.kept*recordBytes + c.sets.bytes
}

// makeRoom evicts what was not used since the hand came by last, until the bounds are kept, but not what is new. Two rounds evict everything else. What is new counts as not
// used: if all were, the hand would go round once and evict what is used most.
func (c *Cache) makeRoom(keep int) {
	now := c.now()
	for c.kept > 1 && (c.trie.used > c.cfg.Scopes || c.bytes() > c.cfg.Bytes) {
		if c.hand++; c.hand >= len(c.records) {
			c.hand = 1
		}
		switch r := &c.records[c.hand]; {
		case r.node == 0 || c.hand == keep:
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
	var w way
	if !c.trie.follow(c.root, string(dir), &w) {
		return
	}
	at := uint32(topNode)
	for depth := 0; depth < w.n && at != 0; depth++ {
		at = c.trie.child(at, &w, depth)
	}
	if at == 0 {
		return
	}
	if i := c.at(at, recordCluster, 0); i != 0 {
		c.stats.Forgotten++
		c.remove(i)
	}
}

// Stats returns the counters.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Records, s.Scopes, s.Bytes = c.kept, c.trie.used, c.bytes()
	return s
}
