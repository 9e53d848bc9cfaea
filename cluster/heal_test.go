package cluster

import (
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
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
		{"taken over, but not heard of that", func() { l.Epoch = 1 }, true, true, false},
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
