package cluster

import (
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
)

// TestMemberCounts: what is stored is counted by where it came from, and what is sent by its shards.
func TestMemberCounts(t *testing.T) {
	b := newMemberBed(t)
	b.takeOver()
	before := b.member.stats()
	b.step(&stripe.Message{Kind: stripe.KindPrepare, Record: b.record(1, 0, 4, false)})
	zero := &stripe.Record{Kind: stripe.RecordZero, File: memberFile, First: 100, Count: 50, Version: blocktree.Version{Epoch: 1, Sequence: 2}}
	b.step(&stripe.Message{Kind: stripe.KindPrepare, Record: zero})
	b.settle()
	v := blocktree.Version{Epoch: 1, Sequence: 2}
	b.step(&stripe.Message{Kind: stripe.KindRead, Want: stripe.WantShards, First: 0, Count: 3, Watermark: v})
	b.step(&stripe.Message{Kind: stripe.KindRead, Want: stripe.WantVersions, First: 0, Count: 3})
	b.settle() // a read may commit
	n := b.member.stats()
	if n.WrittenSectors-before.WrittenSectors != 4 || n.WrittenBytes-before.WrittenBytes != 4*4096 || n.ZeroedSectors-before.ZeroedSectors != 50 || n.CopiedSectors != 0 {
		t.Errorf("stored: %+v", n)
	}
	if n.ReadSectors != 3 || n.ReadBytes != 3*4096 {
		t.Errorf("sent: %d sectors, %d bytes", n.ReadSectors, n.ReadBytes)
	}
	if n.QueuedBytes != 0 || n.Waiting != 0 || n.RefusedRecords != 0 {
		t.Errorf("nothing waits: %+v", n)
	}
	b.install(3, 200, 2)
	b.settle()
	if n = b.member.stats(); n.CopiedSectors != 2 || n.CopiedBytes != 2*4096 || n.WrittenSectors-before.WrittenSectors != 4 {
		t.Errorf("installed: %+v", n)
	}
}

func TestRefusedRecordsAreCounted(t *testing.T) {
	data := &stripe.Record{Kind: stripe.RecordData, Count: 3, Payload: make([]byte, 30)}
	var c MemberCounts
	c.stored([]*stripe.Record{data, data, data, {Kind: stripe.RecordControl}}, []int{0, 2})
	if c.WrittenSectors != 3 || c.WrittenBytes != 30 || c.RefusedRecords != 2 {
		t.Errorf("%+v", c)
	}
	for k := range stripe.MessageKinds + 1 {
		c.request(&stripe.Message{Kind: stripe.MessageKind(k)}) // one that is none does no harm
	}
	names := map[string]bool{}
	for k := 1; k < stripe.MessageKinds; k++ {
		names[stripe.MessageKind(k).String()] = c.Requests[k] == 1
	}
	if len(names) != stripe.MessageKinds-1 || names["unknown"] || stripe.MessageKind(stripe.MessageKinds).String() != "unknown" {
		t.Errorf("%v", names)
	}
}

// TestRedundancy: the members that count are a minimum over all regions, also those that are like no other.
func TestRedundancy(t *testing.T) {
	p := &peers{all: map[blocktree.NodeID]*peer{}}
	c := &Client{peers: p}
	hosts := []blocktree.NodeID{1, 2, 3}
	for _, n := range hosts {
		p.all[n] = &peer{runtime: blocktree.Runtime{Node: n}, serving: true}
	}
	code := blocktree.Code{Data: 1, Parity: 2}
	layout := func(change func(*stripe.Layout)) *stripe.Layout {
		l := &stripe.Layout{Code: code, RegionSectors: 10, Sectors: 45, Hosts: hosts}
		change(l)
		return l
	}
	view := func(states ...stripe.MemberState) (v stripe.View) {
		for i, s := range states {
			v.Members = append(v.Members, stripe.ViewMember{Node: hosts[i], State: s})
		}
		return v
	}
	all := Redundancy{Members: 3, InSync: 3, ToRead: 1, ToWrite: code.MinWrite()}
	with := func(change func(*Redundancy)) Redundancy {
		r := all
		change(&r)
		return r
	}
	own := func(v stripe.View) func(*stripe.Layout) {
		return func(l *stripe.Layout) { l.Own = map[blocktree.RegionIndex]stripe.View{3: v} }
	}
	heir := view(stripe.InSync, stripe.InSync, stripe.InSync)
	heir.Heir = 9
	for name, x := range map[string]struct {
		change func(*stripe.Layout)
		down   blocktree.NodeID
		want   Redundancy
		health Health
	}{
		"whole":           {func(*stripe.Layout) {}, 0, all, HealthOK},
		"a node is out":   {func(l *stripe.Layout) { l.BaseOut = map[blocktree.NodeID]bool{2: true} }, 0, with(func(r *Redundancy) { r.InSync = 2 }), HealthDegraded},
		"a node is down":  {func(*stripe.Layout) {}, 1, with(func(r *Redundancy) { r.InSync = 2 }), HealthDegraded},
		"a marked node":   {func(l *stripe.Layout) { l.Marked = map[blocktree.NodeID]bool{3: true} }, 0, with(func(r *Redundancy) { r.InSync = 2 }), HealthDegraded},
		"one region":      {own(view(stripe.InSync, stripe.Out, stripe.Joining)), 0, with(func(r *Redundancy) { r.InSync, r.Joining = 1, 1 }), HealthUnavailable},
		"one region more": {own(view(stripe.InSync, stripe.Out, stripe.Joining)), 1, with(func(r *Redundancy) { r.InSync, r.Joining = 0, 1 }), HealthUnavailable},
		"a place moves":   {own(heir), 0, with(func(r *Redundancy) { r.Moving = 1 }), HealthOK},
	} {
		if x.down != 0 {
			p.all[x.down].serving = false
		}
		if got := c.redundancy(layout(x.change)); got != x.want || got.Health() != x.health {
			t.Errorf("%s: %+v, %s, want %+v, %s", name, got, got.Health(), x.want, x.health)
		}
		if x.down != 0 {
			p.all[x.down].serving = true
		}
	}
}
