package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestCopyUpYields: a client that waits for each answer has nothing unfinished when a run of a copy-up ends; that it was served
// meanwhile makes the copy-up rest all the same, and go on at full speed when it is gone.
func TestCopyUpYields(t *testing.T) {
	w := calm(blocktree.Code{Data: 2, Parity: 1})
	w.writeAt(w.hid, w.h, 0, 0, 2)
	w.turns(20, 10*time.Millisecond)
	j := &join{h: w.h}
	for _, c := range []struct {
		reads  int
		each   time.Duration
		window int
		rests  bool
	}{
		{0, 0, installsMax, false},
		{foregroundMuch + 1, time.Millisecond, 1, true},
		{foregroundMuch, time.Millisecond, installsMax, false},
		{2 * foregroundMuch, foregroundApart / 2, installsMax, false}, // one in 20 ms: that leaves them time
	} {
		run := &copyRun{j: j, at: w.h.now, served: w.h.served()}
		for range c.reads {
			w.nextOp++
			w.ops[w.nextOp] = &testOp{read: true, count: 1, holder: w.hid, floor: []blocktree.Version{w.floor[0]}}
			w.with(w.hid, func(h *Holder) { h.Read(w.nextOp, 0, 0, 1) })
			w.turns(4, c.each)
		}
		w.turns(1, time.Millisecond)
		took := w.h.now - run.at
		j.rest = 0
		j.pause(run)
		if n := w.h.foreground(); n != 0 || len(w.ops) > 0 || len(w.errs) > 0 {
			t.Fatalf("%d operations in flight, %d wait, %v", n, len(w.ops), w.errs)
		}
		if window, rest := j.window(), max(0, j.rest-w.h.now); window != c.window || (rest > 0) != c.rests || rest > took {
			t.Errorf("%d reads in %v: %d runs in flight, after %v", c.reads, took, window, rest)
		}
	}
}
