package nbd

import (
	"slices"
	"time"
)

// How long a client that has not chosen an export keeps its place although all are taken and another one comes. Who has
// said nothing has not even answered the greeting, which takes one way to the client and back; who spoke has so long for each option, or
// TLS handshake. (Without others that come, a client has until the end of the negotiation.)
const (
	silentStay   = 50 * time.Millisecond
	speakingStay = 200 * time.Millisecond
)

// move notes that the negotiation got on: an option came in full, not a byte of it.
func (c *conn) move() { c.moved.Store(max(1, int64(time.Since(c.began)))) }

// takePlace waits for one of the places of clients that have not chosen an export. While there is none it sends clients away,
// one at a time, so that those who say nothing or nothing more keep nobody out. False: the server stops.
func (s *Server) takePlace() bool {
	for {
		select {
		case s.negotiating <- struct{}{}:
			return true
		default:
		}
		t := time.NewTimer(s.sendAway(time.Now()))
		select {
		case s.negotiating <- struct{}{}:
			t.Stop()
			return true
		case <-s.stop:
			t.Stop()
			return false
		case <-t.C:
		}
	}
}

// sendAway cuts off the client that has to go first and returns how long to wait before it is called again: of those who are silent
// the one who came first; when none of them has been there for long enough, the one whose negotiation has not moved for longest. Who waits
// for the server stays.
func (s *Server) sendAway(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	silent, stuck := s.longestStill()
	wait := s.speakingStay
	for _, x := range []struct {
		c    *conn
		stay time.Duration
	}{{silent, silentStay}, {stuck, s.speakingStay}} {
		if x.c == nil {
			continue
		}
		moved := x.c.moved.Load()
		if left := x.stay - now.Sub(x.c.began.Add(time.Duration(moved))); left > 0 {
			wait = min(wait, left)
			continue
		}
		x.c.cut() // its place is free in a moment
		if s.sentAway++; s.sentAway&(s.sentAway-1) == 0 {
			s.log.Warn("a client that has not chosen an export was sent away: others wait", "client", x.c.name, "spoke", moved != 0, "sentAway", s.sentAway)
		}
		return silentStay
	}
	return wait
}

// longestStill returns whose negotiation has not moved for longest: of those who said nothing, and of those who did. s.mu is held.
func (s *Server) longestStill() (silent, stuck *conn) {
	last := func(c *conn) time.Time { return c.began.Add(time.Duration(c.moved.Load())) }
	for _, c := range s.undecided { // in the order in which they came
		switch {
		case c.awaits.Load() || c.ctx.Err() != nil:
		case c.moved.Load() == 0:
			if silent == nil {
				silent = c
			}
		case stuck == nil || last(c).Before(last(stuck)):
			stuck = c
		}
	}
	return silent, stuck
}

// givePlace gives back the place of a client that has chosen or failed.
func (s *Server) givePlace(c *conn) {
	s.mu.Lock()
	if i := slices.Index(s.undecided, c); i >= 0 {
		s.undecided = slices.Delete(s.undecided, i, i+1)
	}
	s.mu.Unlock()
	<-s.negotiating
}
