package stripe

import (
	"fmt"
	"slices"

	"blocktree"
)

// The size of a file changes (docs/design/0021). What its members keep only grows, so that a sector that was ever written stays in a region
// that is copied up, scrubbed and decided about as any; a file that was made smaller has zeros there, and an end before them.

// Size is how many sectors the file has.
func (l *Layout) Size() uint64 { return l.Sectors - l.Beyond }

// bornUnder reports whether region r came to be under epoch e, so that there is nothing of an earlier one in it: all have under the first (docs/design/0067).
func (l *Layout) bornUnder(r blocktree.RegionIndex, e blocktree.Epoch) bool {
	return l.Epoch == e && (l.Born != 0 && r >= l.Born || e == firstEpoch && l.LossEpoch != e)
}

// firstEpoch is that of the first who holds a file.
const firstEpoch blocktree.Epoch = 1

// Resize returns the layout of the file with another size. The sectors that it loses must be zeros, and nobody but who says so may write to
// them. Regions that are new have places at hosts, those that may have any, ascending; current is the incarnation that Raft knows of a node now, zero if it has
// never started. Refused with Invalid (no such size) and Unavailable (a region would have fewer than k members in sync).
func (l *Layout) Resize(sectors uint64, hosts []blocktree.NodeID, current func(blocktree.NodeID) blocktree.Incarnation) (*Layout, error) {
	if sectors == 0 || sectors > blocktree.RegionsMax*l.RegionSectors {
		return nil, blocktree.E("resize", blocktree.Invalid, fmt.Errorf("%d sectors", sectors))
	}
	n := l.clone()
	n.Seq++
	if sectors <= n.Sectors {
		n.Beyond = n.Sectors - sectors
		return n, nil
	}
	n.forgive(current)
	known := n.Regions()
	n.Sectors, n.Beyond = sectors, 0
	n.BaseID = n.Seq // who does not know the new sectors does not know the view either
	if v, own := n.Own[known-1]; own {
		n.Own[known-1] = v.with(n.Seq, func(*ViewMember) {})
	}
	if n.Born == 0 && n.Regions() > known {
		n.Born = known
	}
	may := make(map[blocktree.NodeID]bool, len(hosts))
	for _, h := range hosts {
		may[h] = true
	}
	for r := known; r < n.Regions(); r++ {
		if err := n.bear(r, hosts, may, current); err != nil {
			return nil, err
		}
	}
	return checked(n, n.checkEnough())
}

// forgive has the views expect of hosts that started anew while they stood in no region what they run under now, as if they were hosts from now on: they had
// nothing to lose, so nobody removes them and copies them up, and a growth that gives them places would be refused for ever. It looks at the regions of before.
func (l *Layout) forgive(current func(blocktree.NodeID) blocktree.Incarnation) {
	if len(l.Marked) == 0 {
		return
	}
	standing := l.active()
	for _, h := range l.Hosts {
		now := current(h)
		if !l.Marked[h] || l.BaseOut[h] || standing[h] || now == (blocktree.Incarnation{}) {
			continue // out of what all have in common is who comes back by copy-up
		}
		l.Incarnations[h] = now
		delete(l.Marked, h)
		delete(l.Back, h)
	}
}

// bear gives a new region a view of its own if the hash places a store there that may not have a place. Whoever gets that is in sync at once: there is
// nothing yet that it could lack.
func (l *Layout) bear(r blocktree.RegionIndex, hosts []blocktree.NodeID, may map[blocktree.NodeID]bool, current func(blocktree.NodeID) blocktree.Incarnation) error {
	v := l.View(r)
	if !slices.ContainsFunc(v.Members, func(m ViewMember) bool { return !may[m.Node] }) {
		return nil
	}
	for i, m := range v.Members {
		if may[m.Node] {
			continue
		}
		v.Members[i].State = Out
		s := l.fitFor(r, v, hosts, current)
		if s == 0 {
			continue
		}
		if err := l.addSpare(s, current(s)); err != nil {
			return err
		}
		v.Members[i] = ViewMember{Node: s, State: InSync}
	}
	v.ID = l.Seq
	l.Own[r] = v
	return nil
}

// fitFor is the heaviest of the hosts that have no place in the view of region r and could be in sync there, 0 if there is none: a host of the
// file that was removed, or has lost its memory, comes back by copy-up only.
func (l *Layout) fitFor(r blocktree.RegionIndex, v View, hosts []blocktree.NodeID, current func(blocktree.NodeID) blocktree.Incarnation) (best blocktree.NodeID) {
	var heaviest uint64
	for _, h := range hosts {
		inc, known := l.Incarnations[h]
		if now := current(h); v.has(h) || now == (blocktree.Incarnation{}) || known && (inc != now || l.Marked[h] || l.BaseOut[h]) {
			continue
		}
		if w := weight(l.File, r, h); best == 0 || w > heaviest {
			best, heaviest = h, w
		}
	}
	return best
}
