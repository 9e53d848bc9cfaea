package fs

import (
	"context"
	"fmt"

	"blocktree"
)

// punch makes n bytes from byte off on read as zeros, as far as the file reaches. Sectors that the hole covers in part are read first and written whole, the
// others are zeroed without being carried.
func (v view) punch(ctx context.Context, off, n uint64) error {
	size := v.size()
	if off > size {
		return &blocktree.Error{Op: "punch", Kind: blocktree.OutOfRange, Err: fmt.Errorf("byte %d of %d", off, size), Hint: "a hole begins before the end of the file"}
	}
	sector := uint64(v.file.Info().SectorBytes)
	end := off + min(n, size-off)
	first, last := (off+sector-1)/sector*sector, end/sector*sector // the whole sectors between, if there are any
	if first > last {
		return v.write(ctx, make([]byte, end-off), off) // a part of one sector
	}
	if err := v.write(ctx, make([]byte, first-off), off); err != nil {
		return err
	}
	if first < last {
		if err := v.file.ZeroSectors(ctx, v.sector(first), (last-first)/sector); err != nil {
			return err
		}
	}
	return v.write(ctx, make([]byte, end-last), last)
}
