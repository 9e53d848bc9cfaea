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

// punchStepBytes is how much of a hole whose zeros are written as any data is made between two looks at whether the caller still may: as much as one write carries.
const punchStepBytes = blocktree.FSTransferBytesMax

// punch makes a hole. One that is written as any data takes as long as that many writes, and is judged as they are: who loses the right in the middle writes no more.
func (a *openFile) punch(ctx context.Context, off, n uint64) error {
	v := a.body.view()
	if z, ok := v.file.(blocktree.ZeroWriter); !ok || !z.WritesZeros() {
		return v.punch(ctx, off, n)
	}
	sector := uint64(v.file.Info().SectorBytes)
	for {
		part := min(n, punchStepBytes-off%sector) // to the end of a sector, so that none is written twice
		if err := v.punch(ctx, off, part); err != nil {
			return err
		}
		if n -= part; n == 0 || off+part >= v.size() {
			return nil
		}
		off += part
		if err := a.judge(ctx); err != nil {
			return err
		}
		if off > v.size() { // it was made smaller meanwhile
			return nil
		}
	}
}
