package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestRepairEnds: the repair of a shard ends whatever becomes of its member, and asks nobody for ever.
func TestRepairEnds(t *testing.T) {
	for _, x := range []struct {
		name   string
		code   blocktree.Code
		before func(w *world, n *testNode) // the Repair
		after  func(w *world, n *testNode)
		want   blocktree.Kind
	}{
		{"out before", blocktree.Code{Data: 2, Parity: 1}, leave, nil, blocktree.StaleMember},
		{"out before, and back", blocktree.Code{Data: 2, Parity: 1}, leave, comeBack, blocktree.StaleMember},
		{"out while it is asked", blocktree.Code{Data: 2, Parity: 1}, deafToInstalls, leave, blocktree.StaleMember},
		{"out of this region alone", blocktree.Code{Data: 2, Parity: 1}, func(w *world, n *testNode) {
			leave(w, n)
			comeBack(w, n)
			w.h.joinDelay = 0
			for i := 0; i < 100 && w.truth.View(1).Members[slotOf(w, 1, n)].State == Out; i++ {
				w.h.joinAt = 1
				w.turns(1, 5*time.Millisecond)
			}
			w.h.joinDelay = time.Hour
			if w.truth.View(1).Members[slotOf(w, 1, n)].State == Out || w.truth.View(0).Members[1].State != Out {
				w.bad("the member is not where the test wants it")
			}
		}, nil, blocktree.StaleMember},
		{"silent, and cannot be removed", blocktree.Code{Data: 2, Parity: 0}, deafToInstalls, nil, blocktree.Unavailable},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := calm(x.code)
			w.writeAt(w.hid, w.h, 0, 0, 4)
			w.turns(20, 20*time.Millisecond)
			slot := blocktree.ShardIndex(1)
			n := w.node(w.truth.View(0).Members[slot].Node)
			w.h.joinDelay = time.Hour
			if x.before != nil {
				x.before(w, n)
			}
			w.repair(0, 4, slot)
			w.turns(3, 20*time.Millisecond)
			if x.after != nil {
				x.after(w, n)
			}
			w.turns(110, 100*time.Millisecond)
			if len(w.ops) > 0 || len(w.h.mending)+len(w.h.asked) > 0 || w.fails[x.want] != 1 {
				t.Errorf("%d operations wait, %d repairs in flight, failures %v", len(w.ops), len(w.h.mending), w.fails)
			}
			if len(w.errs) > 0 {
				t.Error(w.errs)
			}
			asked := w.metasIn(100)
			if asked > 0 {
				t.Errorf("Raft is asked %d times more", asked)
			}
		})
	}
}

// repair has a shard of a region's first sectors installed again. Where there are no k others to rebuild it from, the machine
// is given what a read would have found.
func (w *world) repair(first blocktree.SectorIndex, count uint32, slot blocktree.ShardIndex) {
	w.nextOp++
	op, v := w.nextOp, w.floor[first]
	w.ops[op] = &testOp{holder: w.hid}
	w.with(w.hid, func(h *Holder) {
		if w.codec.code.Parity > 0 {
			h.Repair(op, 0, first, count, v, slot)
			return
		}
		m := &mend{h: h, op: op, shard: slot, version: v, waited: true}
		h.asked = append(h.asked, m)
		c := w.codec.write(RecordData, 0, first, count, v)
		p := Piece{First: first, Count: count, Version: v, Kind: Data}
		for i := range c.Shards {
			p.Shards = append(p.Shards, ShardRun{Shard: blocktree.ShardIndex(i), Payload: c.Shards[i], Seals: c.Seals})
		}
		m.install(&read{region: 0}, p)
		m.end()
	})
}

// metasIn counts what Raft is asked in n ticks.
func (w *world) metasIn(n int) (asked int) {
	for range n {
		w.carry(nil)
		asked += len(w.metas)
		for len(w.metas) > 0 {
			w.meta(0, false)
		}
		w.tick(25 * time.Millisecond)
	}
	return asked
}

func slotOf(w *world, r blocktree.RegionIndex, n *testNode) blocktree.ShardIndex {
	slot, _ := w.truth.View(r).Shard(n.id)
	return slot
}

func leave(w *world, n *testNode) {
	w.with(w.hid, func(h *Holder) { h.NodeDown(n.id) })
	w.turns(10, 20*time.Millisecond)
}

func comeBack(w *world, n *testNode) {
	w.with(w.hid, func(h *Holder) { h.NodeUp(n.id, incarnation(n.id, n.inc)) })
}

func deafToInstalls(w *world, _ *testNode) {
	w.block = func(m *Message) bool { return m.Kind == KindInstall }
}
