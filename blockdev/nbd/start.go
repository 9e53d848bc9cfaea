package nbd

import (
	"errors"
	"sync"
	"sync/atomic"

	"blocktree"
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
	mu  sync.Mutex
	all map[*request]struct{}
	cut bool // nothing is started any more
}

func (s *started) add(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return false
	}
	if s.all == nil {
		s.all = make(map[*request]struct{}, blocktree.NBDRequestsPerConnectionMax)
	}
	s.all[r] = struct{}{}
	return true
}

// remove reports whether r was there.
func (s *started) remove(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.all[r]
	delete(s.all, r)
	return ok
}

// start serves a READ or WRITE without a goroutine, where the device can. False: nothing happened.
func (c *conn) start(r *request) bool {
	write := r.command == cmdWrite && r.flags&cmdFlagFUA == 0
	if r.command != cmdRead && !write {
		return false
	}
	buf := r.buf
	bytes := buf.B // taken here: from add on, a READ may be given up, and its buffer be another request's
	if write {
		r.buf = nil // giving the request up must not free what is being written
	}
	c.workers.Add(1)
	if !c.started.add(r) {
		c.workers.Done()
		r.buf = buf
		return false
	}
	switch {
	case write && c.dev.StartWrite(bytes, r.offset, r):
		buf.Release()
		return true
	case !write && c.dev.StartRead(bytes[c.agreed.style.room():], r.offset, r):
		return true
	case !c.started.remove(r): // given up meanwhile, and answered
		if write {
			buf.Release()
		}
		return true
	}
	c.workers.Done()
	r.buf = buf
	return false
}

// Claim implements blocktree.Started.
func (r *request) Claim() bool { return r.started.CompareAndSwap(startOpen, startClaimed) }

// End implements blocktree.Started: it runs where the last answer came in, and does not block.
func (r *request) End(err error) {
	c := r.c
	defer c.workers.Done()
	c.started.remove(r)
	r.end(err)
	c.out.put(r)
	c.out.flushSoon()
}

// giveUp ends every started request that the device has not claimed, and lets no more be started. The replies are dropped: it is
// called when the client is gone.
func (s *started) giveUp() {
	s.mu.Lock()
	s.cut = true
	var open []*request
	for r := range s.all {
		if r.started.CompareAndSwap(startOpen, startGivenUp) {
			open = append(open, r)
			delete(s.all, r)
		}
	}
	s.mu.Unlock()
	for _, r := range open {
		c := r.c
		r.finish(nbdEIO, errGivenUp)
		r.outcome = OutcomeGone
		c.out.put(r)
		c.out.flushSoon()
		c.workers.Done()
	}
}
