package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// What internal/sim has found, as small as it gets.

// A record that finds no space takes back every answer that spoke of it: duplicates that wait for a later promise, a fence
// that listed it, an abort that said it is held.
func TestNoSpaceTakesBackAnswers(t *testing.T) {
	n, l := one(t, "")
	first := n.prepare(l, 1, 50)
	again := n.prepare(l, 2, 50)
	n.m.Step(first)
	later := l.Mark(l.Hosts[len(l.Hosts)-1])
	if later.Marked[n.id] {
		later = l.Mark(l.Hosts[0])
	}
	n.m.Learn(later)
	n.m.Step(again) // hands out the promise to know the newer layout
	inc := incarnation(n.id, n.inc)
	n.m.Step(&Message{Kind: KindFence, ID: 3, Node: n.id, File: l.File, Epoch: l.Epoch, Seq: later.Seq, Incarnation: inc})
	n.m.Step(&Message{Kind: KindAbort, ID: 4, Node: n.id, File: l.File, Epoch: l.Epoch, View: l.View(0).ID, Incarnation: inc, Version: first.Version})
	r := n.m.Ready()
	var noSpace []int
	for i, rec := range r.Records {
		if rec.Kind != RecordControl {
			noSpace = append(noSpace, i)
		}
	}
	if len(noSpace) != 1 || len(r.Answers) > 0 {
		t.Fatalf("%d data records, %d answers before anything is durable", len(noSpace), len(r.Answers))
	}
	n.m.Located(make([]Ref, len(r.Records)), noSpace)
	n.m.Durable(n.m.handed - uint64(len(n.m.Ready().Records)))
	want := map[uint64]blocktree.Kind{1: blocktree.NoSpace, 2: blocktree.NoSpace, 3: blocktree.Busy, 4: blocktree.Busy}
	for _, a := range n.m.Ready().Answers {
		if a.Err != want[a.ID] || a.Held || len(a.Regions) > 0 {
			t.Errorf("request %d is answered %v (held %v, %d regions), not %v", a.ID, a.Err, a.Held, len(a.Regions), want[a.ID])
		}
		delete(want, a.ID)
	}
	if len(want) > 0 {
		t.Errorf("not answered: %v", want)
	}
}

// Holders of one process number their messages alike: a late answer to an earlier one is not for the next.
func TestAnswersOfAnEarlierEpoch(t *testing.T) {
	_, l := one(t, "")
	h := NewHolder(HolderConfig{Layout: l.Acquire()}, 0)
	for _, n := range l.Hosts {
		h.NodeUp(n, l.Incarnations[n])
	}
	for _, m := range h.Ready().Messages {
		if m.Kind != KindFence {
			continue
		}
		a := &Message{Kind: KindFence, Answer: true, ID: m.ID, Node: m.Node, File: m.File, Epoch: l.Epoch, Seq: m.Seq, Last: true}
		h.Step(a)
		if h.peer(m.Node).fenceDone {
			t.Fatalf("the answer of epoch %d is taken under epoch %d", a.Epoch, m.Epoch)
		}
		other := *a
		other.Epoch, other.File.Inode = m.Epoch, a.File.Inode+1
		h.Step(&other)
		if h.peer(m.Node).fenceDone {
			t.Fatal("the answer for another file is taken")
		}
		good := *a
		good.Epoch = m.Epoch
		if h.Step(&good); !h.peer(m.Node).fenceDone {
			t.Fatal("the right answer is refused")
		}
	}
}

// Three members that had no space for a write, and then had stored a late copy of it, are asked one after the other: none of them is forgotten when the one before has said that it holds it.
func TestAllWithoutSpaceAreAsked(t *testing.T) {
	w := calm(blocktree.Code{Data: 4, Parity: 2})
	said := map[blocktree.NodeID]bool{}
	for _, m := range w.truth.View(0).Members[:3] {
		said[m.Node] = false
	}
	before := w.acked
	w.writeAt(w.hid, w.h, 0, 0, 1)
	for range 20 {
		for _, e := range w.net {
			if had, ok := said[e.msg.Node]; ok && !had && e.msg.Answer && e.msg.Kind == KindPrepare {
				said[e.msg.Node], e.msg.Err = true, blocktree.NoSpace
			}
		}
		w.turns(1, 20*time.Millisecond)
	}
	if n := w.acked - before; n != 1 || len(w.errs) > 0 {
		t.Errorf("%v: %d writes acknowledged, failures %v, %v", said, n, w.fails, w.errs)
	}
}
