package store

import (
	"cmp"
	"slices"

	"blocktree"
)

// zeroWalk gathers runs that alternate between Data and Zero.
type zeroWalk struct {
	out        []Extent
	at         blocktree.SectorIndex // where they end
	extentsMax int
	full       bool // the next run had no room
}

// to makes what lies between here and end one content.
func (w *zeroWalk) to(end blocktree.SectorIndex, content Content) {
	if end <= w.at || w.full {
		return
	}
	switch n := len(w.out); {
	case n > 0 && w.out[n-1].Content == content:
		w.out[n-1].Count += uint32(end - w.at)
	case n == w.extentsMax:
		w.full = true
		return
	default:
		w.out = append(w.out, Extent{First: w.at, Count: uint32(end - w.at), Content: content})
	}
	w.at = end
}

// walkZeros walks from w.at to end. Only pages that exist are looked at: all between them is absent or under a tombstone.
func (ix *index) walkZeros(w *zeroWalk, file blocktree.FileID, end blocktree.SectorIndex, pagesMax int) error {
	from, to := uint64(w.at)/PageSectors, (uint64(end)+PageSectors-1)/PageSectors
	// Mostly few pages of a long run are looked at, and all are to be found, so that it is taken in parts: each as long as all before.
	for part := uint64(max(1, pagesMax)); from < to && !w.full; part *= 2 {
		upTo := min(to, from+part)
		keys := ix.pages(file, from, upTo)
		slices.SortFunc(keys, func(a, b pageKey) int { return cmp.Compare(a.page, b.page) })
		looked := min(len(keys), pagesMax)
		if err := ix.walkPages(w, keys[:looked], end); err != nil {
			return err
		}
		if pagesMax -= looked; looked < len(keys) {
			w.to(min(end, blocktree.SectorIndex(keys[looked].page*PageSectors)), Zero)
			return nil
		}
		w.to(min(end, blocktree.SectorIndex(upTo*PageSectors)), Zero)
		from = upTo
	}
	return nil
}

// walkPages walks from w.at to the end of the last of some pages: all there are to there, in order.
func (ix *index) walkPages(w *zeroWalk, keys []pageKey, end blocktree.SectorIndex) error {
	for _, key := range keys {
		start := blocktree.SectorIndex(key.page * PageSectors)
		if w.to(start, Zero); w.full {
			return nil
		}
		limit := min(end, start+PageSectors)
		p, err := ix.load(key)
		switch {
		case blocktree.KindOf(err) == blocktree.Corrupt:
			w.to(limit, Data)
			continue
		case err != nil:
			return err
		}
		z, covered := ix.zeroAt(key)
		for j := range p.runs {
			r := &p.runs[j]
			if r.content != Data || covered && older(r.version, r.at, z.version, z.at) {
				continue
			}
			w.to(min(end, start+blocktree.SectorIndex(r.first)), Zero)
			w.to(min(end, start+blocktree.SectorIndex(r.end())), Data)
		}
		w.to(limit, Zero)
	}
	return nil
}
