package latency

import "time"

// buckets are the upper bounds, each within its bucket, in steps of 1, 2 and 5. What took longer than the last is counted behind it.
var buckets = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
}

// Histogram counts durations. The zero value is empty and ready.
type Histogram struct {
	counts [len(buckets) + 1]uint64 // not cumulative
	sum    time.Duration
}

// Observe counts one duration; a negative one, of a clock that was set back, as zero. It allocates nothing.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	i := 0
	for i < len(buckets) && d > buckets[i] {
		i++
	}
	h.counts[i]++
	h.sum += d
}

// Add adds what another one has counted.
func (h *Histogram) Add(o *Histogram) {
	for i := range h.counts {
		h.counts[i] += o.counts[i]
	}
	h.sum += o.sum
}

// Count is how many durations were counted.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.counts {
		n += c
	}
	return n
}

// Sum is how long all of them took together.
func (h *Histogram) Sum() time.Duration { return h.sum }

// Cumulative returns, for each bound in seconds, how many durations were no longer. The map is the caller's.
func (h *Histogram) Cumulative() map[float64]uint64 {
	m := make(map[float64]uint64, len(buckets))
	n := uint64(0)
	for i, b := range buckets {
		n += h.counts[i]
		m[b.Seconds()] = n
	}
	return m
}
