package stripe

import (
	"slices"

	"blocktree"
)

// Durability says what an acknowledged write of a file has survived (docs/design/0014).
type Durability uint8

// The durabilities, append-only.
const (
	DurabilityAck   Durability = iota // synced at every member in sync
	DurabilityFlush                   // written to the log of every member in sync; synced by a flush
	durabilityEnd
)

// String is how configs and commands spell it.
func (d Durability) String() string {
	switch d {
	case DurabilityAck:
		return "ack"
	case DurabilityFlush:
		return "flush"
	}
	return "unknown"
}

// MarkBack is Mark for a file of durability flush: inc is what the node runs under now. If that is of the disk that the views
// count on, what the node had synced is still there, should too few others be left (Lossy).
func (l *Layout) MarkBack(node blocktree.NodeID, inc blocktree.Incarnation) *Layout {
	n := l.Mark(node)
	delete(n.Back, node)
	if l.Incarnations[node].SameDisk(inc) {
		if n.Back == nil {
			n.Back = map[blocktree.NodeID]blocktree.Incarnation{}
		}
		n.Back[node] = inc
	}
	return n
}

// Lossy reports whether acknowledged writes of a file of durability flush may be gone: some region has fewer than k unmarked members
// in sync. It does not while a region has fewer than k that are unmarked or back on their disk: then what was flushed is out of
// reach, too, and nothing can be decided.
func (l *Layout) Lossy() bool {
	if l.Durability != DurabilityFlush || len(l.Marked) == 0 {
		return false
	}
	lossy := false
	for _, v := range l.apart() {
		unmarked, back := 0, 0
		for _, m := range v.Members {
			if _, ok := l.Back[m.Node]; m.State == InSync && !l.Marked[m.Node] {
				unmarked++
			} else if m.State == InSync && ok {
				back++
			}
		}
		if unmarked+back < l.Code.Data {
			return false
		}
		lossy = lossy || unmarked < l.Code.Data
	}
	return lossy
}

// lose makes the members that are unmarked or back the views, the latter under their new incarnations. All that was flushed is at each
// of them; what else they have is for the take-over to decide, which is under the layout's epoch.
func (l *Layout) lose() {
	var gone []blocktree.NodeID
	for _, n := range l.Hosts {
		inc, back := l.Back[n]
		switch {
		case !l.Marked[n] || !l.inSyncSomewhere(n):
		case back:
			l.Incarnations[n] = inc
			delete(l.Marked, n)
			delete(l.Back, n)
		default:
			gone = append(gone, n)
		}
	}
	_ = l.remove(gone) // k remain, see Lossy
	l.Loss++
	l.LossEpoch = l.Epoch
}

// inSyncSomewhere reports whether node is in sync in a region.
func (l *Layout) inSyncSomewhere(node blocktree.NodeID) bool {
	for _, v := range l.apart() {
		if slices.ContainsFunc(v.Members, func(m ViewMember) bool { return m.Node == node && m.State == InSync }) {
			return true
		}
	}
	return false
}
