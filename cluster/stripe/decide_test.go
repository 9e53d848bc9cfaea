package stripe

import (
	"slices"
	"testing"

	"blocktree"
)

func versionOf(seq blocktree.Sequence) blocktree.Version {
	return blocktree.Version{Epoch: 1, Sequence: seq}
}

// listed is what a member tells that has a watermark and lists versions, those below 0 as kept by a take-over before.
func listed(mark blocktree.Sequence, seqs ...int) RegionState {
	s := RegionState{Watermark: versionOf(mark)}
	for _, n := range seqs {
		s.Pending = append(s.Pending, Extent{Version: versionOf(blocktree.Sequence(max(n, -n))), Count: 1, Kind: Data, Pending: n > 0})
	}
	return s
}

// TestVotes: what all hold is kept, and what is settled to one, unless more than half deny it or those that hold it cannot give it.
func TestVotes(t *testing.T) {
	for name, x := range map[string]struct {
		k       int
		states  []RegionState
		floor   blocktree.Sequence
		winners []blocktree.Sequence
	}{
		"all hold it":                     {2, []RegionState{listed(1, 2), listed(1, 2), listed(1, 2)}, 1, []blocktree.Sequence{2}},
		"one denies it":                   {2, []RegionState{listed(1, 2), listed(1, 2), listed(1)}, 1, nil},
		"one knows it, one denies it":     {2, []RegionState{listed(2), listed(1, 2), listed(1)}, 2, nil},
		"kept before by a repair":         {2, []RegionState{listed(1, -2), listed(1, 2), listed(1)}, 1, []blocktree.Sequence{2}},
		"a floor that most deny":          {2, []RegionState{listed(1 << 40), listed(1, 2), listed(1), listed(1), listed(1)}, 1, nil},
		"a floor that k cannot give":      {4, []RegionState{listed(9), listed(1, 2), listed(1, 2), listed(1), listed(1), listed(1)}, 1, nil},
		"nobody hides what others settle": {2, []RegionState{listed(9), listed(1, 2, 3), listed(1, 3), listed(1, 3), listed(1, 3)}, 1, []blocktree.Sequence{3}},
	} {
		h := &Holder{layout: &Layout{Code: blocktree.Code{Data: x.k, Parity: len(x.states) - x.k}, RegionSectors: 8, Sectors: 8, SectorBytes: 512}}
		h.peers = map[blocktree.NodeID]*peer{}
		for i := range x.states {
			n := blocktree.NodeID(i + 1)
			h.layout.Hosts = append(h.layout.Hosts, n)
			h.peers[n] = &peer{node: n, fenceDone: true, states: []RegionState{x.states[i]}}
		}
		r, ok := h.decideRegion(0)
		var winners []blocktree.Sequence
		for _, v := range r.Winners {
			winners = append(winners, v.Sequence)
		}
		if !ok || r.Floor != versionOf(x.floor) || !slices.Equal(winners, x.winners) {
			t.Errorf("%s: floor %v winners %v, not %d %v", name, r.Floor, winners, x.floor, x.winners)
		}
		h.mut = mutTrustFloor
		if r, _ := h.decideRegion(0); name == "a floor that most deny" && r.Floor == versionOf(x.floor) {
			t.Errorf("%s: trustfloor makes no difference", name)
		}
	}
}

// TestFenceIsWellTold: regions in order, nothing of this epoch, and an end.
func TestFenceIsWellTold(t *testing.T) {
	h := &Holder{epoch: 3}
	now := RegionState{Region: 1, Watermark: blocktree.Version{Epoch: 3}}
	for name, x := range map[string]struct {
		a    Message
		good bool
	}{
		"nothing":           {Message{Last: true}, true},
		"a region":          {Message{Last: true, Regions: []RegionState{listed(1, 2, 3)}}, true},
		"no end":            {Message{Regions: []RegionState{listed(1, 2, 3)}}, false},
		"of this epoch":     {Message{Last: true, Regions: []RegionState{now}}, false},
		"not in order":      {Message{Last: true, Regions: []RegionState{listed(1), listed(1)}}, false},
		"versions that are": {Message{Last: true, Regions: []RegionState{listed(1, 3, 2)}}, false},
		"no such region":    {Message{Last: true, Regions: []RegionState{{Region: blocktree.RegionsMax}}}, false},
	} {
		if h.wellTold(&Message{}, &x.a) != x.good {
			t.Errorf("%s: taken: %v", name, !x.good)
		}
	}
}
