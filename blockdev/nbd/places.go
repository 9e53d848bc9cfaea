package nbd

import (
	"slices"
	"time"
)

// How long a client that has not chosen an export keeps its place although all are taken and another one comes. Who has
// said nothing has not even answered the greeting, which takes one way to the client and back. (Without others that come, a
// client has until the end of the negotiation.)
const (
	silentStay   = 50 * time.Millisecond
	speakingStay = 500 * time.Millisecond
)

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

// sendAway cuts off the client that has to go first and returns how long to wait before it is called again: those who are silent in
// the order in which they came; when there are none, those who spoke. Who waits for the server stays.
func (s *Server) sendAway(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := s.speakingStay
	for _, spoke := range []bool{false, true} {
		stay := silentStay
		if spoke {
			stay = s.speakingStay
		}
		for _, c := range s.undecided {
			if c.spoke.Load() != spoke || c.awaits.Load() || c.ctx.Err() != nil {
				continue
			}
			if left := stay - now.Sub(c.began); left > 0 {
				wait = min(wait, left)
				break // the others came later
			}
			c.cut() // its place is free in a moment
			if s.sentAway++; s.sentAway&(s.sentAway-1) == 0 {
				s.log.Warn("a client that has not chosen an export was sent away: others wait", "client", c.name, "spoke", spoke, "sentAway", s.sentAway)
			}
			return silentStay
		}
	}
	return wait
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
