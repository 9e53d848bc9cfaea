package meta

import (
	"bytes"
	"slices"
	"sort"
	"sync"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
)

// Bounds of what is kept of the applied state in memory (docs/design/0081). What was not asked for in cacheIdleTicks is given back no later than as long after that.
const (
	cacheBytes      = 6 << 20   // of values, with their keys
	cacheValueBytes = 16 << 10  // of one of them; what is longer is read from the store
	cacheTableBytes = 256 << 10 // of all values of a kind that is kept as a whole
	cacheIdleTicks  = 600
	cacheEntryBytes = 96 // what a value takes beside its bytes and those of its key
)

// cache keeps values of the newest applied state, and the snapshot that its readers share. It is the loop that changes it, by begin and then publish or
// reset; readers fill it. Whoever reads says of which index the state is that it sees:
//
//   - A value that is kept is that of every state from its index, since, up to index: it is told to those that read one of these, and to nobody else.
//   - A value is taken from a reader of the state at index alone, whom nothing can have overtaken.
//
// What is told is shared, and is not written to.
type cache struct {
	db   *pebble.DB
	gate *gate

	firsts map[keptKey]blocktree.Inode // of those who apply: nothing that the session keeps is below; see state.scanKept

	mu       sync.Mutex
	index    uint64 // of the state that it is of
	space    byte
	counts   counters    // of that
	super    *Superblock // nil: not known
	changing bool        // the store may have this state, or the one after it
	turn     uint64      // of begin
	closed   bool
	current  *sharedSnapshot // of the state at index; nil: nobody has asked for it yet

	// Values that were asked for of late, and those of before. When the newer are too many, or have been for long, they become the older.
	newer, older map[string]cachedValue
	bytes        int // of newer
	tables       map[byte]*table
}

// cachedValue is what a key has, or that it has nothing.
type cachedValue struct {
	value []byte
	there bool
	since uint64
}

// keptKey is what a session keeps of one kind.
type keptKey struct {
	kind byte
	id   SessionID
}

// cacheFirsts bounds of how many it is remembered where it begins.
const cacheFirsts = 1024

// memory is what a state has beside its store.
type memory struct {
	cache      *cache                 // nil: everything is read from the store
	at         uint64                 // the log index of the state that is read, or that is changed
	dirty      map[string]cachedValue // what is set and deleted in the batch, of the kinds that the cache keeps
	dirtyKinds map[byte]bool          // kinds that the cache keeps as a whole, of which something is in the batch
	ids        *doneIDs               // of the commands that are remembered; nil: not known
}

// sharedSnapshot is a snapshot of the store, and the state that readers of it begin with.
type sharedSnapshot struct {
	snap  *pebble.Snapshot
	first state
	users int // guarded by cache.mu; the cache is one while this is its current one
}

// newCache makes one of the state that a store has, which s reads.
func newCache(db *pebble.DB, gate *gate, s *state) *cache {
	c := &cache{db: db, gate: gate, tables: map[byte]*table{}, firsts: map[keptKey]blocktree.Inode{}}
	c.reset(s)
	return c
}

// begin announces that the store is about to change.
func (c *cache) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changing = true
	c.turn++
}

// publish goes on to the state at index, which s was applied to make and which the store has.
func (c *cache) publish(index uint64, s *state) {
	c.mu.Lock()
	old := c.next(index)
	c.counts, c.super = s.counts, s.super
	for key, v := range s.dirty {
		v.since = index
		c.put(key, v)
	}
	for kind := range s.dirtyKinds {
		delete(c.tables, kind)
	}
	c.mu.Unlock()
	c.release(old)
}

// reset goes on to the state that the store has, which s reads. Of values nothing is known.
func (c *cache) reset(s *state) {
	c.mu.Lock()
	old := c.next(s.applied)
	c.space, c.counts, c.super = s.space, s.counts, nil
	c.newer, c.older, c.bytes = map[string]cachedValue{}, nil, 0
	clear(c.tables)
	clear(c.firsts)
	c.mu.Unlock()
	c.release(old)
}

// next goes on to the state at index. It returns the snapshot of the one before, which the caller releases.
func (c *cache) next(index uint64) *sharedSnapshot {
	old := c.current
	c.index, c.changing, c.current = index, false, nil
	return old
}

// apply returns the state as it is now, to be changed by b.
func (c *cache) apply(b *pebble.Batch) *state {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &state{r: b, w: b, space: c.space, counts: c.counts, super: c.super,
		memory: memory{cache: c, at: c.index, dirty: map[string]cachedValue{}, dirtyKinds: map[byte]bool{}}}
}

// view returns the newest state to read, and what is to be called when it is read. It fails as the gate does.
func (c *cache) view() (s *state, done func(), err error) {
	c.mu.Lock()
	turn, changing := c.turn, c.changing
	if c.current != nil {
		defer c.mu.Unlock()
		return c.use(c.current)
	}
	c.mu.Unlock()
	if err := c.gate.enter(); err != nil { // for the snapshot, until it is closed
		return nil, nil, err
	}
	x := &sharedSnapshot{snap: c.db.NewSnapshot()}
	c.mu.Lock()
	if changing || c.turn != turn || c.closed { // the snapshot itself says of which state it is
		c.mu.Unlock()
		return c.viewOf(x)
	}
	defer c.mu.Unlock()
	if c.current == nil {
		x.first = state{r: x.snap, space: c.space, applied: c.index, counts: c.counts, super: c.super, memory: memory{cache: c, at: c.index}}
		x.users, c.current = 1, x
		return c.use(x)
	}
	c.close(x)
	return c.use(c.current)
}

// viewOf is view of a snapshot that was made while the store changed. Nobody shares it.
func (c *cache) viewOf(x *sharedSnapshot) (*state, func(), error) {
	s, err := stateAt(x.snap)
	if err != nil {
		c.close(x)
		return nil, nil, err
	}
	s.cache, s.at = c, s.applied
	return s, func() { c.close(x) }, nil
}

// use counts a user of a snapshot.
func (c *cache) use(x *sharedSnapshot) (*state, func(), error) {
	x.users++
	s := x.first
	return &s, func() { c.release(x) }, nil
}

// release ends a use of a snapshot, which the last user closes.
func (c *cache) release(x *sharedSnapshot) {
	if x == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.users--; x.users == 0 {
		c.close(x)
	}
}

// close lets go of a snapshot, which may take as long as the disk is full.
func (c *cache) close(x *sharedSnapshot) {
	go func() { // which the gate bounds and waits for
		defer c.gate.leave()
		closeSnapshot(x.snap)
	}()
}

// shut lets go of what the cache itself uses, for good.
func (c *cache) shut() {
	c.mu.Lock()
	c.closed = true
	old := c.current
	c.current = nil
	c.mu.Unlock()
	c.release(old)
}

// get returns what a key has in the state at an index, and whether that is known.
func (c *cache) get(key []byte, at uint64) (v cachedValue, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, known = c.newer[string(key)]
	if !known {
		if v, known = c.older[string(key)]; known {
			delete(c.older, string(key))
			c.put(string(key), v)
		}
	}
	return v, known && v.since <= at && at <= c.index
}

// fill keeps what a reader of the state at an index has read.
func (c *cache) fill(key []byte, value []byte, there bool, at uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at == c.index {
		c.put(string(key), cachedValue{value, there, at})
	}
}

// put keeps what a key has, instead of what it had.
func (c *cache) put(key string, v cachedValue) {
	if old, ok := c.newer[key]; ok {
		c.bytes -= old.bytes(key)
		delete(c.newer, key)
	}
	delete(c.older, key)
	if len(v.value) > cacheValueBytes {
		return
	}
	if c.bytes+v.bytes(key) > cacheBytes/2 {
		c.age()
	}
	c.newer[key] = v
	c.bytes += v.bytes(key)
}

func (v *cachedValue) bytes(key string) int { return len(key) + len(v.value) + cacheEntryBytes }

// age makes the newer values the older ones.
func (c *cache) age() {
	c.older, c.newer, c.bytes = c.newer, map[string]cachedValue{}, 0
}

// tick gives back what nobody has asked for since the one before.
func (c *cache) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age()
}

// inCache reports whether values of a kind are kept: not those that are read once, by their index only, or with all of their kind.
func inCache(kind byte) bool {
	switch kind {
	case kindCounters, kindDone, kindDoneSeq, kindHosted, kindOwned, kindKept, kindKeeps, kindXattr, kindFounder:
		return false
	}
	return !inTable(kind)
}

// inTable reports whether a kind is kept as a whole: of those there are few, they change seldom, and they are read for each command.
func inTable(kind byte) bool { return kind == kindRuntime || kind == kindRevoked || kind == kindBelow }

// table is all of a kind, ascending; or that it is too much.
type table struct {
	since uint64
	large bool
	pairs []pair // key is what follows the kind
}

// table returns a kind as it is in the state at an index; nil: that is not known.
func (c *cache) table(kind byte, at uint64) *table {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.tables[kind]; t != nil && t.since <= at && at <= c.index {
		return t
	}
	return nil
}

// fillTable keeps what a reader of the state at an index has read.
func (c *cache) fillTable(kind byte, t *table, at uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at == c.index {
		t.since = at
		c.tables[kind] = t
	}
}

// scan is state.scan of a table.
func (t *table) scan(prefix, from []byte, f func(rest, value []byte) bool) {
	first := append(slices.Clone(prefix), from...)
	i := sort.Search(len(t.pairs), func(i int) bool {
		order := bytes.Compare(t.pairs[i].key, first)
		return order > 0 || order == 0 && len(from) == 0
	})
	for ; i < len(t.pairs) && bytes.HasPrefix(t.pairs[i].key, prefix); i++ {
		if !f(t.pairs[i].key[len(prefix):], t.pairs[i].value) {
			return
		}
	}
}
