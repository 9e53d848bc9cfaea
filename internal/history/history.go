package history

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// Unknown is the return time of an operation whose outcome nobody learnt.
const Unknown = math.MaxInt64

// Op is one read or write of one register. Times are of any clock that all operations share and that never goes back.
type Op struct {
	Call, Ret int64
	Value     uint32 // 0 is "never written"; every write has its own
	Write     bool
}

// History is what the clients saw of one register, in any order.
type History []Op

// relevant drops writes of unknown outcome that nobody read: they may have happened after everything else. Those that were
// read end at the latest when the first read of them does.
func (h History) relevant() History {
	seen := make(map[uint32]int64, len(h)) // value: first return of a read of it
	for _, o := range h {
		if ret, ok := seen[o.Value]; !o.Write && (!ok || o.Ret < ret) {
			seen[o.Value] = o.Ret
		}
	}
	out := make(History, 0, len(h))
	for _, o := range h {
		if o.Write && o.Ret == Unknown {
			ret, ok := seen[o.Value]
			if !ok {
				continue
			}
			o.Ret = max(ret, o.Call)
		}
		out = append(out, o)
	}
	return out
}

// register is the sequential specification: a read returns what was last written.
func register() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return uint32(0) },
		Step: func(state, in, out any) (bool, any) {
			if v := in.(int64); v >= 0 {
				return true, uint32(v)
			}
			return out.(uint32) == state.(uint32), state
		},
		Equal: func(a, b any) bool { return a.(uint32) == b.(uint32) },
	}
}

// Linearizable asks porcupine, however long it takes.
func (h History) Linearizable() bool {
	ok, _ := h.LinearizableWithin(0)
	return ok
}

// LinearizableWithin asks porcupine for at most that long, or without end for 0; decided says whether that was enough.
func (h History) LinearizableWithin(timeout time.Duration) (ok, decided bool) {
	var ops []porcupine.Operation
	for i, o := range h.relevant() {
		p := porcupine.Operation{ClientId: i, Input: int64(-1), Output: o.Value, Call: o.Call, Return: o.Ret}
		if o.Write {
			p.Input = int64(o.Value)
		}
		ops = append(ops, p)
	}
	switch porcupine.CheckOperationsTimeout(register(), ops, timeout) {
	case porcupine.Ok:
		return true, true
	case porcupine.Illegal:
		return false, true
	}
	return false, false
}

// zone is a value with its write and reads: from the first return to the last call.
type zone struct {
	value              uint32
	read               bool
	firstRet, lastCall int64
	writeCall          int64
}

// zones puts every read to the write of its value; ok is false if there is none, or it came later. Writes of unknown outcome
// that nobody read are left out.
func (h History) zones() (list []zone, ok bool) {
	list = append(list, zone{firstRet: -1, lastCall: -1, writeCall: -1}) // the initial state was written before all
	for _, o := range h {
		if o.Write {
			list = append(list, zone{value: o.Value, firstRet: o.Ret, lastCall: o.Call, writeCall: o.Call})
		}
	}
	slices.SortFunc(list, func(a, b zone) int { return cmp.Compare(a.value, b.value) })
	for _, o := range h {
		if o.Write {
			continue
		}
		i := sort.Search(len(list), func(i int) bool { return list[i].value >= o.Value })
		if i == len(list) || list[i].value != o.Value || o.Ret < list[i].writeCall {
			return nil, false
		}
		z := &list[i]
		z.read, z.firstRet, z.lastCall = true, min(z.firstRet, o.Ret), max(z.lastCall, o.Call)
	}
	return slices.DeleteFunc(list, func(z zone) bool { return !z.read && z.firstRet == Unknown }), true
}

// Atomic decides the same in time n log n, which unique values make possible (Gibbons and Korach, Testing shared
// memories, 1997). Zones where the return comes first (forward) are times at which the register surely had the value: they
// may not overlap; the others (backward) are a single moment that may not lie wholly inside a forward one.
func (h History) Atomic() bool {
	list, ok := h.zones()
	if !ok {
		return false
	}
	var forward []zone
	for _, z := range list {
		if z.firstRet < z.lastCall {
			forward = append(forward, z)
		}
	}
	slices.SortFunc(forward, func(a, b zone) int { return cmp.Compare(a.firstRet, b.firstRet) })
	for i := 1; i < len(forward); i++ {
		if forward[i].firstRet < forward[i-1].lastCall { // each ends before the next begins, so the one before is enough
			return false
		}
	}
	for _, z := range list {
		if z.firstRet < z.lastCall {
			continue
		}
		i := sort.Search(len(forward), func(i int) bool { return forward[i].firstRet >= z.lastCall })
		if i > 0 && z.firstRet < forward[i-1].lastCall {
			return false
		}
	}
	return true
}
