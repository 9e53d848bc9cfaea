package cluster

import (
	"context"
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
)

// TestStuck: a file that its last holder left in the middle of a take-over, or with a write that nobody can judge while a
// member is away, needs a holder, unless a take-over could not end anyhow.
func TestStuck(t *testing.T) {
	b := newMemberBed(t)
	l := *b.layout
	l.Code, l.Hosts = blocktree.Code{Data: 2, Parity: 1}, []blocktree.NodeID{1, 2, 3}
	b.member.learn([]*stripe.Layout{&l}, nil)
	all, two, alone := []blocktree.NodeID{1, 2, 3}, []blocktree.NodeID{1, 3}, []blocktree.NodeID{1}
	for _, x := range []struct {
		name            string
		do              func()
		all, two, alone bool // whether it is stuck while so many serve
	}{
		{"nothing happened", func() { l.Epoch = 0 }, false, false, false},
		{"made, and nobody had it before", func() { l.Epoch = 1 }, false, false, false},
		{"taken over, but not heard of that", func() { l.Epoch, b.epoch = 2, 2 }, true, true, false},
		{"fenced", func() { b.step(&stripe.Message{Kind: stripe.KindFence}) }, true, true, false},
		{"repaired", func() { b.step(&stripe.Message{Kind: stripe.KindRepair, Last: true}) }, false, false, false},
		{"written", func() {
			rec := b.record(1, 0, 1, false)
			rec.Shard, _ = l.View(0).Shard(memberNode)
			rec.ShardBytes, rec.Payload = 2048, rec.Payload[:2048]
			b.step(&stripe.Message{Kind: stripe.KindPrepare, Record: rec})
		}, false, true, false},
	} {
		x.do()
		b.settle()
		for _, y := range []struct {
			serving []blocktree.NodeID
			want    bool
		}{{all, x.all}, {two, x.two}, {alone, x.alone}} {
			p := &peers{all: map[blocktree.NodeID]*peer{}}
			for _, n := range y.serving {
				p.all[n] = &peer{serving: true}
			}
			s := &Service{member: b.member, peers: p}
			if got := s.stuck(&l); got != y.want {
				t.Errorf("%s, %v serve: stuck %v", x.name, y.serving, got)
			}
		}
	}
}

// TestStuckWithoutLeader: a file in which the leader has no place is noticed all the same, by one node that has.
func TestStuckWithoutLeader(t *testing.T) {
	const leader = blocktree.NodeID(9)
	hosts := []blocktree.NodeID{1, 2, 3, 4}
	serving := map[blocktree.NodeID]bool{1: true, 2: true, 3: true, 4: true, leader: true}
	speakers := func(l *stripe.Layout, leader blocktree.NodeID) (n int) {
		for node := range serving {
			p := &peers{all: map[blocktree.NodeID]*peer{}}
			for other, up := range serving {
				p.all[other] = &peer{serving: up}
			}
			s := &Service{cfg: ServiceConfig{Node: node}, peers: p}
			if serving[node] && s.speaksFor(l, leader) {
				n++
			}
		}
		return n
	}
	l := &stripe.Layout{File: memberFile, Code: blocktree.Code{Data: 1, Parity: 1}, SectorBytes: 4096, RegionSectors: 1 << 18, Sectors: 1 << 18,
		Hosts: hosts, Epoch: 1, Seq: 1}
	members := l.View(0).Members
	if n := speakers(l, leader); n != 1 {
		t.Errorf("%d nodes speak for a file without the leader", n)
	}
	serving[members[0].Node] = false
	if n := speakers(l, leader); n != 1 {
		t.Errorf("%d nodes do while the first is away", n)
	}
	serving[members[0].Node] = true
	if n := speakers(l, members[1].Node); n != 0 {
		t.Errorf("%d nodes do beside the leader", n)
	}
	l.Marked = map[blocktree.NodeID]bool{members[0].Node: true, members[1].Node: true}
	if n := speakers(l, leader); n != 0 {
		t.Errorf("%d nodes do that have lost their memory", n)
	}
}

// TestYieldsToHoldersOnly: only who may hold a file stops its copy-up.
func TestYieldsToHoldersOnly(t *testing.T) {
	b := newPassBed(t)
	stopped := 0
	s := &Service{group: b.holders.group, roster: b.holders.nodes, healing: map[blocktree.FileID]context.CancelFunc{b.file: func() { stopped++ }}}
	s.cfg.Clock = b.clock
	for _, r := range []meta.Rights{0, meta.RightRead, meta.RightsHold} {
		if r != 0 {
			b.grant(r, 0)
		}
		err := s.letGo(b.who, b.file)
		if want := r == meta.RightsHold; (err == nil) != want || (stopped == 1) != want || err != nil && blocktree.KindOf(err) != blocktree.Permission {
			t.Errorf("with rights to %s: %v, stopped %d times", r, err, stopped)
		}
	}
	if err := s.letGo(cred.Identity{Principal: blocktree.PrincipalOf([]byte("node"))}, b.file); err != nil || stopped != 2 {
		t.Errorf("a node: %v, %d", err, stopped)
	}
	if err := s.letGo(cred.Identity{}, b.file); blocktree.KindOf(err) != blocktree.Permission || stopped != 2 {
		t.Errorf("nobody: %v", err)
	}
}
