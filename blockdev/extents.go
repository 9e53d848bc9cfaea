package blockdev

import (
	"context"
	"errors"

	"blocktree"
	"blocktree/internal/invariant"
)

// Extent is a run of bytes of a device that are alike.
type Extent struct {
	Bytes uint64
	Zero  bool // a hole: they read as zeros, and take no room. Else nothing is said of their content
}

// ExtentsBytes is what a call of Extents holds in memory at most while it waits, with what the layers below hold: to be charged to a
// budget beforehand. Mostly it is a tenth of that.
const ExtentsBytes = 1 << 20

// Extents tells, without reading, what length bytes at off are: from 1 to most extents, one behind the other, that begin at off
// and end at or before the end of the range; what is beyond them is to be asked for again. What it calls zero read as zeros
// at some moment of the call. A file that cannot tell is no hole. length and most must be positive. It blocks until the
// file answers or ctx ends.
func (d *Device) Extents(ctx context.Context, off, length uint64, most int) ([]Extent, error) {
	const op = "blockdev.Extents"
	if length == 0 || most <= 0 {
		return nil, d.wrap(op, blocktree.E("", blocktree.Invalid, errors.New("nothing is asked about")))
	}
	if err := d.check(op, off, length, false); err != nil {
		return nil, err
	}
	defer d.ops.leave()
	if d.extents == nil {
		return []Extent{{Bytes: length}}, nil
	}
	first, count := d.span(off, length)
	sectors, err := d.extents.Extents(ctx, first, count, most)
	if err != nil {
		return nil, d.wrap(op, err)
	}
	invariant.Check(len(sectors) > 0 && len(sectors) <= most, "%d extents", len(sectors))
	out := make([]Extent, 0, len(sectors))
	at, end := uint64(first)*d.sector, off+length
	for _, x := range sectors {
		from, to := max(at, off), min(at+x.Count*d.sector, end) // of sectors that are covered in part, the part
		invariant.Check(from < to, "an extent of %d sectors outside of what was asked", x.Count)
		if n := len(out); n > 0 && out[n-1].Zero == x.Zero {
			out[n-1].Bytes += to - from
		} else {
			out = append(out, Extent{Bytes: to - from, Zero: x.Zero})
		}
		at = to
	}
	return out, nil
}
