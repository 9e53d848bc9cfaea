package blockdev

import (
	"fmt"
	"sync/atomic"

	"blocktree"

	"github.com/dgraph-io/ristretto/v2"
)

const (
	cacheBuckets = 1 << 16

	// cacheReadSectorsMax is the longest read that is looked up and kept: a scan must not flush what is read at random,
	// and copying each of its sectors once more would cost it more than it gains.
	cacheReadSectorsMax = 32

	// cacheEntryBytes is what an entry costs beside its sector: itself, its slice and ristretto's own.
	cacheEntryBytes = 160
)

// Cache holds clean sectors of all devices that were opened with it, bounded by bytes. A nil *Cache is no cache.
type Cache struct {
	entries  *ristretto.Cache[uint64, *cacheEntry]
	opens    atomic.Uint64
	bytesMax int64

	hits, misses, stale atomic.Uint64
	evicted, rejected   atomic.Uint64
}

// CacheStats counts sectors asked of a cache since it was made. Stale ones were there, but a write had begun in their
// bucket. Evicted ones made room for others, Rejected ones were not worth that others made room.
type CacheStats struct {
	Hits, Misses, Stale uint64
	Evicted, Rejected   uint64
	Bytes, BytesMax     int64 // what the entries take, and may
}

type cacheEntry struct {
	open   uint64
	sector blocktree.SectorIndex
	stamp  cacheStamp
	data   []byte // never changed
}

// cacheStamp is the state of a sector's bucket, of the counter that stands for all buckets, and of the lease, at one
// moment. The upper half of a counter counts the writes that began, the lower half those that have not ended.
type cacheStamp struct {
	bucket, wide uint64
	epoch        blocktree.Epoch // zero without a valid lease
}

const (
	cacheBegan   = 1<<32 + 1
	cacheEnded   = ^uint64(0) // added: minus one
	cacheRunning = 1<<32 - 1
)

// quiet reports whether what is read after this moment may be kept.
func (s cacheStamp) quiet() bool { return s.epoch != 0 && (s.bucket|s.wide)&cacheRunning == 0 }

// NewCache returns a cache of at most bytesMax bytes; nil, no cache, for zero. Close it after the devices that use it.
func NewCache(bytesMax int64) (*Cache, error) {
	if bytesMax == 0 {
		return nil, nil
	}
	if bytesMax < 0 {
		return nil, blocktree.E("blockdev.NewCache", blocktree.Invalid, fmt.Errorf("%d bytes", bytesMax))
	}
	c := &Cache{bytesMax: bytesMax}
	entries, err := ristretto.NewCache(&ristretto.Config[uint64, *cacheEntry]{
		NumCounters:        max(1024, 10*bytesMax/blocktree.SectorBytesDefault),
		MaxCost:            bytesMax,
		BufferItems:        64,
		IgnoreInternalCost: true, // cacheEntryBytes has it
		KeyToHash:          func(key uint64) (uint64, uint64) { return key, 0 },
		OnEvict:            func(*ristretto.Item[*cacheEntry]) { c.evicted.Add(1) }, // not ristretto's own counts, which cost every hit
		OnReject:           func(*ristretto.Item[*cacheEntry]) { c.rejected.Add(1) },
	})
	if err != nil {
		return nil, blocktree.E("blockdev.NewCache", blocktree.Invalid, err)
	}
	c.entries = entries
	return c, nil
}

// Close frees the cache. It waits for its goroutines.
func (c *Cache) Close() {
	if c != nil {
		c.entries.Close()
	}
}

// Stats returns the counters; zeros for no cache.
func (c *Cache) Stats() CacheStats {
	if c == nil {
		return CacheStats{}
	}
	return CacheStats{Hits: c.hits.Load(), Misses: c.misses.Load(), Stale: c.stale.Load(), Evicted: c.evicted.Load(), Rejected: c.rejected.Load(),
		Bytes: c.entries.MaxCost() - c.entries.RemainingCost(), BytesMax: c.bytesMax}
}

// deviceCache is the part of a Cache that one open device sees: entries of an earlier opening are foreign to it,
// because another holder may have written since. A nil *deviceCache is no cache.
type deviceCache struct {
	cache   *Cache
	open    uint64
	lease   LeaseHolder
	wide    atomic.Uint64 // writes as long as all buckets count here, once
	buckets []atomic.Uint64
}

func newDeviceCache(c *Cache, lease LeaseHolder) *deviceCache {
	if c == nil || lease == nil {
		return nil
	}
	return &deviceCache{cache: c, open: c.opens.Add(1), lease: lease, buckets: make([]atomic.Uint64, cacheBuckets)}
}

// key is a bijection of the sector for one open device (the finaliser of splitmix64), so that two sectors of a device
// never share an entry; the entry itself says whose it is.
func (d *deviceCache) key(sector blocktree.SectorIndex) uint64 {
	x := uint64(sector) ^ d.open<<48
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// stamp asks for the lease last: who is still the holder then was so when the counters were read.
func (d *deviceCache) stamp(sector blocktree.SectorIndex) cacheStamp {
	s := cacheStamp{bucket: d.buckets[sector%cacheBuckets].Load(), wide: d.wide.Load()}
	if epoch, valid := d.lease.Lease(); valid {
		s.epoch = epoch
	}
	return s
}

// begin is called before a write of count sectors reaches the file.
func (d *deviceCache) begin(first blocktree.SectorIndex, count uint64) {
	d.add(first, count, cacheBegan)
}

// end is called after it was answered without an error, and never after an error.
func (d *deviceCache) end(first blocktree.SectorIndex, count uint64) { d.add(first, count, cacheEnded) }

func (d *deviceCache) add(first blocktree.SectorIndex, count, delta uint64) {
	if d == nil {
		return
	}
	if count >= cacheBuckets {
		d.wide.Add(delta)
		return
	}
	for i := range count {
		d.buckets[(uint64(first)+i)%cacheBuckets].Add(delta)
	}
}

// get returns the sector, or nil. The slice must not be changed.
func (d *deviceCache) get(sector blocktree.SectorIndex) []byte {
	if d == nil {
		return nil
	}
	e, ok := d.cache.entries.Get(d.key(sector))
	if !ok || e.open != d.open || e.sector != sector {
		d.cache.misses.Add(1)
		return nil
	}
	if e.stamp != d.stamp(sector) { // what is kept has an epoch, so this is valid now, under the same one
		d.cache.stale.Add(1)
		return nil
	}
	d.cache.hits.Add(1)
	return e.data
}

// put keeps a copy of data, read from the file after stamp was taken.
func (d *deviceCache) put(sector blocktree.SectorIndex, stamp cacheStamp, data []byte) {
	if d == nil || !stamp.quiet() || stamp != d.stamp(sector) {
		return
	}
	e := &cacheEntry{open: d.open, sector: sector, stamp: stamp, data: append(make([]byte, 0, len(data)), data...)}
	d.cache.entries.Set(d.key(sector), e, int64(len(data)+cacheEntryBytes))
}
