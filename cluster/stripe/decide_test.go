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

// TestVotesAreQuick: longer lists than a message holds are counted in one pass. If each were looked for in the others the test would last for minutes.
func TestVotesAreQuick(t *testing.T) {
	const n = 1 << 16
	states := make([]RegionState, 6)
	for i := range states {
		for seq := range blocktree.Sequence(n) {
			states[i].Pending = append(states[i].Pending, Extent{Version: versionOf(seq + 1), Count: 1, Kind: Data, Digest: Digest{byte(i)}, Pending: true})
		}
	}
	if out := votes(states); len(out) != n || out[n-1].holders != 1 || out[n-1].members != len(states) {
		t.Errorf("%d votes", len(out))
	}
}

// TestFenceIsBounded: a member that lists more than any holder can have had in flight is named, and not listened to for ever.
func TestFenceIsBounded(t *testing.T) {
	l := testLayout(blocktree.Code{Data: 2, Parity: 1}).Acquire().Acquire()
	h := NewHolder(HolderConfig{Layout: l}, 0)
	n := l.Hosts[0]
	h.NodeUp(n, l.Incarnations[n])
	page := listed(0)
	for seq := range blocktree.Sequence(fenceEntriesMax) {
		page.Pending = append(page.Pending, Extent{Version: versionOf(seq + 1), Count: 1, Kind: Data, Pending: true})
	}
	for region := range blocktree.RegionIndex(3 * listedMax / fenceEntriesMax) {
		rd := h.Ready()
		if len(rd.Suspects) > 0 {
			if rd.Suspects[0].Node != n || int(region)*fenceEntriesMax <= listedMax {
				t.Errorf("%+v after %d pages", rd.Suspects, region)
			}
			return
		}
		for _, m := range rd.Messages {
			if m.Kind == KindFence {
				page.Region = region
				h.Step(&Message{Kind: KindFence, Answer: true, ID: m.ID, Node: n, File: m.File, Epoch: m.Epoch, Seq: m.Seq, Regions: []RegionState{page}})
			}
		}
	}
	t.Error("it may go on")
}
