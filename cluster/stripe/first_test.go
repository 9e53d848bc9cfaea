package stripe

import (
	"testing"

	"blocktree"
)

// TestFirstHolder: H3 of 0067. Who holds a file for which it was made writes at once; what it wrote is found by who takes over, who asks all members before, whatever it is told.
func TestFirstHolder(t *testing.T) {
	kinds := func(h *Holder) (fences, prepares int) {
		h.Write(1, &Write{Kind: RecordZero, Count: 1, Version: h.Begin(0)})
		for _, m := range h.Ready().Messages {
			switch m.Kind {
			case KindFence:
				fences++
			case KindPrepare:
				prepares++
			}
		}
		return fences, prepares
	}
	l := testLayout(blocktree.Code{Data: 2, Parity: 1}).Acquire()
	for _, x := range []struct {
		name             string
		l                *Layout
		first            bool
		fences, prepares int
	}{{"made for it", l, true, 0, 3}, {"not known to be", l, false, 3, 0}, {"held before", l.Acquire(), true, 3, 0}} {
		h := NewHolder(HolderConfig{Layout: x.l, First: x.first}, 0)
		for _, n := range x.l.Hosts {
			h.NodeUp(n, x.l.Incarnations[n])
		}
		if f, p := kinds(h); f != x.fences || p != x.prepares {
			t.Errorf("%s: %d fences, %d writes are sent, not %d and %d", x.name, f, p, x.fences, x.prepares)
		}
	}
}
