package nbd

import (
	"cmp"
	"slices"
	"time"

	"blocktree/blockdev"
)

// attachment is what the server keeps of a device that connections are or were attached to, until that is closed.
type attachment struct {
	conns int
	past  Counts // of connections that have ended
}

// Client is a connection that is attached to an export.
type Client struct {
	Name     string // an address, or a process of this machine
	Who      Identity
	TLS      string // version and cipher suite; empty without
	ReadOnly bool
	Since    time.Time
	Traffic
}

// Use is an export with those who use it.
type Use struct {
	Export   blockdev.Export
	Clients  []Client // the oldest first
	Traffic           // of those, and of all that were attached before
	Counts   Counts   // likewise
	InFlight int      // requests that are open
}

// Uses returns all exports in the order of their names, those on demand that are open among them.
func (s *Server) Uses() []Use {
	var list []Use
	at := map[*blockdev.Device]int{}
	add := func(e blockdev.Export) {
		at[e.Device] = len(list)
		list = append(list, Use{Export: e})
	}
	for _, e := range s.exports.List() {
		add(e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if !c.attached {
			continue
		}
		i, ok := at[c.dev]
		if !ok { // on demand, or just removed
			add(c.export)
			i = at[c.dev]
		}
		u := &list[i]
		counts, open := c.out.look()
		u.Clients = append(u.Clients, Client{Name: c.name, Who: c.who, TLS: c.secured.describe(), ReadOnly: c.export.ReadOnly, Since: c.began, Traffic: counts.traffic()})
		u.Counts.Add(&counts)
		u.InFlight += open
	}
	if s.demand != nil {
		for _, e := range s.demand.List() {
			if _, ok := at[e.Device]; !ok {
				add(e)
			}
		}
	}
	for device, i := range at {
		if a, ok := s.attached[device]; ok {
			list[i].Counts.Add(&a.past)
		}
		list[i].Traffic = list[i].Counts.traffic()
		slices.SortFunc(list[i].Clients, func(a, b Client) int { return a.Since.Compare(b.Since) })
	}
	slices.SortStableFunc(list, func(a, b Use) int { return cmp.Compare(a.Export.Name, b.Export.Name) })
	return list
}

// Stats are counted since the server began, but for Negotiating.
type Stats struct {
	Negotiating      int    // clients that have not chosen an export
	SentAway         uint64 // clients that had to make room for others, as they said nothing or no more
	Refused          uint64 // questions for exports by clients without a right to them
	HandshakesFailed uint64 // of TLS
}

// Stats returns what the server counts of all clients together.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Negotiating: len(s.undecided), SentAway: s.sentAway, Refused: s.refused.Load(), HandshakesFailed: s.handshakesFailed.Load()}
}
