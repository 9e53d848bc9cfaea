package blockdev

import (
	"context"

	"blocktree"
)

// cacheFillPart is the part of the cache, as a divisor, that one Cache may fill: it is a hint of one client, and the cache is
// everybody's.
const cacheFillPart = 4

// Cache reads sectors that hold length bytes at off into the cache, where there is one and it may be believed, through scratch: CacheScratchBytes of
// them, which are the caller's. It reads no more than a quarter of the cache holds. What is read, and kept, is as if by ReadAt; what is not
// is no error. It blocks until the file answers or ctx ends.
func (d *Device) Cache(ctx context.Context, scratch []byte, off, length uint64) error {
	const op = "blockdev.Cache"
	if err := d.check(op, off, length, false); err != nil {
		return err
	}
	defer d.ops.leave()
	if d.cache == nil || length == 0 {
		return nil
	}
	first, count := d.span(off, length)
	count = min(count, d.cache.fillSectorsMax(d.sector))
	for step := uint64(len(scratch)) / d.sector; count > 0 && step > 0; {
		if _, valid := d.cache.lease.Lease(); !valid {
			return nil // nothing would be kept
		}
		n := min(count, step)
		if err := d.readSectors(ctx, first, scratch[:n*d.sector], true); err != nil {
			return d.wrap(op, err)
		}
		first, count = first+blocktree.SectorIndex(n), count-n
	}
	return nil
}

// CacheScratchBytes is the scratch that Cache needs for a range: what one look into the cache covers at most.
func (d *Device) CacheScratchBytes(off, length uint64) int {
	if d.cache == nil || length == 0 || !d.inside(off, length) {
		return 0
	}
	_, count := d.span(off, length)
	return int(min(count, cacheReadSectorsMax) * d.sector)
}

func (d *deviceCache) fillSectorsMax(sectorBytes uint64) uint64 {
	return uint64(d.cache.bytesMax) / cacheFillPart / (sectorBytes + cacheEntryBytes)
}
