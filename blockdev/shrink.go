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
	if err := d.modify(0, math.MaxUint64, func() error { return s.Shrink(ctx, bytes) }); err != nil {
		return d.wrap(op, err)
	}
	return nil
}
