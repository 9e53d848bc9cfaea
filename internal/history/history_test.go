package history

import (
	"math/rand/v2"
	"testing"
)

// randomHistory makes a small history in which reads return the current value of a register at some moment of theirs,
// or, if spoil, now and then another one.
func randomHistory(r *rand.Rand, spoil bool) History {
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
	h := make(History, n)
	seen := make([]bool, n)
	value, t := uint32(0), int64(0)
	for i := range h {
		h[i] = Op{Ret: Unknown, Write: r.IntN(2) == 0, Value: uint32(i + 1)}
	}
	for _, e := range events {
		t++
		o := &h[e.op]
		if !seen[e.op] {
			seen[e.op], o.Call = true, t
			if o.Write && r.IntN(2) == 0 {
				value = o.Value
			}
			if !o.Write {
				o.Value = value
			}
			continue
		}
		if o.Ret = t; o.Write && r.IntN(4) == 0 {
			o.Ret = Unknown
		} else if o.Write && value != o.Value && r.IntN(2) == 0 {
			value = o.Value
		}
		if !o.Write && spoil && r.IntN(4) == 0 {
			o.Value = uint32(r.IntN(n + 1))
		}
	}
	var out History
	for _, o := range h {
		if o.Write || o.Ret != Unknown {
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
		a, p := h.Atomic(), h.Linearizable()
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
	var hs []History
	for range 1000 {
		hs = append(hs, randomHistory(r, false))
	}
	b.Run("atomic", func(b *testing.B) {
		for i := range b.N {
			hs[i%1000].Atomic()
		}
	})
	b.Run("porcupine", func(b *testing.B) {
		for i := range b.N {
			hs[i%1000].Linearizable()
		}
	})
}
