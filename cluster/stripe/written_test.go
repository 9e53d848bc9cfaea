package stripe

import (
	"testing"

	"blocktree"
)

// TestWrittenBefore: R1 of 0075. A holder knows under which epoch the file was last written before: a take-over that wrote nothing hides nothing, and what may be hidden counts as written.
func TestWrittenBefore(t *testing.T) {
	v := func(e blocktree.Epoch, s blocktree.Sequence) blocktree.Version {
		return blocktree.Version{Epoch: e, Sequence: s}
	}
	pending := func(of ...blocktree.Version) (out []Extent) {
		for _, x := range of {
			out = append(out, Extent{Count: 1, Version: x, Kind: Zero, Pending: true})
		}
		return out
	}
	for _, x := range []struct {
		name   string
		states [3][]RegionState // of each member
		want   blocktree.Epoch
	}{
		{"nothing", [3][]RegionState{}, 0},
		{"settled", [3][]RegionState{{{Watermark: v(3, 7)}}, {{Watermark: v(3, 7)}}, {{Watermark: v(3, 7)}}}, 3},
		{"in flight at one", [3][]RegionState{{{Watermark: v(3, 7), Pending: pending(v(4, 1))}}, {{Watermark: v(3, 7)}}, {}}, 4},
		{"in another region", [3][]RegionState{{}, {{Watermark: v(2, 1)}, {Region: 1, Watermark: v(5, 2)}}, {}}, 5},
		{"a take-over that wrote nothing", [3][]RegionState{{{Watermark: v(4, 0)}}, {{Watermark: v(4, 0)}}, {{Watermark: v(4, 0)}}}, 3},
		{"two of them may hide a write", [3][]RegionState{{{Watermark: v(5, 0)}}, {{Watermark: v(5, 0)}}, {{Watermark: v(5, 0)}}}, 4},
	} {
		l := testLayout(blocktree.Code{Data: 2, Parity: 1})
		for l.Epoch < 7 {
			l = l.Acquire()
		}
		h := NewHolder(HolderConfig{Layout: l}, 0)
		for _, n := range l.Hosts {
			h.NodeUp(n, l.Incarnations[n])
		}
		for i, m := range h.Ready().Messages {
			a := *m
			a.Answer, a.Last, a.Regions = true, true, x.states[i]
			h.Step(&a)
		}
		for _, q := range h.Ready().Metas { // of what is in flight at some only
			h.MetaDone(q.ID, l, blocktree.Other)
		}
		if h.phase == fencing {
			t.Errorf("%s: it is not decided", x.name)
		}
		if got := h.Written(); got != x.want {
			t.Errorf("%s: written under %d, not %d", x.name, got, x.want)
		}
	}
}

// checkWritten demands that a holder that has taken over knows of what was acknowledged before (R1 of 0075).
func (w *world) checkWritten() {
	for _, e := range w.wrote {
		if w.h.Recovered() && e < w.h.epoch && w.h.Written() < e {
			w.bad("under epoch %d a write was acknowledged, under %d it is not known", e, w.h.epoch)
		}
	}
}
