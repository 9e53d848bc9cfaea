package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestRacedReadNeedsNotAll: a read that begins again, as what members told of a sector was of before and after a write, needs no more members than
// one that does not: one that has died since holds it up for no longer. Nobody lies.
func TestRacedReadNeedsNotAll(t *testing.T) {
	for _, reader := range []bool{true, false} {
		w := calm(blocktree.Code{Data: 2, Parity: 1})
		writeKind(w, 0, 4, false)
		old := w.floor[0]
		writeKind(w, 0, 4, true)
		w.turns(40, 20*time.Millisecond)
		view := w.truth.View(0).Members
		early, dead := view[1].Node, w.node(view[2].Node)
		w.nodeDown(dead)
		dead.crash()
		w.with(w.hid, func(h *Holder) { h.NodeDown(dead.id) })
		w.rd.NodeDown(dead.id)
		asked := 0
		w.lie = func(a *Message) { // it has answered before the write came to it, the other one after it was acknowledged
			if a.Node == early && a.Want != WantExact {
				if asked++; asked == 1 {
					shard := w.codec.code.ShardBytes(testSector)
					a.Extents = []Extent{{First: a.First, Count: uint32(a.Count), Version: old, Kind: Data}}
					a.Payload, a.Seals = make([]byte, int(a.Count)*shard), make([]byte, int(a.Count)*SealBytes)
				}
			}
		}
		before := w.readsOK
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, first: 0, count: 4, holder: w.hid, reader: reader, floor: []blocktree.Version{w.floor[0], w.floor[1], w.floor[2], w.floor[3]}}
		if reader {
			w.rd.Read(w.nextOp, w.truth, 0, 0, 4)
			w.runReader()
		} else {
			w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 4) })
		}
		for range 4 {
			w.carry(nil)
		}
		if asked == 0 || w.readsOK != before+1 || len(w.errs) > 0 || len(w.suspects) > 0 {
			t.Errorf("reader=%v: %d questions, %d reads done, failures %v, suspects %v, %v", reader, asked, w.readsOK-before, w.fails, w.suspects, w.errs)
		}
	}
}

// TestLiarBesideOneThatIsAway: while a member lies and another one is away, nothing is believed; once that one is back the read goes on.
func TestLiarBesideOneThatIsAway(t *testing.T) {
	for _, lie := range []int{2, 3, 4, 5} { // versions that do not exist
		w := calm(blocktree.Code{Data: 2, Parity: 1})
		writeKind(w, 0, 4, true)
		w.turns(40, 20*time.Millisecond)
		view := w.truth.View(0).Members
		liar, away := view[0].Node, w.node(view[2].Node)
		w.lie = func(a *Message) {
			if a.Node == liar {
				lies[lie].lie(w, a)
			}
		}
		w.block = func(m *Message) bool { return m.Node == away.id && w.lie != nil }
		w.rd.NodeDown(away.id)
		before := w.readsOK
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, first: 0, count: 4, holder: w.hid, reader: true, floor: []blocktree.Version{w.floor[0], w.floor[1], w.floor[2], w.floor[3]}}
		w.rd.Read(w.nextOp, w.truth, 0, 0, 4)
		w.runReader()
		w.turns(20, 20*time.Millisecond)
		if w.readsOK != before || len(w.fails) > 0 || len(w.suspects) > 0 {
			t.Errorf("%s: %d reads done, failures %v, suspects %v while it is away", lies[lie].name, w.readsOK-before, w.fails, w.suspects)
		}
		w.block = nil
		w.nodeUp(away)
		w.turns(40, 20*time.Millisecond)
		if w.readsOK != before+1 || len(w.errs) > 0 || len(w.suspects) == 0 {
			t.Errorf("%s: %d reads done, failures %v, suspects %v, %v", lies[lie].name, w.readsOK-before, w.fails, w.suspects, w.errs)
		}
	}
}

// TestPatientReadWaits: a patient read of every shard ends once a member that is away has answered, or shortly before it would fail; another one ends at once,
// and tells that somebody is missing.
func TestPatientReadWaits(t *testing.T) {
	for _, x := range []struct{ patient, back bool }{{false, false}, {true, true}, {true, false}} {
		w := calm(blocktree.Code{Data: 2, Parity: 1})
		writeKind(w, 0, 4, false)
		w.turns(40, 20*time.Millisecond)
		away := w.node(w.truth.View(0).Members[2].Node)
		w.block = func(m *Message) bool { return m.Node == away.id && m.Kind == KindRead }
		w.rd.NodeDown(away.id)
		var res *ReadResult
		w.onDone = func(_ *testOp, d Done) { res = d.Read }
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, first: 0, count: 4, holder: w.hid, reader: true, floor: []blocktree.Version{w.floor[0], w.floor[1], w.floor[2], w.floor[3]}}
		w.rd.ReadAll(w.nextOp, w.truth, 0, 0, 4, Care{Patient: x.patient})
		w.runReader()
		w.turns(20, 20*time.Millisecond)
		if (res != nil) == x.patient {
			t.Errorf("%+v: ended %v while one is away", x, res != nil)
		}
		if x.back {
			w.block = nil
			w.nodeUp(away)
			w.turns(10, 20*time.Millisecond)
		} else {
			w.turns(int(blocktree.WriteStallTimeout/(100*time.Millisecond)), 100*time.Millisecond)
		}
		if res == nil || res.Partial == x.back || len(res.Pieces[0].Shards) != map[bool]int{false: 2, true: 3}[x.back] || len(w.errs) > 0 {
			t.Errorf("%+v: %+v, failures %v, %v", x, res, w.fails, w.errs)
		}
	}
}
