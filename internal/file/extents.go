package file

import (
	"context"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/stripe"
)

// extentRegionsMax is how many regions one call of Extents asks about, all at once: it holds the answers of as many members as a read
// has to hear, each of stripe.ZerosExtentsMax extents at most. Of 16+4 that is 1 MiB.
const extentRegionsMax = 8

// Extents implements blocktree.Extenter: each region is asked about on its own, all at once, and what is told ends where the first of
// them does that was not told of in full.
func (f *File) Extents(ctx context.Context, first blocktree.SectorIndex, count uint64, most int) ([]blocktree.Extent, error) {
	const op = "file.Extents"
	if count == 0 || most <= 0 {
		return nil, blocktree.E(op, blocktree.Invalid, nil)
	}
	if err := f.checkRange(op, first, count); err != nil {
		return nil, err
	}
	if f.guard != nil { // members alone would say where it is zeros
		return []blocktree.Extent{{Count: count}}, nil
	}
	count = min(count, extentRegionsMax*f.regionSectors-uint64(first)%f.regionSectors)
	type asked struct {
		run
		read *cluster.Read
	}
	var reads []asked
	_ = f.cut(first, count, f.regionSectors, func(r run) error { // nothing there can fail
		if f.handle == nil {
			reads = append(reads, asked{r, f.reader.Zeros(r.region, r.first, uint32(r.count))})
		} else {
			reads = append(reads, asked{r, f.handle.Zeros(r.region, r.first, uint32(r.count))})
		}
		return nil
	})
	ended := 0
	defer func() { // else they would wait for their members, one call's after the other's, and none of them charged for
		for _, a := range reads[ended:] {
			if f.handle == nil {
				f.reader.GiveUp(a.read)
			} else {
				f.handle.GiveUp(a.read)
			}
		}
	}()
	var out []blocktree.Extent
	for _, a := range reads {
		pieces, err := a.read.Wait(ctx)
		if err == nil {
			ended++
		}
		if err != nil && len(out) == 0 {
			return nil, f.fail(op, err)
		}
		told := uint64(0)
		for _, p := range pieces {
			zero := p.Kind == stripe.Zero
			switch n := len(out); {
			case n > 0 && out[n-1].Zero == zero:
				out[n-1].Count += uint64(p.Count)
			case n == most:
				return out, nil
			default:
				out = append(out, blocktree.Extent{Count: uint64(p.Count), Zero: zero})
			}
			told += uint64(p.Count)
		}
		if told < a.count { // or it failed, which is told to who asks for the rest
			break
		}
	}
	return out, nil
}
