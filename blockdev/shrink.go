package blockdev

import (
	"context"
	"math"

	"blocktree"
)

// followShrink has the device made smaller when somebody asks for that (docs/design/0047).
func (d *Device) followShrink() {
	if s, ok := d.file.(blocktree.Shrinker); ok && !d.readOnly {
		d.stopShrink = s.FollowShrink(func(ctx context.Context, bytes uint64) error { return d.shrink(ctx, s, bytes) })
	}
}

// shrink makes the device smaller. To the cache it is a write of the whole device, whose end may change beside it: what it has of before, read ahead too, is not found again when the device grows.
func (d *Device) shrink(ctx context.Context, s blocktree.Shrinker, bytes uint64) error {
	const op = "blockdev.Shrink"
	if err := d.ops.enter(); err != nil {
		return d.wrap(op, err)
	}
	defer d.ops.leave()
	if why := d.over.why(); why != nil {
		return why
	}
	err := d.modify(0, math.MaxUint64, func() error { return s.Shrink(ctx, bytes) })
	d.uncut.ended(d.cache, bytes, err)
	if err != nil {
		return d.wrap(op, err)
	}
	return nil
}

// uncut are the cuts that failed: zeros that they wrote may come to be there yet, so nothing is cached. One cut that succeeds and takes away no less has
// written zeros over all that, later, so that they are settled with it. It belongs to who cuts, one at a time.
type uncut struct {
	count uint64
	least uint64 // of the sizes, in bytes, that they would have come to
}

// ended is told of each cut, after the cache.
func (u *uncut) ended(c *deviceCache, bytes uint64, err error) {
	switch {
	case err != nil && u.count == 0:
		*u = uncut{1, bytes}
	case err != nil:
		*u = uncut{u.count + 1, min(u.least, bytes)}
	case bytes <= u.least:
		for ; u.count > 0; u.count-- {
			c.end(0, math.MaxUint64)
		}
	}
}
