package store

import "blocktree"

// What of a victim's records is live. A segment has tens of thousands of them, most of them dead, so nothing is allocated for one.

// stretch is the sectors from one index within a record to another, which is behind it.
type stretch struct{ from, to uint32 }

// liveRecords are some records and what is live of each.
type liveRecords struct {
	records []header
	live    []stretch // of all of them, one after the other
	ends    []int     // where in live each record's end
}

// of returns what is live of the i-th record.
func (l *liveRecords) of(i int) []stretch {
	if i == 0 {
		return l.live[:l.ends[0]]
	}
	return l.live[l.ends[i-1]:l.ends[i]]
}

// findLive finds, for each record, the sectors for which the index names it. Sectors of damaged pages are not among them.
func (s *Store) findLive(l *liveRecords) {
	l.live, l.ends = l.live[:0], l.ends[:0]
	_ = s.indexed("store.compact", blocktree.FileID{}, func(ix *index) error { // which never fails
		for i := range l.records {
			h := &l.records[i]
			l.live = ix.at(l.live, h.File, h.First, h.Count, h.Version, h.ref().place())
			l.ends = append(l.ends, len(l.live))
		}
		return nil
	})
}

// at appends to out which of the sectors [first, first+count) are of that version at that place, counted from first.
func (ix *index) at(out []stretch, file blocktree.FileID, first blocktree.SectorIndex, count uint32, v blocktree.Version, from place) []stretch {
	before := len(out)
	_ = eachPage(first, uint64(count), func(n uint64, a, b uint16) error {
		p, err := ix.load(pageKey{file, n})
		if err != nil || p == nil {
			return nil // what a damaged page holds is not known. It stays where it is; load has seen to it that the page is reported
		}
		for i := runAfter(p.runs, int(a)); i < len(p.runs) && p.runs[i].first < b; i++ {
			r := &p.runs[i]
			if r.at != from || r.version != v || r.content != Data {
				continue
			}
			if z, covered := ix.zeroAt(pageKey{file, n}); covered && older(r.version, r.at, z.version, z.at) {
				continue
			}
			base := n*PageSectors - uint64(first) // wraps, and back
			x := stretch{uint32(base + uint64(max(r.first, a))), uint32(base + uint64(min(r.end(), b)))}
			if last := len(out) - 1; last >= before && out[last].to == x.from {
				out[last].to = x.to
			} else {
				out = append(out, x)
			}
		}
		return nil
	})
	return out
}
