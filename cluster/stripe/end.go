package stripe

import (
	"slices"

	"blocktree"
)

// end is the end of everything, for Fenced (a later epoch exists) or Lost.
func (h *Holder) end(why blocktree.Kind) {
	if h.fenced {
		return
	}
	h.fenced, h.why = true, why
	for _, w := range slices.Clone(h.queue[h.qhead:]) {
		w.report(why)
	}
	for _, r := range h.byIndex {
		for _, w := range r.writes[r.head:] {
			if w.w != nil {
				h.next.Released = append(h.next.Released, w.w)
			}
		}
		r.writes, r.head = nil, 0
	}
	for _, r := range h.reads {
		r.over = true
		if _, copying := r.host.(copyHost); !copying && r.mend == nil {
			h.done(r.op, why, nil)
		}
	}
	for _, m := range slices.Clone(h.asked) {
		m.finish(why)
	}
	for _, x := range h.held {
		h.done(x.r.op, why, nil)
	}
	for _, f := range h.flushes {
		h.done(f.op, why, nil)
	}
	h.asked, h.mending = nil, nil
	h.vol.parked = nil
	h.reads, h.held, h.flushes, h.queue, h.qhead, h.job, h.retry, h.dirty = nil, nil, nil, nil, 0, nil, nil, nil
	for _, p := range h.order {
		h.dropAll(p)
	}
}
