package stripe

import (
	"blocktree"
)

// NodeGone tells that a node has been away for so long that its places may be given to spares. It holds until the next NodeUp.
func (h *Holder) NodeGone(node blocktree.NodeID) {
	if p := h.peer(node); !p.up && !p.lost {
		p.lost = true
		h.placeNot = h.now
	}
}

// placeSpare asks for a spare in the place of a member that is out and gone, one region at a time: the spare is copied up
// before the next is placed, as it is called when there is nobody to join. It reports whether it asked.
func (h *Holder) placeSpare() bool {
	if h.now < h.placeNot || h.allIn == h.layout.Seq {
		return false
	}
	lost := false
	for _, p := range h.order {
		lost = lost || p.lost
	}
	if !lost {
		return false
	}
	out := false
	for r := range h.layout.Regions() {
		v := h.layout.View(r)
		for _, m := range v.Members {
			out = out || m.State == Out
			if m.State != Out || !h.peer(m.Node).lost {
				continue
			}
			if s := h.spareFor(r, v); s != nil {
				h.propose(ChangePlace, []blocktree.NodeID{m.Node, s.node}, r, s.inc)
				return true
			}
		}
	}
	if !out {
		h.allIn = h.layout.Seq
	}
	h.placeNot = h.now + h.memberTimeout // no spare: it costs a look at every region to find one
	return false
}

// spareFor is the heaviest node that has no place in a region and may be joined, nil if there is none.
func (h *Holder) spareFor(r blocktree.RegionIndex, v View) (best *peer) {
	var heaviest uint64
	for _, p := range h.order {
		if v.has(p.node) || h.moves.draining[p.node] || h.now < p.noRoom || !h.ripe(p) || !h.answers(p) {
			continue
		}
		if w := weight(h.layout.File, r, p.node); best == nil || w > heaviest {
			best, heaviest = p, w
		}
	}
	return best
}
