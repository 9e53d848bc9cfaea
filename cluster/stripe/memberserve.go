package stripe

import "blocktree"

// Serve sets the incarnation under which the member answers. A driver that restores a member before Raft has recorded
// its start calls it once, before the first Step.
func (m *Member) Serve(inc blocktree.Incarnation) { m.inc = inc }

// Unsettled reports what the node has of a file that only a holder can settle, in regions that it is in sync in: it is
// between a fence and the decision, so that it answers no read; it keeps writes of which it does not know whether they are
// acknowledged, so that readers have to ask every member.
func (m *Member) Unsettled(file blocktree.FileID) (recovering, pending bool) {
	f := m.files[file]
	if f == nil || f.layout == nil {
		return false, false
	}
	inSync := func(i blocktree.RegionIndex) bool { return i < f.layout.Regions() && m.view(f, i).state == InSync }
	for i := blocktree.RegionIndex(0); f.recovering && !recovering && i < f.layout.Regions(); i++ {
		r := f.regions[i]
		recovering = inSync(i) && (r == nil || r.resetEpoch < f.fenced)
	}
	for i, r := range f.regions {
		pending = pending || len(r.pending) > 0 && inSync(i)
	}
	return recovering, pending
}
