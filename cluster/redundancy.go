package cluster

import (
	"blocktree"
	"blocktree/cluster/stripe"
)

// Redundancy is how many members of a file there are to count on, as far as this runtime can tell by itself. InSync is a minimum over the file's
// regions, Joining a maximum.
type Redundancy struct {
	Members int // that each region has
	InSync  int // that hold every acknowledged sector and can be reached
	Joining int // that are copied up
	Moving  int // places that other nodes are copied up for
	ToRead  int // in sync that it takes
	ToWrite int // likewise
}

// Health sums it up.
func (r Redundancy) Health() Health {
	switch {
	case r.InSync < r.ToWrite:
		return HealthUnavailable
	case r.InSync < r.Members:
		return HealthDegraded
	}
	return HealthOK
}

// redundancy looks at every region that is not like all others, and at all others only if they lack something.
func (c *Client) redundancy(l *stripe.Layout) Redundancy {
	r := Redundancy{Members: l.Code.Shards(), InSync: l.Code.Shards(), ToRead: l.Code.Data, ToWrite: l.Code.MinWrite()}
	known := make(map[blocktree.NodeID]bool, len(l.Hosts))
	counts := func(n blocktree.NodeID) bool {
		yes, ok := known[n]
		if !ok {
			yes = !l.Marked[n] && c.peers.isServing(n)
			known[n] = yes
		}
		return yes
	}
	whole := len(l.BaseOut) == 0
	for _, n := range l.Hosts {
		whole = counts(n) && whole
	}
	look := func(v stripe.View) {
		inSync, joining := 0, 0
		for _, m := range v.Members {
			switch {
			case m.State == stripe.InSync && counts(m.Node):
				inSync++
			case m.State == stripe.Joining:
				joining++
			}
		}
		r.InSync, r.Joining = min(r.InSync, inSync), max(r.Joining, joining)
		if v.Heir != 0 {
			r.Moving++
		}
	}
	if whole {
		for _, v := range l.Own {
			look(v)
		}
		return r
	}
	for i := range l.Regions() {
		look(l.View(i))
	}
	return r
}

// Redundancy tells it of the file that is held. It does not block.
func (h *Handle) Redundancy() Redundancy {
	h.mu.Lock()
	l := h.holder.Layout()
	h.mu.Unlock()
	return h.client.redundancy(l)
}
