package cluster

import (
	"slices"
	"testing"

	"blocktree"
)

// TestEndedHandleSettlesNothing: a handle that has ended asks for no layout that it would never go by, again and again until somebody closes it.
func TestEndedHandleSettlesNothing(t *testing.T) {
	x := cutting{h: &Handle{err: blocktree.E("cluster", blocktree.Fenced, nil)}} // without a client: it would fail if it asked
	if err := x.settle(t.Context()); blocktree.KindOf(err) != blocktree.Fenced {
		t.Error(err)
	}
}

// TestFewCutNothing: a file is not cut because half of the nodes, or fewer, say that it is asked for.
func TestFewCutNothing(t *testing.T) {
	for _, x := range []struct {
		nodes, say int
		most       bool
	}{{0, 0, false}, {1, 0, false}, {1, 1, true}, {2, 1, false}, {2, 2, true}, {3, 1, false}, {3, 2, true}, {6, 3, false}, {6, 4, true}} {
		nodes := make([]blocktree.NodeID, x.nodes)
		for i := range nodes {
			nodes[i] = blocktree.NodeID(i + 1)
		}
		if said, most := mostSay(nodes, func(n blocktree.NodeID) bool { return slices.Contains(nodes[:x.say], n) }); said != x.say || most != x.most {
			t.Errorf("%d of %d: %d say so, %v", x.say, x.nodes, said, most)
		}
	}
}
