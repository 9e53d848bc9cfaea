package stripe

// Idle reports whether nothing of what the holder does or waits for comes of time: nothing is under way, owed to a member or volatile, every member of every
// region is in sync, and all of them can be reached. Then it need not be told the time often; any input may end it.
func (h *Holder) Idle() bool {
	if h.fenced {
		return true
	}
	for n := range h.active {
		if p := h.peers[n]; p == nil || !p.up {
			return false
		}
	}
	asks := h.changeID != 0 || h.confirmID != 0 || h.confirmWant > h.confirmGen || len(h.calls) > 0 || len(h.retry) > 0
	waits := h.qhead < len(h.queue) || len(h.reads) > 0 || len(h.held) > 0 || len(h.flushes) > 0 || len(h.mending) > 0 || len(h.asked) > 0
	owes := len(h.dirty) > 0 || h.vol.acked > 0 || len(h.vol.parked) > 0
	whole := h.allIn == h.layout.Seq || len(h.layout.BaseOut)+len(h.layout.Own) == 0
	return h.phase == running && whole && h.job == nil && !asks && !waits && !owes
}
