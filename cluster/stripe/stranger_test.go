package stripe

import (
	"testing"

	"blocktree"
)

// TestStrangerIsAskedAbout: a node that the layout does not have may have come in the place of a member that is missing. A holder whose writes wait for that member hears of it
// from nobody else, and so has Raft say; of a node that it knows it asks nothing.
func TestStrangerIsAskedAbout(t *testing.T) {
	l := testLayout(blocktree.Code{Data: 1, Parity: 2}).Acquire()
	h := NewHolder(HolderConfig{Layout: l}, 0)
	h.NodeUp(l.Hosts[0], l.Incarnations[l.Hosts[0]])
	if rd := h.Ready(); len(rd.Metas) != 0 {
		t.Errorf("of a member it asks %+v", rd.Metas)
	}
	h.NodeUp(99, blocktree.Incarnation{9})
	if rd := h.Ready(); len(rd.Metas) != 1 {
		t.Errorf("of a stranger it asks %+v", rd.Metas)
	}
}
