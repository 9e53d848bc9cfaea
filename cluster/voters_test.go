package cluster

import (
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
)

// TestNextMember is a table of groups and records: what the leader changes next.
func TestNextMember(t *testing.T) {
	voter := func(n blocktree.NodeID, recent bool) meta.MemberStatus {
		return meta.MemberStatus{Node: n, Recent: recent, Match: 100}
	}
	learner := func(n blocktree.NodeID, match uint64) meta.MemberStatus {
		return meta.MemberStatus{Node: n, Learner: true, Recent: true, Match: match}
	}
	many := []meta.MemberStatus{}
	for n := range blocktree.NodeID(blocktree.VotersMax) {
		many = append(many, voter(n+1, true))
	}
	for name, x := range map[string]struct {
		members []meta.MemberStatus
		hosts   []blocktree.NodeID
		want    memberChange
	}{
		"as it should be":           {[]meta.MemberStatus{voter(1, true), voter(2, true), voter(3, false)}, []blocktree.NodeID{1, 2, 3}, memberChange{}},
		"not founded":               {[]meta.MemberStatus{voter(1, true)}, nil, memberChange{}},
		"a dead one replaced":       {[]meta.MemberStatus{voter(1, true), voter(2, true), voter(3, false)}, []blocktree.NodeID{1, 2, 9}, memberChange{node: 3, remove: true}},
		"no majority would remain":  {[]meta.MemberStatus{voter(1, true), voter(2, false), voter(3, true)}, []blocktree.NodeID{1, 2}, memberChange{}},
		"the last one":              {[]meta.MemberStatus{voter(1, true)}, []blocktree.NodeID{9}, memberChange{node: 9}},
		"a learner that is no host": {[]meta.MemberStatus{voter(1, true), learner(2, 0)}, []blocktree.NodeID{1}, memberChange{node: 2, remove: true}},
		"the new one":               {[]meta.MemberStatus{voter(1, true), voter(2, true)}, []blocktree.NodeID{1, 2, 9}, memberChange{node: 9}},
		"it lags":                   {[]meta.MemberStatus{voter(1, true), voter(2, true), learner(9, 10)}, []blocktree.NodeID{1, 2, 9}, memberChange{}},
		"it has never started":      {[]meta.MemberStatus{voter(1, true), voter(2, true), learner(10, 100)}, []blocktree.NodeID{1, 2, 10}, memberChange{}},
		"it has caught up":          {[]meta.MemberStatus{voter(1, true), voter(2, true), learner(9, 90)}, []blocktree.NodeID{1, 2, 9}, memberChange{node: 9, voter: true}},
		"there are voters enough":   {append(many, learner(9, 100)), []blocktree.NodeID{1, 2, 3, 4, 5, 6, 7, 9}, memberChange{}},
		"gone before new ones come": {[]meta.MemberStatus{voter(1, true), voter(2, true), voter(3, false)}, []blocktree.NodeID{1, 2, 8, 9}, memberChange{node: 3, remove: true}},
	} {
		var hosts []blocktree.Runtime
		for _, n := range x.hosts {
			hosts = append(hosts, blocktree.Runtime{Node: n, Services: []string{blocktree.ServiceSector}})
		}
		starts := []meta.NodeStart{{Node: 1, Counter: 1}, {Node: 2, Counter: 1}, {Node: 9, Counter: 1}}
		if got := nextMember(meta.Status{Commit: 100, Members: x.members}, hosts, starts); got != x.want {
			t.Errorf("%s: %+v, want %+v", name, got, x.want)
		}
	}
}
