package stripe

// Submitted is the number of the newest write that was submitted, for Settled.
func (h *Holder) Submitted() uint64 { return h.unread }

// Settled reports whether what became of every write is decided that was submitted up to a number: it was acknowledged, or is refused durably. One that failed for waiting too long
// is in flight for all that, and may come to be what its sectors have, here or by the next take-over; Flush does not wait for it.
func (h *Holder) Settled(upTo uint64) bool {
	for _, r := range h.byIndex {
		for _, w := range r.writes[r.head:] {
			if w.state == live && !w.finished && w.number <= upTo {
				return false
			}
		}
	}
	return true
}

// countChange counts a view change that Raft has made.
func (h *Holder) countChange() {
	switch h.changeKind {
	case ChangeRemove:
		h.stats.Removed++
	case ChangeJoin:
		h.stats.Joined++
	case ChangePromote:
		h.stats.Promoted++
	case ChangePlace:
		h.stats.Placed++
	}
}
