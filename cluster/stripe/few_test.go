package stripe

import (
	"slices"
	"testing"
	"time"

	"blocktree"
)

// TestNewerInFlightIsNoExcuse: one member says that a version is committed, others have it in flight, and one that has not got it has a newer one in flight. That one denies it for all that: not
// everybody holds it, so it may be void yet, and a read without a lease waits until that is settled.
func TestNewerInFlightIsNoExcuse(t *testing.T) {
	for mutant, believed := range map[string]bool{"": false, "newerexcuses": true} {
		l := testLayout(blocktree.Code{Data: 2, Parity: 1}).Acquire()
		r := NewReader(ReaderConfig{Mutant: mutant}, 0)
		for _, n := range l.Hosts {
			r.NodeUp(n, l.Incarnations[n])
		}
		v := func(seq blocktree.Sequence) blocktree.Version {
			return blocktree.Version{Epoch: l.Epoch, Sequence: seq}
		}
		zero := func(seq blocktree.Sequence, pending bool) Extent {
			return Extent{Count: 1, Version: v(seq), Kind: Zero, Pending: pending}
		}
		said := map[blocktree.NodeID][]Extent{
			l.Hosts[0]: {zero(1, false)},
			l.Hosts[1]: {{Count: 1}, zero(1, true), zero(2, true)},
			l.Hosts[2]: {{Count: 1}, zero(2, true)},
		}
		r.Read(1, l, 0, 0, 1)
		now, got := time.Duration(0), []Done(nil)
		rounds := func(n int) {
			for range n {
				rd := r.Ready()
				got = append(got, rd.Done...)
				for _, m := range rd.Messages {
					a := *m
					a.Answer, a.Extents = true, said[m.Node]
					r.Step(&a)
				}
				now += 20 * time.Millisecond
				r.Tick(now)
			}
		}
		rounds(20)
		if (len(got) > 0) != believed {
			t.Fatalf("%q: %+v", mutant, got)
		}
		if believed {
			continue
		}
		for n := range said { // the write was completed
			said[n] = []Extent{zero(2, false)}
		}
		rounds(20)
		if len(got) != 1 || got[0].Err != blocktree.Other || got[0].Read.Pieces[0].Version != v(2) {
			t.Errorf("%+v", got)
		}
	}
}

// TestFewBesideARefusal: one member claims what all others deny, and one refuses whenever it is asked. The read does not wait for that one: the others are enough.
func TestFewBesideARefusal(t *testing.T) {
	for mutant, answers := range map[string]bool{"": true, "awaitrefusal": false} {
		w := calm(blocktree.Code{Data: 2, Parity: 3})
		writeKind(w, 0, 4, false)
		w.now, w.lease = w.leaseTo, false
		w.acquire()
		w.lease = true
		w.turns(20, 20*time.Millisecond)
		w.h.mut = parseMutant(mutant)
		view := w.truth.View(0).Members
		w.lie = func(a *Message) {
			switch a.Node {
			case view[0].Node:
				renumber(w, a, higher(newestOf(w, a), 1000))
			case view[1].Node:
				a.Err, a.Extents, a.Payload, a.Seals = blocktree.Busy, nil, nil, nil
			}
		}
		before := w.readsOK
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 4, holder: w.hid, floor: w.floors(4)}
		w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 4) })
		w.turns(60, 20*time.Millisecond)
		if (w.readsOK > before) != answers || len(w.errs) > 0 {
			t.Errorf("%q: %d reads done, failures %v, %v", mutant, w.readsOK-before, w.fails, w.errs)
		}
		for _, s := range w.suspects {
			if s.Node != view[0].Node {
				t.Errorf("%q: node %v is named: %v", mutant, s.Node, s.Kind)
			}
		}
	}
}

// TestFewDeniedBesideARefusal: one member says that a version is committed, another that it has not got it, and a third, which has it in flight, refuses the first question. Those that answer are
// not enough to deny it: the third is heard before the version is read, or it would be, of one liar's word, and be undone after that.
func TestFewDeniedBesideARefusal(t *testing.T) {
	for mutant, believed := range map[string]bool{"": false, "fetchrefused": true} {
		code := blocktree.Code{Data: 2, Parity: 1}
		l := testLayout(code).Acquire()
		r := NewReader(ReaderConfig{Mutant: mutant}, 0)
		for _, n := range l.Hosts {
			r.NodeUp(n, l.Incarnations[n])
		}
		v := func(seq blocktree.Sequence) blocktree.Version {
			return blocktree.Version{Epoch: l.Epoch, Sequence: seq}
		}
		has := func(v blocktree.Version, pending bool) Extent {
			return Extent{Count: 1, Version: v, Kind: Data, Pending: pending}
		}
		said := map[blocktree.NodeID][]Extent{l.Hosts[0]: {has(v(1), false)}, l.Hosts[1]: {{Count: 1}}, l.Hosts[2]: {{Count: 1}, has(v(1), true)}}
		refused := 0
		answer := func(m *Message) *Message {
			a := *m
			a.Answer, a.Extents = true, said[m.Node]
			switch x := a.Extents[len(a.Extents)-1]; {
			case m.Want != WantExact && m.Node == l.Hosts[2] && refused < 2:
				refused++
				a.Err, a.Extents = blocktree.Busy, nil
			case m.Want == WantExact && x.Version != m.Version:
				a.Extents = nil
			case m.Want == WantExact:
				a.Extents = []Extent{x}
				fallthrough
			case m.Want == WantShards && !x.Pending && x.Kind == Data:
				a.Payload, a.Seals = make([]byte, code.ShardBytes(testSector)), make([]byte, SealBytes)
			}
			return &a
		}
		r.Read(1, l, 0, 0, 1)
		now, got := time.Duration(0), []Done(nil)
		rounds := func(n int) {
			for range n {
				rd := r.Ready()
				got = append(got, rd.Done...)
				messages := slices.Clone(rd.Messages)
				for _, m := range messages { // all that it brings about comes before the next look
					r.Step(answer(m))
				}
				if len(messages) == 0 {
					now += time.Millisecond
					r.Tick(now)
				}
			}
		}
		rounds(30)
		if (len(got) > 0) != believed || refused == 0 {
			t.Fatalf("%q: %+v, refused %d times", mutant, got, refused)
		}
		if believed {
			continue
		}
		for n := range said { // the write was completed, and another
			said[n] = []Extent{has(v(2), false)}
		}
		rounds(30)
		if len(got) != 1 || got[0].Err != blocktree.Other || got[0].Read.Pieces[0].Version != v(2) {
			t.Errorf("%+v", got)
		}
	}
}

// TestFewNameNobody: with k = 1 one member alone may show what was cut off before its file grew again, and who asks only one other hears from that that it has nothing there. Nobody is named for lacking
// what no more members have than may lie. What more have is a write that the one without it has lost.
func TestFewNameNobody(t *testing.T) {
	for _, c := range []struct {
		data, parity, have, answer int
		named                      bool
		mutant                     string
	}{
		{1, 2, 1, 2, false, ""}, {1, 2, 1, 3, false, ""}, {1, 2, 2, 3, true, ""}, {1, 1, 1, 2, true, ""}, {2, 1, 2, 3, true, ""}, {2, 4, 2, 5, false, ""}, {2, 4, 3, 5, true, ""},
		{1, 3, 1, 3, false, ""}, {1, 3, 2, 3, true, ""}, {2, 3, 2, 3, false, ""}, {2, 2, 2, 3, true, ""},
		{1, 2, 1, 2, true, "fewaccuse"},
	} {
		code := blocktree.Code{Data: c.data, Parity: c.parity}
		l := testLayout(code)
		for range 3 {
			l = l.Acquire()
		}
		r := NewReader(ReaderConfig{Mutant: c.mutant}, 0)
		for _, n := range l.Hosts[:c.answer] {
			r.NodeUp(n, l.Incarnations[n])
		}
		old := blocktree.Version{Epoch: l.Epoch - 1, Sequence: 1}
		r.Read(1, l, 0, 0, 1)
		now, got, named := time.Duration(0), []Done(nil), []Suspect(nil)
		for range 100 {
			rd := r.Ready()
			got, named = append(got, rd.Done...), append(named, rd.Suspects...)
			for _, m := range slices.Clone(rd.Messages) {
				at := slices.Index(l.Hosts, m.Node)
				if at >= c.answer {
					continue
				}
				a := *m
				a.Answer = true
				switch {
				case at < c.have:
					a.Extents = []Extent{{Count: 1, Version: old, Kind: Data}}
					if m.Want != WantVersions {
						a.Payload, a.Seals = make([]byte, code.ShardBytes(testSector)), make([]byte, SealBytes)
					}
				case m.Want != WantExact:
					a.Extents = []Extent{{Count: 1}}
				}
				r.Step(&a)
			}
			now += 20 * time.Millisecond
			r.Tick(now)
		}
		if len(got) != 1 || got[0].Err != blocktree.Other || got[0].Read.Pieces[0].Version != old {
			t.Errorf("%+v: %+v", c, got)
		}
		lost := slices.ContainsFunc(named, func(s Suspect) bool { return s.Kind == SuspectLost && slices.Index(l.Hosts, s.Node) >= c.have })
		if lost != c.named || !c.named && len(named) > 0 {
			t.Errorf("%+v: %+v", c, named)
		}
	}
}

// TestFewTakenOfWhoHadItNot: one member says that a version is committed, the others have not got it when they are asked, and one of these has it in flight by the time the read fetches it. The read asks
// again before it goes by that, as whoever still has not got it may never: until the write is complete, or undone.
func TestFewTakenOfWhoHadItNot(t *testing.T) {
	for mutant, believed := range map[string]bool{"": false, "taketurned": true} {
		code := blocktree.Code{Data: 1, Parity: 2}
		l := testLayout(code).Acquire()
		r := NewReader(ReaderConfig{Mutant: mutant}, 0)
		for _, n := range l.Hosts {
			r.NodeUp(n, l.Incarnations[n])
		}
		has := func(seq blocktree.Sequence, pending bool) Extent {
			return Extent{Count: 1, Version: blocktree.Version{Epoch: l.Epoch, Sequence: seq}, Kind: Data, Pending: pending}
		}
		members := l.View(0).Members
		said := map[blocktree.NodeID][]Extent{members[0].Node: {{Count: 1}}, members[1].Node: {has(1, false)}, members[2].Node: {{Count: 1}}}
		asked := 0
		r.Read(1, l, 0, 0, 1)
		now, got := time.Duration(0), []Done(nil)
		rounds := func(n int) {
			for range n {
				rd := r.Ready()
				got = append(got, rd.Done...)
				for _, m := range slices.Clone(rd.Messages) {
					a := *m
					a.Answer = true
					if m.Want == WantExact { // it has come there meanwhile
						said[members[0].Node] = []Extent{{Count: 1}, has(1, true)}
					}
					a.Extents = said[m.Node]
					if x := a.Extents[len(a.Extents)-1]; m.Want == WantExact {
						asked++
						if a.Extents = nil; x.Version == m.Version {
							a.Extents = []Extent{x}
						}
					}
					if m.Want != WantVersions && len(a.Extents) > 0 && a.Extents[0].Kind == Data {
						a.Payload, a.Seals = make([]byte, code.ShardBytes(testSector)), make([]byte, SealBytes)
					}
					r.Step(&a)
				}
				now += 20 * time.Millisecond
				r.Tick(now)
			}
		}
		rounds(20)
		if (len(got) > 0) != believed || asked == 0 {
			t.Fatalf("%q: %+v, asked %d times", mutant, got, asked)
		}
		if believed {
			continue
		}
		for n := range said { // the write was completed, and another
			said[n] = []Extent{has(2, false)}
		}
		rounds(20)
		if len(got) != 1 || got[0].Err != blocktree.Other || got[0].Read.Pieces[0].Version != has(2, false).Version {
			t.Errorf("%+v", got)
		}
	}
}
