package stripe

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"blocktree"
)

// one makes a member that is in sync, fenced and repaired under epoch 1, and the layout it goes by.
func one(t *testing.T, mutant string) (*testNode, *Layout) {
	t.Helper()
	w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, mutant)
	w.drop, w.quiet, w.lease = 0, true, true
	w.heal()
	if len(w.errs) > 0 {
		t.Fatal(w.errs)
	}
	return w.nodes[0], w.truth
}

// ask steps one message and returns its answer, with everything synced.
func (n *testNode) ask(t *testing.T, m *Message) *Message {
	t.Helper()
	n.w.net = nil
	n.m.Step(m)
	n.drain()
	n.sync(len(n.log))
	for _, e := range n.w.net {
		if e.msg.Answer && e.msg.ID == m.ID {
			return e.msg
		}
	}
	t.Fatalf("no answer to %+v", m)
	return nil
}

// prepare is a good one; tests spoil it.
func (n *testNode) prepare(l *Layout, id uint64, seq blocktree.Sequence) *Message {
	v := blocktree.Version{Epoch: l.Epoch, Sequence: seq}
	view := l.View(0)
	shard, _ := view.Shard(n.id)
	w := n.w.codec.write(RecordData, 0, 0, 1, v)
	return &Message{
		Kind: KindPrepare, ID: id, Node: n.id, File: l.File, Epoch: l.Epoch, View: view.ID, Incarnation: incarnation(n.id, n.inc), Version: v,
		Record: &Record{
			Kind: RecordData, File: l.File, First: 0, Count: 1, Version: v, Digest: w.Digest, Watermark: blocktree.Version{Epoch: l.Epoch},
			Shard: shard, ShardBytes: w.ShardBytes, Payload: w.Shards[shard], Seals: w.Seals,
		},
	}
}

func TestMemberRefuses(t *testing.T) {
	for _, x := range []struct {
		name  string
		spoil func(m *Message)
		want  blocktree.Kind
	}{
		{"good", func(m *Message) {}, blocktree.Other},
		{"older epoch", func(m *Message) { m.Epoch-- }, blocktree.Fenced},
		{"older view", func(m *Message) { m.View-- }, blocktree.StaleView},
		{"other incarnation", func(m *Message) { m.Incarnation = blocktree.Incarnation{9} }, blocktree.StaleMember},
		{"other shard", func(m *Message) { m.Record.Shard++ }, blocktree.Invalid},
		{"region beyond the file", func(m *Message) { m.Region = 9 }, blocktree.OutOfRange},
		{"run beyond the region", func(m *Message) { m.Record.First = testRegion }, blocktree.Invalid},
		{"count of zero", func(m *Message) { m.Record.Count = 0 }, blocktree.Invalid},
		{"huge count", func(m *Message) { m.Record.Count = 1 << 31 }, blocktree.Invalid},
		{"short payload", func(m *Message) { m.Record.Payload = m.Record.Payload[1:] }, blocktree.Invalid},
		{"no record", func(m *Message) { m.Record = nil }, blocktree.Invalid},
		{"a promise of its own", func(m *Message) { m.Record.Kind = RecordControl }, blocktree.Invalid},
		{"version of another epoch", func(m *Message) { m.Record.Version.Epoch-- }, blocktree.Invalid},
		{"watermark of a later epoch", func(m *Message) { m.Record.Watermark.Epoch++ }, blocktree.Invalid},
		{"installed", func(m *Message) { m.Record.Installed = true }, blocktree.Invalid},
		{"reset of a member in sync", func(m *Message) { m.Kind = KindReset }, blocktree.StaleView},
		{"unknown kind", func(m *Message) { m.Kind = 77 }, blocktree.Invalid},
		{"an answer", func(m *Message) { m.Answer = true }, blocktree.Invalid},
		{"huge read", func(m *Message) { m.Kind, m.Want, m.Count = KindRead, WantShards, 1<<40 }, blocktree.OutOfRange},
	} {
		t.Run(x.name, func(t *testing.T) {
			n, l := one(t, "")
			m := n.prepare(l, 1, 50)
			x.spoil(m)
			before := len(n.log)
			if a := n.ask(t, m); a.Err != x.want {
				t.Errorf("got %v, want %v", a.Err, x.want)
			}
			if stored := len(n.log) > before; stored != (x.want == blocktree.Other) {
				t.Errorf("stored: %v", stored)
			}
		})
	}
}

// TestOldView: a member that knows it has left answers no read under the view before, nor under the new one.
func TestOldView(t *testing.T) {
	for mutant, want := range map[string]blocktree.Kind{"": blocktree.StaleView, "noviewcheck": blocktree.Other, "readstaleview": blocktree.Other} {
		n, _ := one(t, mutant)
		m := n.about(KindRead)
		m.Want, m.Count = WantShards, 1
		n.w.mustChange(t, n, Change{Kind: ChangeRemove})
		if a := n.ask(t, m); a.Err != want {
			t.Errorf("%q, the view before: %v, want %v", mutant, a.Err, want)
		}
		m = n.about(KindRead)
		m.Want, m.Count = WantShards, 1
		if a := n.ask(t, m); a.Err != want {
			t.Errorf("%q, the new view: %v, want %v", mutant, a.Err, want)
		}
	}
}

func TestNewerViewIsLearntFirst(t *testing.T) {
	n, l := one(t, "")
	m := n.prepare(l, 1, 50)
	m.View = l.Seq + 1
	n.w.net = nil
	n.m.Step(m)
	n.drain()
	if len(n.catchup) != 1 || len(n.w.net) > 0 {
		t.Fatalf("catch-ups %v, answers %d", n.catchup, len(n.w.net))
	}
	n.m.CaughtUp(l.File) // Raft has nothing newer
	n.drain()
	n.m.CaughtUp(l.File)
	n.drain()
	if len(n.w.net) != 1 || n.w.net[0].msg.Err != blocktree.Unavailable {
		t.Fatalf("a view that Raft does not know: %d answers", len(n.w.net))
	}
}

func TestSecondDigest(t *testing.T) {
	for mutant, want := range map[string]blocktree.Kind{"": blocktree.Corrupt, "seconddigest": blocktree.Other} {
		n, l := one(t, mutant)
		if a := n.ask(t, n.prepare(l, 1, 50)); a.Err != 0 {
			t.Fatal(a.Err)
		}
		if a := n.ask(t, n.prepare(l, 2, 50)); a.Err != 0 {
			t.Errorf("a duplicate gives %v", a.Err)
		}
		m := n.prepare(l, 3, 50)
		m.Record.Digest[3] ^= 1
		if a := n.ask(t, m); a.Err != want {
			t.Errorf("%q: another write under one version gives %v, want %v", mutant, a.Err, want)
		}
	}
}

// TestAnswersWait shows that a duplicate is not answered before its original is durable.
func TestAnswersWait(t *testing.T) {
	n, l := one(t, "")
	n.w.net = nil
	for id := range uint64(2) {
		n.m.Step(n.prepare(l, id+1, 50))
		n.drain()
	}
	if len(n.w.net) != 0 {
		t.Fatalf("%d answers before the sync", len(n.w.net))
	}
	n.sync(len(n.log))
	if len(n.w.net) != 2 {
		t.Fatalf("%d answers after it", len(n.w.net))
	}
}

// TestLease shows that a read is not given out after the lease term without asking Raft.
func TestLease(t *testing.T) {
	for mutant, confirms := range map[string]bool{"": true, "noleasecheck": false} {
		w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, mutant)
		w.drop, w.quiet, w.lease = 0, true, true
		w.heal()
		w.lease = false
		w.tick(time.Second)
		w.read(false)
		for range 20 {
			w.carry(nil)
		}
		if waits := len(w.ops) == 1 && len(w.metas) == 1 && w.metas[0].req.Change == nil; waits != confirms {
			t.Errorf("%q: %d operations, %d questions to Raft", mutant, len(w.ops), len(w.metas))
		}
		if !confirms {
			continue
		}
		w.change(w.truth.Acquire()) // meanwhile somebody else has the file
		w.meta(0, false)
		if w.fails[blocktree.Fenced] != 1 {
			t.Errorf("a read that ends under a later epoch: %v", w.fails)
		}
	}
}

// carry delivers everything once; deaf nodes learn nothing of Raft and hear nothing of the holder.
func (w *world) carry(deaf map[blocktree.NodeID]bool) {
	w.route()
	net := w.net
	w.net = nil
	for _, e := range net {
		if w.block != nil && !e.msg.Answer && w.block(e.msg) {
			continue
		}
		if !deaf[e.msg.Node] || e.from == -1 {
			w.deliver(e)
		}
	}
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		n.sync(len(n.log))
		if len(n.catchup) > 0 && !deaf[n.id] {
			w.catchUp(n)
		}
	}
}

// cutOff makes members of region 0 unreachable for the holder alone, and writes sector 0 without them.
func cutOff(mutant string, slots ...int) (w *world, old *Layout) {
	w = newWorld(blocktree.Code{Data: 1, Parity: 2}, 1, mutant)
	w.drop, w.quiet, w.lease = 0, true, true
	w.heal()
	old = w.truth
	deaf := map[blocktree.NodeID]bool{}
	for _, i := range slots {
		n := w.node(w.truth.View(0).Members[i].Node)
		deaf[n.id] = true
		w.with(w.hid, func(h *Holder) { h.NodeDown(n.id) })
	}
	w.writeAt(w.hid, w.h, 0, 0, 1)
	for range 30 {
		w.carry(deaf)
		for len(w.metas) > 0 {
			w.meta(0, false)
		}
		w.tick(20 * time.Millisecond)
	}
	return w, old
}

// TestQuorum shows why a leaseless read asks more than k members where k < m: one that was voted out and does not know
// it, asked by a reader that does not know it either, would give the old state.
func TestQuorum(t *testing.T) {
	for mutant, broken := range map[string]bool{"": false, "q-too-small": true} {
		w, old := cutOff(mutant, 0)
		if w.acked != 1 {
			t.Fatalf("%d writes acknowledged", w.acked)
		}
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 1, floor: []blocktree.Version{w.floor[0]}, reader: true}
		w.rd.Read(w.nextOp, old, 0, 0, 1)
		w.runReader()
		for range 10 {
			w.carry(nil)
		}
		if (len(w.errs) > 0) != broken {
			t.Errorf("%q: %v", mutant, w.errs)
		}
	}
}

// TestMinWrite shows that k+1 members must be in sync for a write where m is 2 or more.
func TestMinWrite(t *testing.T) {
	for mutant, acked := range map[string]int{"": 0, "nominwrite": 1} {
		if w, _ := cutOff(mutant, 0, 1); w.acked != acked {
			t.Errorf("%q: %d writes acknowledged", mutant, w.acked)
		}
	}
}

// TestViewIsKnownFirst shows that a write is not acknowledged in a view that those who remain do not know yet (I6).
func TestViewIsKnownFirst(t *testing.T) {
	for mutant, acked := range map[string]int{"": 0, "noviewack": 1} {
		w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, mutant)
		w.drop, w.quiet, w.lease = 0, true, true
		w.heal()
		x := w.node(w.truth.View(0).Members[0].Node)
		w.block = func(m *Message) bool { return m.Kind == KindLearn || m.Node == x.id }
		w.writeAt(w.hid, w.h, 0, 0, 1)
		w.carry(nil)
		w.with(w.hid, func(h *Holder) { h.NodeDown(x.id) })
		w.meta(0, false)
		for range 5 {
			w.carry(nil)
			w.tick(20 * time.Millisecond)
		}
		if w.acked != acked || w.truth.View(0).Count(InSync) != 2 {
			t.Errorf("%q: %d writes acknowledged in %v", mutant, w.acked, w.truth.View(0))
		}
	}
}

// TestPromotionWaits shows that a joiner is not counted in while every in-sync member holds a version that it does not: a
// reader may have returned it, and a take-over that asks the joiner too would void it.
func TestPromotionWaits(t *testing.T) {
	for mutant, promoted := range map[string]bool{"": false, "promoteblind": true} {
		w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, mutant)
		w.drop, w.quiet, w.lease = 0, true, true
		w.heal()
		x := w.node(w.truth.View(0).Members[2].Node)
		w.with(w.hid, func(h *Holder) { h.NodeDown(x.id) })
		w.meta(0, false)
		w.with(w.hid, func(h *Holder) { h.NodeUp(x.id, incarnation(x.id, x.inc)) })
		joining := func() bool { return w.truth.View(0).Count(Joining) == 1 }
		w.block = func(m *Message) bool { return m.Kind == KindPrepare && m.Node == x.id || m.Kind == KindDigest }
		for range 40 {
			w.carry(nil)
			for len(w.metas) > 0 {
				w.meta(0, false)
			}
			w.tick(20 * time.Millisecond)
			if joining() && len(w.ops) == 0 {
				w.writeAt(w.hid, w.h, 0, 0, 1) // reaches both that are in sync
			}
		}
		w.block = func(m *Message) bool { return m.Kind == KindPrepare && m.Node == x.id }
		w.with(w.hid, func(h *Holder) {
			for _, id := range w.truth.Hosts {
				h.NodeUp(id, incarnation(id, 1)) // the digest that was lost is asked for again
			}
		})
		for range 20 {
			w.carry(nil)
			for len(w.metas) > 0 {
				w.meta(0, false)
			}
			w.tick(10 * time.Millisecond)
		}
		if got := w.truth.View(0).Count(InSync) == 3; got != promoted || w.acked > 0 && !promoted {
			t.Errorf("%q: promoted %v, %d writes acknowledged, %v", mutant, got, w.acked, w.truth.View(0))
		}
	}
}

// TestFewerThanK shows that a read without enough members is an error.
func TestFewerThanK(t *testing.T) {
	w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, "")
	w.drop, w.quiet, w.lease = 0, true, true
	w.heal()
	for _, n := range w.nodes[1:] {
		n.crash()
		w.nodeDown(n)
	}
	w.read(false)
	w.read(true)
	for range 400 {
		w.carry(nil)
		for len(w.metas) > 0 {
			w.meta(0, false)
		}
		w.tick(50 * time.Millisecond)
	}
	if len(w.ops) != 0 || w.fails[blocktree.Unavailable] != 2 || len(w.errs) > 0 {
		t.Errorf("%d operations wait, failures %v, %v", len(w.ops), w.fails, w.errs)
	}
}

// TestDamageIsMended shows that a damaged shard is read from others and installed again.
func TestDamageIsMended(t *testing.T) {
	w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, "")
	w.drop, w.quiet, w.lease = 0, true, true
	w.heal()
	w.writeAt(w.hid, w.h, 0, 0, 4)
	w.heal()
	w.tick(100 * time.Millisecond)
	w.heal()
	n := w.node(w.truth.View(0).Members[0].Node)
	e := n.index[2]
	e.damaged = true
	n.index[2] = e
	w.nextOp++
	w.ops[w.nextOp] = &testOp{read: true, first: 1, count: 3, floor: make([]blocktree.Version, 3), holder: w.hid}
	w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 1, 3) })
	for range 50 {
		w.carry(nil)
	}
	if len(w.ops) > 0 || len(w.errs) > 0 || n.index[2].damaged || w.h.Stats().ShardsMended != 1 {
		t.Errorf("%d operations wait, %v, damaged %v, %+v", len(w.ops), w.errs, n.index[2].damaged, w.h.Stats())
	}
	w.nextOp++
	w.ops[w.nextOp] = &testOp{holder: w.hid}
	w.with(w.hid, func(h *Holder) { h.Repair(w.nextOp, 0, 0, 4, blocktree.Version{Epoch: 1, Sequence: 1}, 1) })
	w.heal()
	if len(w.ops) > 0 || w.h.Stats().ShardsMended != 2 {
		t.Errorf("repair on demand: %d operations wait, %+v", len(w.ops), w.h.Stats())
	}
}

// TestSameInputsSameOutputs runs one history twice.
func TestSameInputsSameOutputs(t *testing.T) {
	for seed := uint64(1); seed < 20; seed++ {
		var states [2]string
		for i := range states {
			w := newWorld(blocktree.Code{Data: 2, Parity: 2}, seed, "")
			w.run(1200)
			for _, n := range w.nodes {
				states[i] += string(n.m.Snapshot())
			}
			states[i] += fmt.Sprint(*w.truth) // maps are printed in order
		}
		if states[0] != states[1] {
			t.Fatalf("seed %d gives two histories", seed)
		}
	}
}

// TestGoodOneStaysBesideSilentOne: where all come back at once, one is called down while nothing is known yet of another, which turns out to have
// lost its disk: the first one is in sync still, and the only other one of k. If the other is what it was, the first is voted out.
func TestGoodOneStaysBesideSilentOne(t *testing.T) {
	for _, c := range []struct {
		mutant string
		wiped  bool
		out    int // place of who is voted out
	}{{"", true, 1}, {"", false, 0}, {"removeblind", true, 0}} {
		w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, c.mutant)
		w.drop, w.quiet, w.lease = 0, true, true
		w.heal()
		view := w.truth.View(0).Members
		good, other := view[0].Node, w.node(view[1].Node)
		w.with(w.hid, func(h *Holder) { h.NodeSilent(good); h.NodeSilent(other.id); h.NodeDown(good) })
		w.turns(1, time.Millisecond)
		if early := w.truth.View(0).Members[0].State != InSync; early != (c.mutant != "") {
			t.Errorf("mutant %q: voted out before the others are known to live: %v", c.mutant, early)
		}
		inc := other.inc
		if c.wiped {
			inc++
		}
		w.with(w.hid, func(h *Holder) { h.NodeUp(other.id, incarnation(other.id, inc)) })
		w.turns(2, time.Millisecond)
		for i, m := range w.truth.View(0).Members {
			if (m.State == InSync) != (i != c.out) {
				t.Errorf("mutant %q, wiped %v: %+v", c.mutant, c.wiped, w.truth.View(0))
			}
		}
	}
}

// TestRemovalOfManyRegions: whether those that remain are known to live takes no look at each region of a large file, with everything waiting.
func TestRemovalOfManyRegions(t *testing.T) {
	w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, "")
	w.drop, w.quiet, w.lease = 0, true, true
	w.heal()
	l := w.truth.clone()
	l.Sectors = l.RegionSectors << 16
	if n := testing.AllocsPerRun(1, func() {
		if !w.h.manned(l, l.Hosts[:1], nil) {
			t.Error("somebody is missing")
		}
	}); n > 100 {
		t.Errorf("%v allocations for %d regions", n, l.Regions())
	}
}

// TestFailingDiskStaysBesideSilentOne: a member whose disk failed has what it has acknowledged, perhaps, and stays as well while nothing is known of
// another one of k.
func TestFailingDiskStaysBesideSilentOne(t *testing.T) {
	for _, wiped := range []bool{true, false} {
		w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, "")
		w.drop, w.quiet, w.lease = 0, true, true
		w.heal()
		view := w.truth.View(0).Members
		failing, other := view[0].Node, w.node(view[1].Node)
		w.with(w.hid, func(h *Holder) {
			h.NodeSilent(other.id)
			h.peer(failing).gone = true
			h.considerRemoval()
		})
		w.turns(1, time.Millisecond)
		if w.truth.View(0).Members[0].State != InSync {
			t.Errorf("voted out before the others are known to live")
		}
		inc, out := other.inc, 0
		if wiped {
			inc, out = inc+1, 1
		}
		w.with(w.hid, func(h *Holder) { h.NodeUp(other.id, incarnation(other.id, inc)) })
		w.turns(2, time.Millisecond)
		for i, m := range w.truth.View(0).Members {
			if (m.State == InSync) != (i != out) {
				t.Errorf("wiped %v: %+v", wiped, w.truth.View(0))
			}
		}
	}
}

// TestRemovalBesideAnotherRegion: a member is voted out of its regions though in another one, which it has no place in, too few are known to live, or
// none can be voted out.
func TestRemovalBesideAnotherRegion(t *testing.T) {
	for _, before := range []string{"all up", "silent", "down", "too few left"} {
		l := placedLayout(t)
		l.Sectors = 2 * l.RegionSectors
		l.Own = map[blocktree.RegionIndex]View{}
		for r := range l.Regions() {
			v := View{ID: 1}
			for i := range blocktree.NodeID(3) {
				n := 3*blocktree.NodeID(r) + i + 1
				v.Members = append(v.Members, ViewMember{n, InSync})
				l.Incarnations[n] = incarnation(n, 1)
			}
			l.Own[r] = v
		}
		l.Hosts = []blocktree.NodeID{1, 2, 3, 4, 5, 6}
		h := NewHolder(HolderConfig{Layout: l.Acquire()}, 0)
		for _, n := range l.Hosts {
			h.NodeUp(n, incarnation(n, 1))
		}
		for _, n := range l.Hosts[:2] {
			switch before {
			case "silent":
				h.NodeSilent(n)
			case "down":
				h.NodeSilent(n)
				h.NodeSilent(3)
				h.NodeDown(n) // not to be voted out, as it may come back as it was
			}
		}
		if before == "too few left" {
			h.layout.Own[0].Members[2].State = Out
			h.NodeDown(1)
		}
		if m := h.Ready().Metas; len(m) > 0 {
			t.Errorf("%s: %+v", before, m[0].Change)
		}
		h.NodeDown(4)
		h.Tick(h.memberTimeout / 16)
		if m := h.Ready().Metas; len(m) != 1 || m[0].Change == nil || !slices.Equal(m[0].Change.Nodes, l.Hosts[3:4]) {
			t.Errorf("%s: %+v", before, m)
		}
	}
}

// TestTwoHangTogether: of two that are connected and do not answer none is voted out for the other's sake.
func TestTwoHangTogether(t *testing.T) {
	w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, "")
	w.drop, w.quiet, w.lease = 0, true, true
	w.heal()
	w.with(w.hid, func(h *Holder) {
		for _, m := range h.layout.View(0).Members[:2] {
			h.peer(m.Node).timedOut = true
		}
		h.considerRemoval()
		if h.changeID != 0 {
			t.Error("somebody is voted out")
		}
	})
}
