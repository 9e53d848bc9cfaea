package stripe

import (
	"slices"

	"blocktree"
)

// removalsMax bounds the removals of unknown outcome that are told apart; what is asked beyond counts as one with the last.
const removalsMax = 16

// noteRemoval keeps who was to be removed under the newest layout that the holder knows. At most one such removal is ever made,
// by compare-and-swap, and a newer layout says which.
func (h *Holder) noteRemoval(nodes []blocktree.NodeID) {
	same := func(x []blocktree.NodeID) bool { return slices.Equal(x, nodes) }
	switch n := len(h.removals); {
	case slices.ContainsFunc(h.removals, same):
	case n < removalsMax:
		h.removals = append(h.removals, nodes)
	default:
		h.removals[n-1] = slices.Concat(h.removals[n-1], nodes)
	}
}

// leaving reports whether a removal that was asked for, and may have been made, takes out all that answered a read. Those that
// remain may hold a version that these miss, all of them, and a leaseless reader have returned it. One that remains answers
// under the old view only before that: it does not go back to a view.
func (h *Holder) leaving(r *read) bool {
	if h.mut == mutReadLeaving {
		return false
	}
	return slices.ContainsFunc(h.removals, func(nodes []blocktree.NodeID) bool {
		for i := range r.slots {
			if r.slots[i].ans != nil && !slices.Contains(nodes, r.view.Members[i].Node) {
				return false
			}
		}
		return true
	})
}
