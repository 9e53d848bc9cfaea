package cluster

import (
	"context"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// votersInterval is how often the leader compares the group's members with the process records. learnerLag is how many
// entries a learner may lack when it is made a voter: it must not hold up the commits that need it.
const (
	votersInterval = time.Second
	learnerLag     = 64
)

// keepVoters makes the members of the Raft group those that the process records name, while this node leads
// (docs/design/0012).
func (s *Service) keepVoters() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(votersInterval):
		}
		st := s.group.Status()
		runtimes, err := s.group.Runtimes()
		if err != nil || st.Leader != s.cfg.Node {
			continue
		}
		starts, err := s.group.Starts()
		if err != nil {
			continue
		}
		if c := nextMember(st, sectorHosts(runtimes), starts); c.node != 0 {
			s.changeMember(c)
		}
	}
}

func (s *Service) changeMember(c memberChange) {
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	var err error
	if c.remove {
		err = s.group.RemoveMember(ctx, c.node)
	} else {
		err = s.group.AddMember(ctx, c.node, c.voter)
	}
	s.cfg.Logger.Info("changed the members of the metadata group", "store", c.node.String(), "remove", c.remove, "voter", c.voter, "err", err)
}

// memberChange is one change of the group's members; none if node is zero.
type memberChange struct {
	node          blocktree.NodeID
	remove, voter bool
}

// nextMember is the next change that brings the group closer to the hosts, as its leader sees it. Who is no host any more goes
// first, unless too few of the voters that would remain were heard from lately. Only a store that has started votes: until then nobody
// could tell a disk that is wiped and comes back under the same id.
func nextMember(st meta.Status, hosts []blocktree.Runtime, starts []meta.NodeStart) memberChange {
	if len(hosts) == 0 { // not founded yet
		return memberChange{}
	}
	voters, recent := 0, 0
	for _, m := range st.Members {
		if !m.Learner {
			voters++
			if m.Recent {
				recent++
			}
		}
	}
	for _, m := range st.Members {
		if slices.ContainsFunc(hosts, func(r blocktree.Runtime) bool { return r.Node == m.Node }) {
			continue
		}
		left, live := voters, recent
		if !m.Learner {
			left--
			if m.Recent {
				live--
			}
		}
		if left > 0 && live > left/2 {
			return memberChange{node: m.Node, remove: true}
		}
	}
	for _, r := range hosts {
		i := slices.IndexFunc(st.Members, func(m meta.MemberStatus) bool { return m.Node == r.Node })
		if i < 0 {
			return memberChange{node: r.Node}
		}
		started := slices.ContainsFunc(starts, func(n meta.NodeStart) bool { return n.Node == r.Node })
		if m := st.Members[i]; started && m.Learner && m.Recent && m.Match+learnerLag >= st.Commit && voters < blocktree.VotersMax {
			return memberChange{node: r.Node, voter: true}
		}
	}
	return memberChange{}
}
