package nbd

import (
	"errors"
	"sync"
	"sync/atomic"
)

// errGivenUp is the outcome of a request whose client is gone.
var errGivenUp = errors.New("given up")

// startState says who may end a started request: the device, or the connection that gives it up.
type startState struct{ atomic.Int32 }

const (
	startOpen    = iota // the device may claim it, the connection may give it up
	startClaimed        // the device fills the buffer and ends it
	startGivenUp        // the connection has answered it; the device still knows it
)

// started are the requests of a connection that no goroutine waits for, so that those can be given up that no one awaits any
// more: a member that does not answer must not hold the memory of a client that left. A WRITE that is given up goes on.
type started struct {
	mu    sync.Mutex
	first *request // linked by startedLinks
	cut   bool     // nothing is started any more
}

// startedLinks are a request's place among the started ones. They are guarded by started.mu.
type startedLinks struct {
	next, prev *request
	listed     bool
}

func (s *started) add(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return false
	}
	r.links = startedLinks{next: s.first, listed: true}
	if s.first != nil {
		s.first.links.prev = r
	}
	s.first = r
	return true
}

// remove reports whether r was there.
func (s *started) remove(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unlink(r)
}

// unlink is remove with s.mu held.
func (s *started) unlink(r *request) bool {
	if !r.links.listed {
		return false
	}
	if r.links.prev != nil {
		r.links.prev.links.next = r.links.next
	} else {
		s.first = r.links.next
	}
	if r.links.next != nil {
		r.links.next.links.prev = r.links.prev
	}
	r.links = startedLinks{}
	return true
}

// start serves a READ or WRITE without a goroutine, where the device can. False: nothing happened.
func (c *conn) start(r *request) bool {
	switch {
	case r.command == cmdRead:
		return c.startRead(r)
	case r.command != cmdWrite || r.flags&cmdFlagFUA != 0:
		return false
	}
	buf := r.buf
	r.buf = nil // giving the request up must not free what is being written
	if !c.startWrite(r, buf.B) {
		r.buf = buf
		return false
	}
	buf.Release()
	return true
}

// startRead is start for a READ.
func (c *conn) startRead(r *request) bool {
	data := r.data() // taken here: from add on, the READ may be given up, and its buffer be another request's
	c.workers.Add(1)
	if !c.started.add(r) {
		c.workers.Done()
		return false
	}
	if c.dev.StartRead(data, r.offset, r) || !c.started.remove(r) { // not there: given up meanwhile, and answered
		return true
	}
	c.workers.Done()
	return false
}

// startWrite is start for a WRITE without FUA, of a payload that is not used any more when it returns. The request has no buffer.
func (c *conn) startWrite(r *request, payload []byte) bool {
	c.workers.Add(1)
	if !c.started.add(r) {
		c.workers.Done()
		return false
	}
	if c.dev.StartWrite(payload, r.offset, r) || !c.started.remove(r) {
		return true
	}
	c.workers.Done()
	return false
}

// Claim implements blocktree.Started.
func (r *request) Claim() bool { return r.started.CompareAndSwap(startOpen, startClaimed) }

// End implements blocktree.Started: it runs where the last answer came in, and does not block.
func (r *request) End(err error) {
	c := r.c
	defer c.workers.Done()
	c.started.remove(r)
	for q := r; q != nil; {
		behind := q.behind // once its reply is ready, it may be gone
		q.behind = nil
		q.end(err)
		c.out.put(q)
		q = behind
	}
	c.out.flushSoon()
}

// giveUp ends every started request that the device has not claimed, and lets no more be started. The replies are dropped: it is
// called when the client is gone.
func (s *started) giveUp() {
	s.mu.Lock()
	s.cut = true
	var open []*request
	for r := s.first; r != nil; {
		next := r.links.next
		if r.started.CompareAndSwap(startOpen, startGivenUp) {
			s.unlink(r)
			open = append(open, r)
		}
		r = next
	}
	s.mu.Unlock()
	for _, r := range open {
		c := r.c
		for q := r; q != nil; {
			behind := q.behind
			q.behind = nil
			q.finish(nbdEIO, errGivenUp)
			q.outcome = OutcomeGone
			c.out.put(q)
			q = behind
		}
		c.out.flushSoon()
		c.workers.Done()
	}
}
