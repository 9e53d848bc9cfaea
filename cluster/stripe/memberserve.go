package stripe

import (
	"slices"

	"blocktree"
	"blocktree/internal/invariant"
)

// Serve sets the incarnation under which the member answers. A driver that restores a member before Raft has recorded
// its start calls it once, before the first Step.
func (m *Member) Serve(inc blocktree.Incarnation) { m.inc, m.vol = inc, inc }

// ServeVolatile sets the incarnation under which files of durability flush know the node, after Serve. It is of the same disk.
func (m *Member) ServeVolatile(inc blocktree.Incarnation) {
	invariant.Check(m.inc.SameDisk(inc), "volatile incarnation %x of node %x", inc, m.inc)
	m.vol = inc
}

// Unsettled reports what the node knows of a file that only a holder can settle, in regions that it is in sync in by the newest
// layout: a take-over has begun and not ended, so that members that it reached answer no read; the node keeps writes of
// which it does not know whether they are acknowledged, so that readers have to ask every member. A take-over that did not
// reach this node may have reached the others.
func (m *Member) Unsettled(l *Layout) (recovering, pending bool) {
	f := m.files[l.File]
	if !slices.Contains(l.Hosts, m.node) {
		return false, false
	}
	if packed, ok := m.packed[l.File]; ok {
		f = unpacked(packed)
	}
	if f == nil {
		f = &memberFile{}
	}
	inSync := func(i blocktree.RegionIndex) bool {
		v := l.View(i)
		slot, ok := v.Shard(m.node)
		return ok && v.Members[slot].State == InSync
	}
	begun := max(f.fenced, l.Epoch)
	unfinished := f.recovering || f.fenced < l.Epoch
	for i := blocktree.RegionIndex(0); unfinished && !recovering && i < l.Regions(); i++ {
		r := f.regions[i]
		recovering = (r == nil || r.resetEpoch < begun) && !l.bornUnder(i, l.Epoch) && inSync(i)
	}
	for i, r := range f.regions {
		pending = pending || len(r.pending) > 0 && i < l.Regions() && inSync(i)
	}
	return recovering, pending
}
