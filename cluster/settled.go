package cluster

// Submitted is the number of the newest write that the handle was given, for Settled.
func (h *Handle) Submitted() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holder.Submitted()
}

// Settled reports whether it is decided what became of every write up to a number, also of one that failed for want of members: it can come to be what its sectors have until then.
func (h *Handle) Settled(upTo uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holder.Settled(upTo)
}
