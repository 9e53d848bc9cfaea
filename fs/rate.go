package fs

import (
	"sync"
	"time"
)

// bucket bounds how often something happens: per second, and at most one second's worth at once. The zero bucket is full.
type bucket struct {
	mu    sync.Mutex
	spent float64 // since the bucket was full
	at    time.Time
}

// take reports whether it may happen now, n times.
func (b *bucket) take(n, perSecond int, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent = max(0, b.spent-now.Sub(b.at).Seconds()*float64(perSecond))
	b.at = now
	if b.spent+float64(n) > float64(perSecond) {
		return false
	}
	b.spent += float64(n)
	return true
}
