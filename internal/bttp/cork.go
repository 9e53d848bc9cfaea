package bttp

import (
	"sync"
	"sync/atomic"
)

// cork holds back writes on all lanes of an endpoint while somebody produces several messages in a row, so that each
// lane gets one write for all of them: a reader that handles what came with one read, or a caller of Endpoint.Cork.
type cork struct {
	count atomic.Int32 // how many will pull

	mu    sync.Mutex // taken with a lane's mu held, never the other way round
	lanes []*lane    // have something queued that is written at the next pull
	after []func()   // are called then
}

// push begins holding back.
func (c *cork) push() { c.count.Add(1) }

// holds reports whether the lane, which has something queued, is written at the next pull.
func (c *cork) holds(l *lane) bool {
	if c.count.Load() == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count.Load() == 0 {
		return false
	}
	if !l.held {
		l.held = true
		c.lanes = append(c.lanes, l)
	}
	return true
}

// later has f called at the next pull, once what is held back is written. It reports false, and does nothing, where nobody will pull.
func (c *cork) later(f func()) bool {
	if c.count.Load() == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count.Load() == 0 {
		return false
	}
	c.after = append(c.after, f)
	return true
}

// pull ends one push and writes all that is held back, also what others held: nothing waits longer than the shortest
// of the pushes that overlap.
func (c *cork) pull() {
	c.mu.Lock()
	c.count.Add(-1)
	var few [8]*lane
	lanes := append(few[:0], c.lanes...)
	clear(c.lanes)
	c.lanes = c.lanes[:0]
	for _, l := range lanes {
		l.held = false
	}
	var fewAfter [8]func()
	after := append(fewAfter[:0], c.after...)
	clear(c.after)
	c.after = c.after[:0]
	c.mu.Unlock()
	for _, l := range lanes {
		l.writeQueued()
	}
	for _, f := range after {
		f()
	}
}
