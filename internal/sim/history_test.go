package sim

import (
	"math/rand/v2"
	"testing"
)

// randomHistory makes a small history in which reads return the current value of a register at some moment of theirs,
// or, if spoil, now and then another one.
func randomHistory(r *rand.Rand, spoil bool) history {
	n := 2 + r.IntN(7)
	type event struct {
		op  int
		end bool
	}
	var events []event
	for i := range n {
		events = append(events, event{i, false}, event{i, true})
	}
	r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	h := make(history, n)
	seen := make([]bool, n)
	value, t := uint32(0), int64(0)
	for i := range h {
		h[i] = histOp{ret: unknown, write: r.IntN(2) == 0, value: uint32(i + 1)}
	}
	for _, e := range events {
		t++
		o := &h[e.op]
		if !seen[e.op] {
			seen[e.op], o.call = true, t
			if o.write && r.IntN(2) == 0 {
				value = o.value
			}
			if !o.write {
				o.value = value
			}
			continue
		}
		if o.ret = t; o.write && r.IntN(4) == 0 {
			o.ret = unknown
		} else if o.write && value != o.value && r.IntN(2) == 0 {
			value = o.value
		}
		if !o.write && spoil && r.IntN(4) == 0 {
			o.value = uint32(r.IntN(n + 1))
		}
	}
	var out history
	for _, o := range h {
		if o.write || o.ret != unknown {
			out = append(out, o)
		}
	}
	return out
}

// The quick decision and porcupine agree on histories of both sorts.
func TestAtomicAgreesWithPorcupine(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var yes, no int
	for range 20000 {
		h := randomHistory(r, r.IntN(2) == 0)
		a, p := h.atomic(), h.linearizable()
		if a != p {
			t.Fatalf("atomic says %v, porcupine %v: %+v", a, p, h)
		}
		if a {
			yes++
		} else {
			no++
		}
	}
	if yes < 2000 || no < 2000 {
		t.Fatalf("%d linearizable and %d other histories: the comparison is worth nothing", yes, no)
	}
}

func BenchmarkHistory(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	var hs []history
	for range 1000 {
		hs = append(hs, randomHistory(r, false))
	}
	b.Run("atomic", func(b *testing.B) {
		for i := range b.N {
			hs[i%1000].atomic()
		}
	})
	b.Run("porcupine", func(b *testing.B) {
		for i := range b.N {
			hs[i%1000].linearizable()
		}
	})
}
