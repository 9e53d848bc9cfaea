package latency

import (
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{-time.Second, 0, 50 * time.Microsecond, 50*time.Microsecond + 1, time.Millisecond, 10 * time.Second, time.Minute} {
		h.Observe(d)
	}
	c := h.Cumulative()
	for bound, want := range map[float64]uint64{50e-6: 3, 100e-6: 4, 500e-6: 4, 1e-3: 5, 5: 5, 10: 6} {
		if c[bound] != want {
			t.Errorf("%v: %d, want %d", bound, c[bound], want)
		}
	}
	if len(c) != len(buckets) || h.Count() != 7 || h.Sum() != time.Minute+10*time.Second+time.Millisecond+100*time.Microsecond+1 {
		t.Errorf("%d buckets, %d counted, %v together", len(c), h.Count(), h.Sum())
	}
	var sum Histogram
	sum.Add(&h)
	sum.Add(&h)
	if sum.Count() != 14 || sum.Sum() != 2*h.Sum() || sum.Cumulative()[1e-3] != 10 {
		t.Errorf("added twice: %+v", sum)
	}
}

// TestBucketsAscend: a duration is in the first bucket that has room for it.
func TestBucketsAscend(t *testing.T) {
	for i := 1; i < len(buckets); i++ {
		if buckets[i] <= buckets[i-1] {
			t.Errorf("bucket %d is %v, after %v", i, buckets[i], buckets[i-1])
		}
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	for i := range b.N {
		h.Observe(time.Duration(i&15) * 100 * time.Microsecond)
	}
}

func ExampleHistogram() {
	var h Histogram
	h.Observe(120 * time.Microsecond)
	println(h.Count())
}
