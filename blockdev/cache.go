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
	pieces   *pieces // read ahead; nil: nothing is
	opens    atomic.Uint64
	bytesMax int64 // of entries

	hits, misses, stale, aheadHits atomic.Uint64
	evicted, rejected              atomic.Uint64
}

// CacheStats counts sectors that were asked for since the cache was made: each once, as a hit, as one that had been read ahead, or as one for which
// the file was asked.
type CacheStats struct {
	Hits, Misses uint64
	Stale        uint64 // of the misses, as far as was looked: there, but not to be believed, mostly since a write had begun in their bucket
	Evicted      uint64 // made room for others
	Rejected     uint64 // were not worth that others made room
	AheadHits    uint64 // had been read ahead
	AheadRead    uint64 // sectors that were read ahead
	AheadUnread  uint64 // of those, dropped before anybody wanted them

	UsedBytes, BytesMax           int64 // of sectors kept after they were read
	AheadUsedBytes, AheadBytesMax int64 // of those read ahead
}

// HitRate is the part of the sectors asked for, from 0 to 1, for which no client had to wait for the file; 0 if none was.
func (s CacheStats) HitRate() float64 {
	had := s.Hits + s.AheadHits
	if had == 0 {
		return 0
	}
	return float64(had) / float64(had+s.Misses)
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

// NewCache returns a cache of at most bytesMax bytes that reads nothing ahead; nil, no cache, for zero. Close it after the devices that use it.
func NewCache(bytesMax int64) (*Cache, error) { return NewCacheAhead(bytesMax, 0) }

// NewCacheAhead is NewCache with aheadBytes of bytesMax, at most half, for what is read ahead of clients that read on and on.
func NewCacheAhead(bytesMax, aheadBytes int64) (*Cache, error) {
	if bytesMax < 0 || aheadBytes < 0 || aheadBytes > bytesMax/2 {
		return nil, blocktree.E("blockdev.NewCache", blocktree.Invalid, fmt.Errorf("%d bytes, %d of them to read ahead", bytesMax, aheadBytes))
	}
	if bytesMax == 0 {
		return nil, nil
	}
	bytesMax -= aheadBytes
	c := &Cache{pieces: newPieces(aheadBytes), bytesMax: bytesMax}
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

// Stats returns the counters; zeros for no cache. It does not block.
func (c *Cache) Stats() CacheStats {
	if c == nil {
		return CacheStats{}
	}
	s := CacheStats{Hits: c.hits.Load(), Misses: c.misses.Load(), Stale: c.stale.Load(), AheadHits: c.aheadHits.Load(),
		Evicted: c.evicted.Load(), Rejected: c.rejected.Load(),
		BytesMax: c.bytesMax, UsedBytes: c.bytesMax - c.entries.RemainingCost()}
	if p := c.pieces; p != nil {
		s.AheadRead, s.AheadUnread = p.read.Load(), p.unread.Load()
		s.AheadUsedBytes, s.AheadBytesMax = int64(p.holds())*pieceBytes, int64(p.most)*pieceBytes
	}
	return s
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

// get returns the sector, or nil, and then whether it was there but is not to be believed. The slice must not be changed.
func (d *deviceCache) get(sector blocktree.SectorIndex) (data []byte, stale bool) {
	e, ok := d.cache.entries.Get(d.key(sector))
	if !ok || e.open != d.open || e.sector != sector {
		return nil, false
	}
	if e.stamp != d.stamp(sector) { // what is kept has an epoch, so this is valid now, under the same one
		return nil, true
	}
	return e.data, false
}

// counted counts sectors of one read.
func (d *deviceCache) counted(hits, misses, stale uint64) {
	d.cache.hits.Add(hits)
	d.cache.misses.Add(misses)
	d.cache.stale.Add(stale)
}

// missed counts sectors that were not looked for.
func (d *deviceCache) missed(count uint64) {
	if d != nil {
		d.cache.misses.Add(count)
	}
}

// stampAll is stamp of the sectors from first on. They lie in different buckets.
func (d *deviceCache) stampAll(first blocktree.SectorIndex, stamps []cacheStamp) {
	wide := d.wide.Load()
	for i := range stamps {
		stamps[i] = cacheStamp{bucket: d.buckets[(first+blocktree.SectorIndex(i))%cacheBuckets].Load(), wide: wide}
	}
	if epoch, valid := d.lease.Lease(); valid {
		for i := range stamps {
			stamps[i].epoch = epoch
		}
	}
}

// current returns how many sectors from first on are, now, what they were when they were read after stamps were taken. The lease is asked last, as by
// stamp.
func (d *deviceCache) current(first blocktree.SectorIndex, stamps []cacheStamp) (n uint64) {
	wide := d.wide.Load()
	for n < uint64(len(stamps)) {
		s := &stamps[n]
		if !s.quiet() || s.wide != wide || s.bucket != d.buckets[(uint64(first)+n)%cacheBuckets].Load() || s.epoch != stamps[0].epoch {
			break
		}
		n++
	}
	if n == 0 {
		return 0
	}
	if epoch, valid := d.lease.Lease(); !valid || epoch != stamps[0].epoch {
		return 0
	}
	return n
}

// epoch returns the epoch of a lease that holds now, else zero.
func (d *deviceCache) epoch() blocktree.Epoch {
	if d == nil {
		return 0
	}
	if epoch, valid := d.lease.Lease(); valid {
		return epoch
	}
	return 0
}

// wrote keeps what a write has left in a sector, which was answered without an error and is locked yet, so that no other write can have begun. The lease
// was of epoch before it began.
func (d *deviceCache) wrote(sector blocktree.SectorIndex, epoch blocktree.Epoch, data []byte) {
	if d == nil || epoch == 0 {
		return
	}
	if stamp := d.stamp(sector); stamp.epoch == epoch {
		d.put(sector, stamp, data)
	}
}

// put keeps a copy of data, read from the file after stamp was taken.
func (d *deviceCache) put(sector blocktree.SectorIndex, stamp cacheStamp, data []byte) {
	if d == nil || !stamp.quiet() || stamp != d.stamp(sector) {
		return
	}
	e := &cacheEntry{open: d.open, sector: sector, stamp: stamp, data: append(make([]byte, 0, len(data)), data...)}
	d.cache.entries.Set(d.key(sector), e, int64(len(data)+cacheEntryBytes))
}
