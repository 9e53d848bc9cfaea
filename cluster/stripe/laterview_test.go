package stripe

import (
	"slices"
	"testing"
	"time"

	"blocktree"
)

// TestTakeOverOfALaterView: a member that has answered the fence and then left the view, of which the holder does not know yet, has no say in what becomes void:
// the others told a reader under the newer view, before they were fenced, that all hold it. Where nothing would be void Raft is not asked.
func TestTakeOverOfALaterView(t *testing.T) {
	for _, x := range []struct {
		denies, gone bool
		mutant       string
		winners      int
	}{{false, false, "", 1}, {true, false, "", 0}, {true, true, "", 1}, {true, true, "decideunsure", 0}} {
		first := testLayout(blocktree.Code{Data: 1, Parity: 2}).Acquire()
		l := first.Acquire()
		h := NewHolder(HolderConfig{Layout: l, Mutant: x.mutant}, 0)
		var fences, repairs []*Message
		var metas []MetaRequest
		drain := func() {
			rd := h.Ready()
			metas = append(metas, rd.Metas...)
			for _, m := range rd.Messages {
				switch m.Kind {
				case KindFence:
					fences = append(fences, m)
				case KindRepair:
					repairs = append(repairs, m)
				}
			}
		}
		for _, n := range l.Hosts {
			h.NodeUp(n, l.Incarnations[n])
		}
		drain()
		for i, m := range fences {
			a := &Message{Kind: KindFence, Answer: true, ID: m.ID, Node: m.Node, File: m.File, Epoch: m.Epoch, Seq: m.Seq, Last: true}
			if i > 0 || !x.denies {
				v := blocktree.Version{Epoch: first.Epoch, Sequence: 1}
				a.Regions = []RegionState{{Pending: []Extent{{Version: v, Count: 1, Kind: Data, Pending: true}}}}
			}
			h.Step(a)
		}
		drain()
		if wait := x.denies && x.mutant == ""; wait != (len(repairs) == 0) || wait != (len(metas) == 1) {
			t.Fatalf("%+v: %d repairs, %d questions to Raft after the fences", x, len(repairs), len(metas))
		}
		if len(metas) > 0 {
			newest := l
			if x.gone {
				var err error
				if newest, err = l.Apply(Change{File: l.File, Epoch: l.Epoch, Seq: l.Seq, Kind: ChangeRemove, Nodes: []blocktree.NodeID{fences[0].Node}}, nil); err != nil {
					t.Fatal(err)
				}
			}
			h.MetaDone(metas[0].ID, newest, blocktree.Other)
			drain()
		}
		if len(repairs) == 0 || len(repairs[0].Repairs) != 1 || len(repairs[0].Repairs[0].Winners) != x.winners {
			t.Errorf("%+v: repairs %+v", x, repairs)
		}
	}
}

// TestLateAnswerOfAnOldEpoch: what a later take-over has kept an honest member tells as committed to the holder before, if its answer comes late. It is not named, and the
// read does not do without it: the epoch is over. While it goes on that is a lie, and named.
func TestLateAnswerOfAnOldEpoch(t *testing.T) {
	for _, over := range []bool{true, false} {
		w := calm(blocktree.Code{Data: 2, Parity: 1})
		writeKind(w, 0, 4, true)
		w.turns(40, 20*time.Millisecond)
		w.block = func(m *Message) bool { return m.Kind == KindPrepare }
		w.with(w.hid, func(h *Holder) { w.writeAt(w.hid, h, 0, 0, 4) })
		v := blocktree.Version{Epoch: w.h.epoch, Sequence: w.h.region(0).seq}
		view := w.truth.View(0).Members
		w.lie = func(a *Message) {
			if a.Node == view[0].Node && a.Kind == KindRead && a.Want != WantExact {
				renumber(w, a, v)
			}
		}
		if over {
			w.change(w.truth.Acquire())
		}
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, first: 0, count: 4, holder: w.hid, floor: w.floors(4)}
		w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 4) })
		w.turns(20, 20*time.Millisecond)
		if over != (len(w.suspects) == 0) || w.fails[blocktree.Corrupt] > 0 || !over && w.suspects[0].Node != view[0].Node {
			t.Errorf("over %v: suspects %v, failures %v", over, w.suspects, w.fails)
		}
	}
}

// TestReadOfAllIsPartial: a read of every shard says that there may be more where a member has told that it holds what has to be fetched, and cannot be reached since, or does not
// give it any more, as it was overwritten.
func TestReadOfAllIsPartial(t *testing.T) {
	for _, x := range []struct{ away, overwritten bool }{{true, false}, {false, false}, {false, true}} {
		away, partial := x.away, x.away || x.overwritten
		l := testLayout(blocktree.Code{Data: 2, Parity: 1}).Acquire()
		r := NewReader(ReaderConfig{}, 0)
		for _, n := range l.Hosts {
			r.NodeUp(n, l.Incarnations[n])
		}
		v := blocktree.Version{Epoch: l.Epoch, Sequence: 1}
		answer := func(m *Message, x ...Extent) {
			a := *m
			a.Answer, a.Extents = true, x
			if len(x) > 0 && x[0].Kind == Data && m.Want != WantVersions {
				a.Payload, a.Seals = make([]byte, l.Code.ShardBytes(testSector)), make([]byte, SealBytes)
			}
			r.Step(&a)
		}
		committed := Extent{Count: 1, Version: v, Kind: Data}
		pending := committed
		pending.Pending = true
		r.ReadAll(1, l, 0, 0, 1, Care{})
		asked := r.Ready().Messages
		answer(asked[2], Extent{Count: 1}, pending)
		if away {
			r.NodeDown(asked[2].Node)
		}
		answer(asked[0], committed)
		answer(asked[1], committed)
		rd := r.Ready()
		if !away && len(rd.Messages) == 1 && len(rd.Done) == 0 {
			if x.overwritten {
				answer(rd.Messages[0])
			} else {
				answer(rd.Messages[0], committed)
			}
			rd = r.Ready()
		}
		if len(rd.Done) != 1 || rd.Done[0].Read == nil || rd.Done[0].Read.Partial != partial || len(rd.Done[0].Read.Pieces[0].Shards) != map[bool]int{true: 2, false: 3}[partial] {
			t.Errorf("%+v: %+v", x, rd.Done)
		}
	}
}

// TestOutvotedNamesNobody: with k = 1 a version that one member alone has is read of it, and those that do not know of it are not named: it may be the one that lies.
func TestOutvotedNamesNobody(t *testing.T) {
	w := calm(blocktree.Code{Data: 1, Parity: 2})
	writeKind(w, 0, 4, false)
	w.turns(40, 20*time.Millisecond)
	w.now = w.leaseTo
	w.acquire()
	w.turns(40, 20*time.Millisecond)
	liar := w.truth.View(0).Members[0].Node
	w.lie = func(a *Message) {
		if a.Node == liar && a.Kind == KindRead {
			renumber(w, a, higher(newestOf(w, a), 7))
		}
	}
	w.onDone = func(*testOp, Done) {}
	w.nextOp++
	w.ops[w.nextOp] = &testOp{read: true, first: 0, count: 4, holder: w.hid, reader: true, floor: w.floors(4)}
	w.rd.ReadAll(w.nextOp, w.truth, 0, 0, 4, Care{})
	w.runReader()
	w.turns(20, 20*time.Millisecond)
	for _, s := range w.suspects {
		if s.Node != liar {
			t.Errorf("%+v is named", s)
		}
	}
}

// TestOutvotedByWhoLacks: who has not said yet what it has, and has not got the version when it is asked for that, denies it, too: one member alone has it, a liar perhaps that kept what was void, and nobody is
// named for lacking it.
func TestOutvotedByWhoLacks(t *testing.T) {
	code := blocktree.Code{Data: 1, Parity: 2}
	l := testLayout(code)
	for range 3 {
		l = l.Acquire()
	}
	r := NewReader(ReaderConfig{}, 0)
	for _, n := range l.Hosts {
		r.NodeUp(n, l.Incarnations[n])
	}
	alone, silent, old := l.Hosts[0], l.Hosts[1], blocktree.Version{Epoch: l.Epoch - 1, Sequence: 1}
	r.ReadAll(1, l, 0, 0, 1, Care{})
	now, ended, exact := time.Duration(0), false, 0
	for range 100 {
		rd := r.Ready()
		ended = ended || len(rd.Done) > 0
		for _, x := range rd.Suspects {
			t.Errorf("%+v is named", x)
		}
		for _, m := range slices.Clone(rd.Messages) {
			a := *m
			a.Answer = true
			switch {
			case m.Node == alone:
				a.Extents = []Extent{{Count: 1, Version: old, Kind: Data}}
				a.Payload, a.Seals = make([]byte, code.ShardBytes(testSector)), make([]byte, SealBytes)
			case m.Want == WantExact:
				exact++
			case m.Node == silent:
				continue
			default:
				a.Extents = []Extent{{Count: 1}}
			}
			r.Step(&a)
		}
		now += 20 * time.Millisecond
		r.Tick(now)
	}
	if !ended || exact == 0 {
		t.Errorf("ended %v, %d were asked for the version", ended, exact)
	}
}

// floors is what a read of the first n sectors may not be older than.
func (w *world) floors(n int) (out []blocktree.Version) {
	for s := range n {
		out = append(out, w.floor[blocktree.SectorIndex(s)])
	}
	return out
}
