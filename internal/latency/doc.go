// Package latency counts how long things took, in fixed buckets from 50 µs to 10 s.
//
// What it refuses to be: a metrics library. It has no names, labels or output; internal/metrics gives it those. It has no lock either:
// a Histogram belongs to whoever guards it, and is copied as the value that it is.
//
// It imports the standard library only, and any package may import it.
package latency
