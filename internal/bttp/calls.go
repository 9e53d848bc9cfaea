package bttp

import (
	"errors"
	"sync"

	"blocktree"
)

// calls are the requests of one connection that await an answer: a table of slots, the slot's index in the low bits
// of the request id, a count of its uses above.
type calls struct {
	mu    sync.Mutex
	slots []slot
	free  []uint16
	ended error // why no call is taken any more
}

// slotBits holds an index below RequestsPerConnectionMax.
const slotBits = 12

// The table fits the ids.
var _ [1<<slotBits - blocktree.RequestsPerConnectionMax]struct{}

type slot struct {
	id   uint64 // 0: free
	uses uint64
	sent bool // the body is not needed any more, so that an answer is believed
	done func(Reply, error)
}

var errTooManyCalls = errors.New("too many calls await an answer")

// add registers a call and says how many others await an answer. sent says that the body was copied. It fails with Busy when there are too many, or
// with the reason that the connection ended for.
func (c *calls) add(sent bool, done func(Reply, error)) (id uint64, others int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return 0, 0, c.ended
	}
	var index int
	switch {
	case len(c.free) > 0:
		index = int(c.free[len(c.free)-1])
		c.free = c.free[:len(c.free)-1]
	case len(c.slots) < blocktree.RequestsPerConnectionMax:
		index = len(c.slots)
		c.slots = append(c.slots, slot{})
	default:
		return 0, 0, blocktree.E("bttp.Call", blocktree.Busy, errTooManyCalls)
	}
	s := &c.slots[index]
	s.uses++
	s.id = s.uses<<slotBits | uint64(index)
	s.sent, s.done = sent, done
	return s.id, len(c.slots) - len(c.free) - 1, nil
}

// waiting is how many calls await an answer.
func (c *calls) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.slots) - len(c.free)
}

// slot returns the slot of an id that is in use, nil for any other.
func (c *calls) slot(id uint64) *slot {
	if index := id & (1<<slotBits - 1); id != 0 && index < uint64(len(c.slots)) && c.slots[index].id == id {
		return &c.slots[index]
	}
	return nil
}

// remove takes the call out and returns its done.
func (c *calls) remove(s *slot) func(Reply, error) {
	done := s.done
	c.free = append(c.free, uint16(s.id&(1<<slotBits-1)))
	s.id, s.done = 0, nil
	return done
}

// forget takes back a call that was not sent. It reports false where done has been or will be called anyway.
func (c *calls) forget(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slot(id)
	if s != nil {
		c.remove(s)
	}
	return s != nil
}

// markSent notes that the body of the call is not needed any more; 0 is no call.
func (c *calls) markSent(id uint64) {
	if id == 0 {
		return
	}
	c.mu.Lock()
	if s := c.slot(id); s != nil {
		s.sent = true
	}
	c.mu.Unlock()
}

// answer calls done of the call. An answer to no call, or to one whose body is not even sent, is an error of the
// peer that ends the connection.
func (c *calls) answer(id uint64, r Reply, err error) error {
	c.mu.Lock()
	s := c.slot(id)
	if s == nil || !s.sent {
		c.mu.Unlock()
		r.Release()
		return blocktree.E("frame", blocktree.Invalid, errors.New("an answer that nobody asked for"))
	}
	done := c.remove(s)
	c.mu.Unlock()
	done(r, err)
	return nil
}

// end fails every call with err, and every later one.
func (c *calls) end(err error) {
	c.mu.Lock()
	c.ended = err
	var all []func(Reply, error)
	for i := range c.slots {
		if s := &c.slots[i]; s.id != 0 {
			all = append(all, c.remove(s))
		}
	}
	c.mu.Unlock()
	for _, done := range all {
		done(Reply{}, err)
	}
}
