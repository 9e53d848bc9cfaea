package cluster

import (
	"testing"
	"time"
)

// TestScrubYields: beside clients that keep a node busy a walk takes a quarter of its rate, for a day in all and no longer; beside few it takes all of it.
func TestScrubYields(t *testing.T) {
	const turn, took = 200 * time.Millisecond, 50 * time.Millisecond
	for _, x := range []struct {
		name   string
		served uint64
		within time.Duration
		want   time.Duration
	}{
		{"nobody is there", 0, turn, turn - took},
		{"a few requests", scrubBusy/5 - 1, turn, turn - took},
		{"many", scrubBusy / 5, turn, scrubYieldShare*turn - took},
		{"the first step, of which nobody knows what was before", 1, 0, turn - took},
	} {
		var y scrubYield
		if got := y.wait(turn, took, x.served, x.within); got != x.want {
			t.Errorf("%s: it waits for %v, want %v", x.name, got, x.want)
		}
	}
	var y scrubYield
	var waited time.Duration
	const turns = 1_000_000
	for range turns {
		waited += y.wait(turn, 0, 1<<20, turn)
	}
	if late := waited - turns*turn; late != scrubYieldMax {
		t.Errorf("under a load that never ends a walk is %v late, want %v", late, scrubYieldMax)
	}
	if got := y.wait(turn, took, 1<<20, turn); got != turn-took {
		t.Errorf("after that it still waits for %v, want %v", got, turn-took)
	}
}
