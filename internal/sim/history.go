package sim

import (
	"math"
	"slices"

	"github.com/anishathalye/porcupine"
)

// unknown is the return time of an operation whose outcome nobody learnt.
const unknown = math.MaxInt64

// histOp is one read or write of one sector; times are ticks of World.clock, which never stands still.
type histOp struct {
	call, ret int64
	value     uint32 // 0 is "never written"; every write has its own
	write     bool
}

// history is what the clients saw of one sector.
type history []histOp

// relevant drops writes of unknown outcome that nobody read: they may have happened after everything else.
func (h history) relevant() history {
	out := make(history, 0, len(h))
	for _, o := range h {
		if o.write && o.ret == unknown && !slices.ContainsFunc(h, func(p histOp) bool { return !p.write && p.value == o.value }) {
			continue
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

// linearizable asks porcupine.
func (h history) linearizable() bool {
	ops := make([]porcupine.Operation, 0, len(h))
	end := int64(0)
	for _, o := range h {
		end = max(end, o.call)
		if o.ret != unknown {
			end = max(end, o.ret)
		}
	}
	for i, o := range h.relevant() {
		p := porcupine.Operation{ClientId: i, Input: int64(-1), Output: o.value, Call: o.call, Return: o.ret}
		if o.write {
			p.Input = int64(o.value)
		}
		if o.ret == unknown {
			p.Return = end + 1
		}
		ops = append(ops, p)
	}
	return porcupine.CheckOperations(register(), ops)
}

// atomic decides the same in time n log n, which unique values make possible (Gibbons and Korach, Testing shared
// memories, 1997): each value with its write and reads is a zone, from the first return to the last call. Zones where
// the return comes first (forward) are times at which the register surely had the value: they may not overlap; the
// others (backward) are a single moment that may not lie wholly inside a forward one.
func (h history) atomic() bool {
	type zone struct {
		value              uint32
		firstRet, lastCall int64
		writeCall          int64
	}
	zones := []zone{{value: 0, firstRet: -1, lastCall: -1, writeCall: -1}} // the initial state was written before all
	at := func(v uint32) *zone {
		for i := range zones {
			if zones[i].value == v {
				return &zones[i]
			}
		}
		return nil
	}
	r := h.relevant()
	for _, o := range r {
		if o.write {
			zones = append(zones, zone{value: o.value, firstRet: o.ret, lastCall: o.call, writeCall: o.call})
		}
	}
	for _, o := range r {
		if o.write {
			continue
		}
		z := at(o.value)
		if z == nil || o.ret < z.writeCall {
			return false // read what was never written, or before it was
		}
		z.firstRet, z.lastCall = min(z.firstRet, o.ret), max(z.lastCall, o.call)
	}
	for i, a := range zones {
		if a.firstRet >= a.lastCall {
			continue
		}
		for j, b := range zones {
			if i == j {
				continue
			}
			lo, hi := min(b.firstRet, b.lastCall), max(b.firstRet, b.lastCall)
			if b.firstRet < b.lastCall {
				if a.firstRet < hi && lo < a.lastCall {
					return false
				}
			} else if a.firstRet < lo && hi < a.lastCall {
				return false
			}
		}
	}
	return true
}
