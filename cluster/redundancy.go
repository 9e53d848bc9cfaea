package cluster

import "blocktree/cluster/stripe"

// Redundancy is how many members of a file there are to count on, as far as this runtime can tell by itself.
type Redundancy stripe.Redundancy

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

func (c *Client) redundancy(l *stripe.Layout) Redundancy {
	return Redundancy(l.Redundancy(c.peers.isServing))
}

// Redundancy tells it of the file that is held. It does not block.
func (h *Handle) Redundancy() Redundancy {
	h.mu.Lock()
	l := h.holder.Layout()
	h.mu.Unlock()
	return h.client.redundancy(l)
}
