package cluster

import (
	"bytes"
	"math"
	"testing"

	"blocktree"
)

// TestRoomFor: what a cluster has room for goes by the node that has least, and by how much of what is written each gets.
func TestRoomFor(t *testing.T) {
	told := func(free ...uint64) map[blocktree.NodeID]Space {
		all := map[blocktree.NodeID]Space{}
		for i, x := range free {
			all[blocktree.NodeID(i+1)] = Space{x, 1000}
		}
		return all
	}
	for _, x := range []struct {
		code  blocktree.Code
		nodes int
		told  map[blocktree.NodeID]Space
		want  Space
	}{
		{blocktree.Code{Data: 2, Parity: 1}, 3, told(900, 300, 600), Space{600, 2000}},
		{blocktree.Code{Data: 2, Parity: 1}, 6, told(900, 300, 600, 600, 600, 600), Space{1200, 4000}},
		{blocktree.Code{Data: 2, Parity: 1}, 3, told(300), Space{600, 2000}}, // the others are away, or of versions before
		{blocktree.Code{Data: 1}, 1, told(7), Space{7, 1000}},
		{blocktree.Code{Data: 4, Parity: 2}, 3, told(900, 300, 600), Space{0, 2000}}, // no such file can be made
		{blocktree.Code{Data: 16, Parity: 4}, 1000, map[blocktree.NodeID]Space{1: {math.MaxInt64, math.MaxInt64}}, Space{1 << 62, 1 << 62}},
	} {
		if got := roomFor(x.code, x.nodes, x.told); got != x.want {
			t.Errorf("%v at %d nodes, %v: %+v, not %+v", x.code, x.nodes, x.told, got, x.want)
		}
	}
}

// TestSpacesAreAsked: who answers counts by what he says now, who does not by what he said before, and who is no node any more not at all; answers that come while others are asked yet disturb nothing.
func TestSpacesAreAsked(t *testing.T) {
	const all = 100
	before, now := Space{1, 9}, Space{2, 9}
	told := map[blocktree.NodeID]Space{}
	var nodes []blocktree.NodeID
	for n := blocktree.NodeID(1); n <= all; n++ {
		nodes, told[n] = append(nodes, n), before
	}
	told[all+1] = before
	told = askSpaces(nodes, told, func(n blocktree.NodeID) (Space, error) {
		if n%2 == 0 {
			return Space{}, blocktree.E("test", blocktree.Unavailable, nil)
		}
		return now, nil
	})
	if len(told) != all {
		t.Errorf("%d are told of", len(told))
	}
	for n, x := range told {
		if want := map[bool]Space{true: before, false: now}[n%2 == 0]; x != want {
			t.Errorf("node %d: %+v", n, x)
		}
	}
}

// FuzzSpace: no bytes make the decoder panic, and what it takes has one encoding, and is possible.
func FuzzSpace(f *testing.F) {
	f.Add(Space{1, 2}.Encode())
	f.Add(Space{3, 2}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := DecodeSpace(b)
		if err == nil && (!bytes.Equal(x.Encode(), b) || x.FreeBytes > x.TotalBytes || x.TotalBytes > math.MaxInt64) {
			t.Errorf("%x is taken for %+v", b, x)
		}
	})
}
