package stripe

import (
	"cmp"
	"slices"

	"blocktree"
	"blocktree/internal/invariant"
)

// A KindRead of WantZeros asks for less than what a sector is: whether a read would return zeros, and no more. A member says Zero of a
// sector if it has it absent or zeroed and would tell a read of nothing else in flight for it. Where all members that must be
// heard say so, their answers to a read would have held nothing but zeros: its newest committed version, and every pending one
// that it could take, are among what they have. All else is Data, which claims nothing.

// ZerosExtentsMax bounds the extents of one answer to WantZeros: whoever asks about many regions of many members keeps all the answers.
const ZerosExtentsMax = 128

// zeros makes the extents of an answer of what the index has, and where they end. Neighbours of one kind are one extent.
func (t *ReadTask) zeros(committed []Extent, next blocktree.SectorIndex) ([]Extent, blocktree.SectorIndex) {
	var busy []Extent // ranges of data in flight
	for _, h := range t.Pending {
		x, ok := clip(h.Extent(true), t.Request.First, uint64(next-t.Request.First))
		if ok && x.Kind != Zero && t.mut != mutZeroPending {
			busy = append(busy, x)
		}
	}
	slices.SortFunc(busy, func(a, b Extent) int { return cmp.Compare(a.First, b.First) })
	z := zeroRuns{at: t.Request.First}
	for _, x := range committed {
		end := x.First + blocktree.SectorIndex(x.Count)
		invariant.Check(x.First == z.at || z.full, "nothing is said of sector %d", z.at) // it would be called zeros
		for z.at < end && !z.full {
			for len(busy) > 0 && busy[0].First+blocktree.SectorIndex(busy[0].Count) <= z.at {
				busy = busy[1:]
			}
			switch {
			case x.Kind == Data || x.Kind == Damaged || len(busy) == 0 || busy[0].First >= end:
				z.add(end, x.Kind == Absent || x.Kind == Zero)
			case busy[0].First > z.at:
				z.add(busy[0].First, true)
			default:
				z.add(min(end, busy[0].First+blocktree.SectorIndex(busy[0].Count)), false)
			}
		}
	}
	return z.runs, z.at
}

// zeroRuns gathers extents of alternating kinds, ZerosExtentsMax at most.
type zeroRuns struct {
	runs []Extent
	at   blocktree.SectorIndex // where they end
	full bool                  // the next one had no room
}

func (z *zeroRuns) add(end blocktree.SectorIndex, zero bool) {
	kind := Data
	if zero {
		kind = Zero
	}
	switch n := len(z.runs); {
	case n > 0 && z.runs[n-1].Kind == kind:
		z.runs[n-1].Count += uint32(end - z.at)
	case n == ZerosExtentsMax:
		z.full = true
		return
	default:
		z.runs = append(z.runs, Extent{First: z.at, Count: uint32(end - z.at), Kind: kind})
	}
	z.at = end
}

// checkZeros refuses an answer whose extents do not follow one another from the run's first sector to Next, within the run.
func checkZeros(q, a *Message) bool {
	at := q.First
	for i := range a.Extents {
		x := &a.Extents[i]
		left := uint64(q.First) + q.Count - uint64(at)
		if x.First != at || x.Count == 0 || uint64(x.Count) > left || x.Pending || x.Kind != Zero && x.Kind != Data {
			return false
		}
		at += blocktree.SectorIndex(x.Count)
	}
	return at > q.First && at == a.Next && len(a.Extents) <= ZerosExtentsMax
}

// allZeros is what a read of zeros found, as far as all answers go: a sector is zeros if they all say so.
func (r *read) allZeros() []Piece {
	var answers [][]Extent
	end := r.first + blocktree.SectorIndex(r.count)
	for i := range r.slots {
		if a := r.slots[i].ans; a != nil {
			answers = append(answers, a.Extents)
			end = min(end, a.Next)
		}
	}
	z := zeroRuns{at: r.first}
	for z.at < end && !z.full {
		next, zero := end, true
		for i, xs := range answers {
			for xs[0].First+blocktree.SectorIndex(xs[0].Count) <= z.at {
				xs = xs[1:]
			}
			answers[i] = xs
			next = min(next, xs[0].First+blocktree.SectorIndex(xs[0].Count))
			zero = zero && xs[0].Kind == Zero
		}
		z.add(next, zero)
	}
	out := make([]Piece, len(z.runs))
	for i, x := range z.runs {
		out[i] = Piece{First: x.First, Count: x.Count, Kind: x.Kind}
	}
	return out
}
