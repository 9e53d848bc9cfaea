package seal

import (
	"sync"

	"blocktree/internal/gcm"
)

// openedPrefixesMax bounds the derived keys a Sealer keeps for reading. A prefix is one start of a holder or 2^28 sectors,
// and one entry takes about 1 KiB; a miss costs about a microsecond.
const openedPrefixesMax = 256

// aeadCache keeps the AEADs of the prefixes used last. The zero aeadCache is empty and ready; it may be used by many
// goroutines at once.
type aeadCache struct {
	mu      sync.Mutex
	entries map[prefix]*cacheEntry
	newest  *cacheEntry // ring: newest.older … is the oldest at newest.newer
}

type cacheEntry struct {
	prefix       prefix
	aead         gcm.AEAD
	newer, older *cacheEntry
}

// get returns the AEAD of p, making it where it is not cached. Two callers may make the same one at once.
func (c *aeadCache) get(p prefix, make func(prefix) gcm.AEAD) gcm.AEAD {
	c.mu.Lock()
	if e := c.entries[p]; e != nil {
		c.use(e)
		c.mu.Unlock()
		return e.aead
	}
	c.mu.Unlock()
	aead := make(p)
	c.put(p, aead)
	return aead
}

// put caches the AEAD of p as the newest and drops the oldest when there are too many.
func (c *aeadCache) put(p prefix, aead gcm.AEAD) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[p] != nil {
		return
	}
	if c.entries == nil {
		c.entries = map[prefix]*cacheEntry{}
	}
	if len(c.entries) >= openedPrefixesMax {
		oldest := c.newest.newer
		c.unlink(oldest)
		delete(c.entries, oldest.prefix)
	}
	e := &cacheEntry{prefix: p, aead: aead}
	c.entries[p] = e
	c.link(e)
}

// use makes e the newest.
func (c *aeadCache) use(e *cacheEntry) {
	if c.newest == e {
		return
	}
	c.unlink(e)
	c.link(e)
}

func (c *aeadCache) link(e *cacheEntry) {
	if c.newest == nil {
		e.newer, e.older = e, e
	} else {
		oldest := c.newest.newer
		e.newer, e.older = oldest, c.newest
		oldest.older, c.newest.newer = e, e
	}
	c.newest = e
}

func (c *aeadCache) unlink(e *cacheEntry) {
	e.newer.older, e.older.newer = e.older, e.newer
	if c.newest == e {
		c.newest = e.older
	}
	if e.older == e {
		c.newest = nil
	}
}
