package stripe

import (
	"slices"

	"blocktree"
)

// removalsMax bounds the removals of unknown outcome that are told apart; what is asked beyond counts as one with the last.
const removalsMax = 16

// removal is who leaves the view of a region, or of all. Who makes room for an heir leaves its region.
type removal struct {
	nodes      []blocktree.NodeID
	region     blocktree.RegionIndex
	everywhere bool
}

// noteRemoval keeps who was to be removed under the newest layout that the holder knows. At most one such removal is ever made,
// by compare-and-swap, and a newer layout says which.
func (h *Holder) noteRemoval(m removal) {
	same := func(x removal) bool {
		return slices.Equal(x.nodes, m.nodes) && x.region == m.region && x.everywhere == m.everywhere
	}
	switch n := len(h.removals); {
	case slices.ContainsFunc(h.removals, same):
	case n < removalsMax:
		h.removals = append(h.removals, m)
	default:
		h.removals[n-1] = removal{nodes: slices.Concat(h.removals[n-1].nodes, m.nodes), everywhere: true}
	}
}

// leaving reports whether a removal that was asked for, and may have been made, takes out all that answered a read. Those that
// remain may hold a version that these miss, all of them, and a leaseless reader have returned it. One that remains answers
// under the old view only before that: it does not go back to a view.
func (h *Holder) leaving(r *read) bool {
	if h.mut == mutReadLeaving {
		return false
	}
	return slices.ContainsFunc(h.removals, func(m removal) bool {
		if !m.everywhere && m.region != r.region {
			return false
		}
		for i := range r.slots {
			if r.slots[i].ans != nil && !slices.Contains(m.nodes, r.view.Members[i].Node) {
				return false
			}
		}
		return true
	})
}
