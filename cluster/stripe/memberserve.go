package stripe

import "blocktree"

// Serve sets the incarnation under which the member answers. A driver that restores a member before Raft has recorded
// its start calls it once, before the first Step.
func (m *Member) Serve(inc blocktree.Incarnation) { m.inc = inc }
