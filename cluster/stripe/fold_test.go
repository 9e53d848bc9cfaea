package stripe

import (
	"maps"
	"testing"

	"blocktree"
)

// TestLayoutsFold: once every member is in sync again a layout is as short as it was, however many hosts share its regions,
// and in between each view says what it said before but for the one change. One that stays away keeps only itself listed.
func TestLayoutsFold(t *testing.T) {
	current := func(n blocktree.NodeID) blocktree.Incarnation { return incarnation(n, 1) }
	for _, hosts := range []int{3, 4, 7} {
		for _, away := range []blocktree.NodeID{0, 2} { // a second one that does not come back
			l := testLayout(blocktree.Code{Data: 1, Parity: 2})
			l.RegionSectors, l.Sectors = 8, 8*200
			for n := blocktree.NodeID(len(l.Hosts) + 1); int(n) <= hosts; n++ {
				l.Hosts = append(l.Hosts, n)
				l.Incarnations[n] = incarnation(n, 1)
			}
			views := func() map[blocktree.RegionIndex]View {
				vs := map[blocktree.RegionIndex]View{}
				for r := range l.Regions() {
					vs[r] = l.View(r)
				}
				return vs
			}
			folds := 0
			change := func(kind ChangeKind, n blocktree.NodeID, r blocktree.RegionIndex) {
				t.Helper()
				before := views()
				next, err := l.Apply(Change{File: l.File, Epoch: l.Epoch, Seq: l.Seq, Kind: kind, Nodes: []blocktree.NodeID{n}, Region: r,
					Incarnation: current(n)}, current)
				if err != nil {
					t.Fatal(err)
				}
				if len(next.Own) < len(l.Own) {
					folds++
				}
				l = next
				for q, v := range views() {
					want := before[q].with(v.ID, func(m *ViewMember) {
						if m.Node == n && (q == r || kind == ChangeRemove) {
							m.State = map[ChangeKind]MemberState{ChangeRemove: Out, ChangeJoin: Joining, ChangePromote: InSync}[kind]
						}
					})
					if v.ID < before[q].ID || !equalMembers(v, want) || v.ID == before[q].ID && !equalMembers(v, before[q]) {
						t.Fatalf("%d hosts, change %d of node %d in region %d: region %d was %v, is %v", hosts, kind, n, r, q, before[q], v)
					}
				}
			}
			change(ChangeRemove, 1, 0)
			if away != 0 {
				change(ChangeRemove, away, 0)
			}
			for r := range l.Regions() {
				if _, ok := l.View(r).Shard(1); ok {
					change(ChangeJoin, 1, r)
					change(ChangePromote, 1, r)
				}
			}
			want := map[blocktree.NodeID]bool{}
			if away != 0 {
				want[away] = true
			}
			if len(l.Own) > 0 || !maps.Equal(l.BaseOut, want) || folds != 1 {
				t.Errorf("%d hosts: %d regions have views of their own, out are %v; folded %d times", hosts, len(l.Own), l.BaseOut, folds)
			}
		}
	}
}

func equalMembers(a, b View) bool {
	for i := range a.Members {
		if a.Members[i] != b.Members[i] {
			return false
		}
	}
	return true
}
