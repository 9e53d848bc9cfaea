package meta

import (
	"slices"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"
)

// foundedFour has four hosts that have started and a file over all of them, each region on three.
func foundedFour(t *testing.T) (*machine, *Inode) {
	m := newMachine(t)
	m.must(Found{Dir: rootDir, Generation: 1, Runtimes: founders(4), Mode: 0o755})
	for i := 1; i <= 4; i++ {
		m.must(StartNode{Node: node(i), Incarnation: incarnation(i), StartCounter: 1})
	}
	return m, m.must(CreateFile{Path: path("/f"), SizeBytes: 3 << 30, SectorBytes: 4096, Code: blocktree.Code{Data: 2, Parity: 1}}).Inode
}

// TestReplaceHost: the record and every file name the new store; a second time nothing changes; the file is found by the new
// store's starts and not by the old one's.
func TestReplaceHost(t *testing.T) {
	m, f := foundedFour(t)
	op := ReplaceHost{Path: host(2).Path, Old: 2, New: 9}
	m.must(op)
	l := m.view().layout(f.ID)
	if slices.Contains(l.Hosts, 2) || !l.HasPlace(9) || !l.BaseOut[9] {
		t.Fatalf("hosts %v, out %v", l.Hosts, l.BaseOut)
	}
	before := m.view().layout(f.ID).Seq
	m.must(op)
	if now := m.view().layout(f.ID).Seq; now != before {
		t.Errorf("done twice: %d, %d", before, now)
	}
	for r := range l.Regions() {
		if _, ok := l.View(r).Shard(9); !ok {
			continue
		}
		join := stripe.Change{File: f.ID, Epoch: l.Epoch, Seq: l.Seq, Kind: stripe.ChangeJoin, Region: r, Nodes: []blocktree.NodeID{9}}
		if x := m.do(ChangeView{join}); x.Kind != blocktree.StaleMember {
			t.Errorf("a store that has not started joins: %v", x.Kind)
		}
	}
	m.must(StartNode{Node: 9, Incarnation: incarnation(9), StartCounter: 1})
	if l := m.view().layout(f.ID); !l.Marked[9] {
		t.Error("a start of the new store does not reach the file")
	}
	seq := m.view().layout(f.ID).Seq
	m.must(StartNode{Node: 2, Incarnation: incarnation(77), StartCounter: 5, ExpectCounter: 1})
	if m.view().layout(f.ID).Seq != seq {
		t.Error("a start of the old store still reaches the file")
	}
	m.must(Remove{Path: path("/f")})
	if m.view().hosts(9) || m.view().hosts(2) {
		t.Error("a removed file is still found by its hosts")
	}
}

// TestReplaceHostIsRefused, and then nothing has changed.
func TestReplaceHostIsRefused(t *testing.T) {
	m, f := foundedFour(t)
	m.must(outOf(m, f, 1))
	before := m.hash()
	for _, x := range []struct {
		op   ReplaceHost
		kind blocktree.Kind
	}{
		{ReplaceHost{Path: path("/nobody"), Old: 2, New: 9}, blocktree.NotFound},
		{ReplaceHost{Path: host(2).Path, Old: 3, New: 9}, blocktree.Invalid},
		{ReplaceHost{Path: host(2).Path, Old: 2, New: 3}, blocktree.Invalid},
		{ReplaceHost{Path: host(2).Path, Old: 2, New: 0}, blocktree.Invalid},
		{ReplaceHost{Path: host(2).Path, Old: 2, New: 9}, blocktree.Unavailable}, // with host 1 out, some region would have one
	} {
		if r := m.do(x.op); r.Kind != x.kind || x.kind == blocktree.Unavailable && r.Hint == "" {
			t.Errorf("%+v: %v %s", x.op, r.Kind, r.Text)
		}
	}
	if m.hash() != before {
		t.Error("a refused command changed something")
	}
}

// outOf takes a host out of a file.
func outOf(m *machine, f *Inode, n int) ChangeView {
	l := m.view().layout(f.ID)
	return ChangeView{stripe.Change{File: f.ID, Epoch: l.Epoch, Seq: l.Seq, Kind: stripe.ChangeRemove, Nodes: []blocktree.NodeID{node(n)}}}
}

// TestLayoutOfTooFewHosts: a layout whose regions would have fewer members than places is refused. One comes with each refusal of a
// view change, and who asks goes by it.
func TestLayoutOfTooFewHosts(t *testing.T) {
	for _, x := range []struct {
		as   map[blocktree.NodeID]blocktree.NodeID
		good bool
	}{
		{nil, true},
		{map[blocktree.NodeID]blocktree.NodeID{4: 0}, true},
		{map[blocktree.NodeID]blocktree.NodeID{3: 77, 4: 0}, true},
		{map[blocktree.NodeID]blocktree.NodeID{3: 0, 4: 0}, false},
	} {
		l := someLayout()
		l.HashedAs = x.as
		var e wire.Encoder
		putLayout(&e, l)
		d := wire.NewDecoder(e.Buf)
		if getLayout(d); (d.Finish() == nil) != x.good {
			t.Errorf("hashed as %v: %v", x.as, d.Finish())
		}
	}
}

// TestRetireHost: a host stays while it has places, and goes once spares have them; a spare that was no host is found by its starts.
func TestRetireHost(t *testing.T) {
	m, f := foundedFour(t)
	m.must(PutRuntime{Runtime: host(5)})
	m.must(StartNode{Node: 5, Incarnation: incarnation(5), StartCounter: 1})
	retire := RetireHost{Path: host(2).Path, Node: 2}
	if r := m.do(retire); r.Kind != blocktree.Busy || r.Hint == "" {
		t.Fatalf("%v %s", r.Kind, r.Text)
	}
	m.must(outOf(m, f, 2))
	for r := range m.view().layout(f.ID).Regions() {
		l := m.view().layout(f.ID)
		if _, ok := l.View(r).Shard(2); ok {
			m.must(ChangeView{stripe.Change{File: f.ID, Epoch: l.Epoch, Seq: l.Seq, Kind: stripe.ChangePlace, Region: r,
				Nodes: []blocktree.NodeID{2, 5}, Incarnation: incarnation(5)}})
		}
	}
	if !slices.Contains(m.view().hosted(5), f.ID.Inode) {
		t.Error("the file is not found by the spare")
	}
	m.must(retire)
	if r := m.do(retire); r.Kind != blocktree.NotFound {
		t.Errorf("again: %v", r.Kind)
	}
	if r := m.do(PutRuntime{Runtime: host(2)}); r.Kind != blocktree.Other {
		t.Errorf("its path cannot be used again: %v", r.Kind)
	}
}

// TestPlaceNeedsARecord: a spare is a host of now. A holder that has not heard that a store was removed or replaced would give it a
// place that nobody could take from it again: no record names it, so it is neither replaced nor found to be away.
func TestPlaceNeedsARecord(t *testing.T) {
	m, f := foundedFour(t)
	m.must(PutRuntime{Runtime: host(5)})
	m.must(PutRuntime{Runtime: host(6)})
	m.must(StartNode{Node: 5, Incarnation: incarnation(5), StartCounter: 1})
	m.must(StartNode{Node: 6, Incarnation: incarnation(6), StartCounter: 1})
	m.must(RetireHost{Path: host(5).Path, Node: 5})
	m.must(ReplaceHost{Path: host(6).Path, Old: 6, New: 60})
	m.must(outOf(m, f, 2))
	for _, to := range []int{5, 6, 99} {
		l := m.view().layout(f.ID)
		place := stripe.Change{File: f.ID, Epoch: l.Epoch, Seq: l.Seq, Kind: stripe.ChangePlace, Nodes: []blocktree.NodeID{2, node(to)}}
		if s := m.view().start(node(to)); s != nil {
			place.Incarnation = s.Incarnation
		}
		for place.Region = range l.Regions() {
			if _, ok := l.View(place.Region).Shard(2); ok {
				break
			}
		}
		if r := m.do(ChangeView{place}); r.Kind != blocktree.Invalid || r.Layout == nil {
			t.Errorf("a place for store %d: %v %s", to, r.Kind, r.Text)
		}
	}
}

// TestPlaceOfNoHost: a place goes only to a sector host of the cluster that has started, and a file has no more hosts than a
// layout may have. A holder that made up stores would end every node for good: none could read the layout.
func TestPlaceOfNoHost(t *testing.T) {
	m, f := foundedFour(t)
	m.must(outOf(m, f, 2))
	region := blocktree.RegionIndex(0)
	for {
		if _, ok := m.view().layout(f.ID).View(region).Shard(2); ok {
			break
		}
		region++
	}
	place := func(n blocktree.NodeID, inc blocktree.Incarnation) Result {
		l := m.view().layout(f.ID)
		return m.do(ChangeView{stripe.Change{File: f.ID, Epoch: l.Epoch, Seq: l.Seq, Kind: stripe.ChangePlace, Region: region,
			Nodes: []blocktree.NodeID{2, n}, Incarnation: inc}})
	}
	if r := place(99, blocktree.Incarnation{}); r.Kind == blocktree.Other {
		t.Error("a store that nobody knows has a place")
	}
	m.must(PutRuntime{Runtime: host(5)})
	if r := place(5, blocktree.Incarnation{}); r.Kind == blocktree.Other {
		t.Error("a store that has not started has a place")
	}
	m.must(StartNode{Node: 5, Incarnation: incarnation(5), StartCounter: 1})
	m.must(ReplaceHost{Path: host(5).Path, Old: 5, New: 6})
	if r := place(5, incarnation(5)); r.Kind == blocktree.Other {
		t.Error("a store that was replaced has a place")
	}
	m.must(StartNode{Node: 6, Incarnation: incarnation(6), StartCounter: 1})
	full := *m.view().layout(f.ID)
	full.HashedAs = map[blocktree.NodeID]blocktree.NodeID{}
	for n := blocktree.NodeID(1000); len(full.Hosts) < HostsMax; n++ {
		full.Hosts = append(full.Hosts, n)
		full.HashedAs[n] = 0
	}
	b := m.db.NewIndexedBatch()
	openState(b, b, spaceA).setLayout(&full)
	if err := b.Commit(nil); err != nil {
		t.Fatal(err)
	}
	if r := place(6, incarnation(6)); r.Kind != blocktree.TooLarge {
		t.Errorf("one host too many: %v", r.Kind)
	}
}

// TestDrainHost: a store that drains gets no file and no place, may be given heirs, cannot be replaced, and is forgotten with its record. Where
// too few others would be left it is refused.
func TestDrainHost(t *testing.T) {
	m, f := foundedFour(t)
	drain := func(n blocktree.NodeID, cancel bool) Result {
		return m.do(DrainHost{Path: host(int(n)).Path, Node: n, Cancel: cancel})
	}
	for what, r := range map[string]Result{"of a path that is not": m.do(DrainHost{Path: path("/no"), Node: 2}),
		"of another store": m.do(DrainHost{Path: host(2).Path, Node: 3})} {
		if r.Kind == blocktree.Other {
			t.Errorf("%s: accepted", what)
		}
	}
	m.must(CreateFile{Path: path("/wide"), SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 2, Parity: 2}})
	if r := drain(2, false); r.Kind != blocktree.Unavailable || r.Hint == "" {
		t.Errorf("a file needs all four: %v, hint %q", r.Kind, r.Hint)
	}
	m.must(Remove{Path: path("/wide")})
	for range 2 {
		if r := drain(2, false); r.Kind != blocktree.Other {
			t.Fatalf("%v: %s", r.Kind, r.Text)
		}
	}
	if got := m.view().allDraining(); !slices.Equal(got, []blocktree.NodeID{2}) {
		t.Errorf("draining: %v", got)
	}
	if r := drain(3, false); r.Kind != blocktree.Unavailable {
		t.Errorf("a second one: %v", r.Kind)
	}
	if r := m.do(ReplaceHost{Path: host(2).Path, Old: 2, New: 9}); r.Kind != blocktree.Busy || r.Hint == "" {
		t.Errorf("replaced: %v", r.Kind)
	}
	g := m.must(CreateFile{Path: path("/g"), SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 2, Parity: 1}}).Inode
	if l := m.view().layout(g.ID); slices.Contains(l.Hosts, 2) {
		t.Errorf("a new file has hosts %v", l.Hosts)
	}
	if r := m.do(CreateFile{Path: path("/h"), SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 2, Parity: 2}}); r.Kind != blocktree.Invalid {
		t.Errorf("a file for four: %v", r.Kind)
	}
	m.drainAll(t, f, 2)
	m.must(RetireHost{Path: host(2).Path, Node: 2})
	if got := m.view().allDraining(); len(got) != 0 {
		t.Errorf("still draining: %v", got)
	}
}

// drainAll moves every place of a node to the one that has none in the region.
func (m *machine) drainAll(t *testing.T, f *Inode, from blocktree.NodeID) {
	t.Helper()
	for r := range m.view().layout(f.ID).Regions() {
		change := func(kind stripe.ChangeKind, nodes ...blocktree.NodeID) Result {
			l := m.view().layout(f.ID)
			return m.do(ChangeView{stripe.Change{File: f.ID, Epoch: l.Epoch, Seq: l.Seq, Kind: kind, Region: r, Nodes: nodes, Incarnation: incarnation(int(nodes[len(nodes)-1]))}})
		}
		v := m.view().layout(f.ID).View(r)
		if _, ok := v.Shard(from); !ok {
			continue
		}
		to := blocktree.NodeID(1)
		for _, ok := v.Shard(to); ok; _, ok = v.Shard(to) {
			to++
		}
		for _, x := range v.Members {
			if x.Node != from {
				if r := change(stripe.ChangeMove, x.Node, to); r.Kind != blocktree.Invalid {
					t.Errorf("a move from %v, who does not drain: %v", x.Node, r.Kind)
				}
			}
		}
		if r := m.do(RetireHost{Path: host(int(from)).Path, Node: from}); r.Kind != blocktree.Busy {
			t.Errorf("retired with places: %v", r.Kind)
		}
		for _, kind := range []stripe.ChangeKind{stripe.ChangeMove, stripe.ChangePromote} {
			nodes := []blocktree.NodeID{from, to}
			if kind == stripe.ChangePromote {
				nodes = nodes[1:]
			}
			if r := change(kind, nodes...); r.Kind != blocktree.Other {
				t.Fatalf("kind %d in region: %v: %s", kind, r.Kind, r.Text)
			}
		}
		if r := change(stripe.ChangeMove, to, from); r.Kind != blocktree.Invalid {
			t.Errorf("a move to who drains: %v", r.Kind)
		}
	}
}

// TestHeirThatDrains: a node that is to lose its places gets none that it was to follow in (I19).
func TestHeirThatDrains(t *testing.T) {
	m, f := foundedFour(t)
	m.must(Remove{Path: path("/f")})
	f = m.must(CreateFile{Path: path("/g"), SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 1, Parity: 1}}).Inode
	v := m.view().layout(f.ID).View(0)
	from, to := v.Members[0].Node, blocktree.NodeID(1)
	for _, ok := v.Shard(to); ok; _, ok = v.Shard(to) {
		to++
	}
	change := func(kind stripe.ChangeKind, nodes ...blocktree.NodeID) Result {
		l := m.view().layout(f.ID)
		return m.do(ChangeView{stripe.Change{File: f.ID, Epoch: l.Epoch, Seq: l.Seq, Kind: kind, Nodes: nodes, Incarnation: incarnation(int(to))}})
	}
	m.must(DrainHost{Path: host(int(from)).Path, Node: from})
	if r := change(stripe.ChangeMove, from, to); r.Kind != blocktree.Other {
		t.Fatalf("%v: %s", r.Kind, r.Text)
	}
	m.must(DrainHost{Path: host(int(to)).Path, Node: to})
	if r := change(stripe.ChangePromote, to); r.Kind == blocktree.Other || r.Layout == nil {
		t.Errorf("an heir that drains gets the place: %v", r.Kind)
	}
	m.must(DrainHost{Path: host(int(to)).Path, Node: to, Cancel: true})
	if r := change(stripe.ChangePromote, to); r.Kind != blocktree.Other {
		t.Errorf("promoted: %v: %s", r.Kind, r.Text)
	}
}
