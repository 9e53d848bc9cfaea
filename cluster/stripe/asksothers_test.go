package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestReadAsksWhoHasNotFailed: two members of which each says that it cannot answer, as long as it is asked (they had said that they took a repair, and had not), do
// not keep a holder from asking the others, however many Ticks there are between a question and its answer. Nor do they where a version that is in flight is fetched.
func TestReadAsksWhoHasNotFailed(t *testing.T) {
	for _, x := range []struct {
		mutant         string
		exact, answers bool
	}{{"", false, true}, {"", true, true}, {"askagain", false, false}, {"askagain", true, false}} {
		w := calm(blocktree.Code{Data: 4, Parity: 2})
		if x.exact { // what is acknowledged is in flight to the members until it is stable (0014)
			w.truth.Durability = DurabilityFlush
			w.now, w.lease = w.leaseTo, false
			w.acquire()
			w.lease = true
			w.turns(20, 20*time.Millisecond)
		}
		w.h.mut = parseMutant(x.mutant)
		writeKind(w, 0, 4, false)
		view := w.truth.View(0).Members
		asked := map[blocktree.NodeID]int{view[1].Node: 0, view[2].Node: 0}
		w.lie = func(a *Message) {
			if _, ok := asked[a.Node]; ok && x.exact == (a.Want == WantExact) {
				asked[a.Node]++
				a.Err, a.Extents, a.Payload, a.Seals = blocktree.Recovering, nil, nil, nil
			}
		}
		before := w.readsOK
		w.nextOp++
		w.ops[w.nextOp] = &testOp{read: true, count: 4, holder: w.hid, floor: w.floors(4)}
		w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 4) })
		w.turns(60, 20*time.Millisecond)
		if (w.readsOK > before) != x.answers || len(w.errs) > 0 {
			t.Errorf("%+v: %d reads done, failures %v, %v", x, w.readsOK-before, w.fails, w.errs)
		}
		for n, times := range asked {
			if times == 0 || x.answers && times > 2 {
				t.Errorf("%+v: node %v was asked %d times", x, n, times)
			}
		}
	}
}
