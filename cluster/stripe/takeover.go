package stripe

import (
	"slices"

	"blocktree"
)

// listedMax bounds what a fenced member may list in all. A holder has no more than InFlightMax in flight, twice that in a file of durability flush, and a
// member keeps what take-overs have decided until the next watermark of the region.
const listedMax = 16 * InFlightMax

// listedIn is how many versions a member lists.
func listedIn(states []RegionState) (n int) {
	for i := range states {
		n += len(states[i].Pending)
	}
	return n
}

// repairEntriesMax bounds the regions and winners of one KindRepair message; a region is never split.
const repairEntriesMax = 2048

// fenceCall owns the fence of one peer, page by page.
type fenceCall struct{ h *Holder }

func (f fenceCall) onSlow(*call) {}

func (h *Holder) sendFence(p *peer, from blocktree.RegionIndex) {
	m := h.message(KindFence, p)
	m.Region = from
	h.post(&call{peer: p, owner: fenceCall{h}, msg: m})
}

func (f fenceCall) onAnswer(c *call, a *Message) {
	h, p := f.h, c.peer
	if a.Err != blocktree.Other {
		h.failedAnswer(c, a)
		return
	}
	if (!h.wellTold(c.msg, a) || listedIn(p.states)+listedIn(a.Regions) > listedMax) && h.mut != mutTrustFence { // asked again, should it have to stay
		h.suspect(Suspect{Node: p.node, Kind: SuspectNonsense, File: h.layout.File})
		p.gone, p.states = true, nil
		c.msg.Region = 0
		h.putBack(c)
		h.considerRemoval()
		return
	}
	p.states = append(p.states, a.Regions...)
	if !a.Last && len(a.Regions) > 0 {
		h.sendFence(p, a.Regions[len(a.Regions)-1].Region+1)
		return
	}
	p.fenceDone = true
	h.checkFence()
}

// checkFence decides once every member of the newest view has promised the epoch (rule 4): those that do not answer
// must have left the view first.
func (h *Holder) checkFence() {
	if h.phase != fencing {
		return
	}
	done, all := 0, 0
	for _, p := range h.order {
		if h.active[p.node] && p.toFence {
			all++
			if p.fenceDone {
				done++
			}
		}
	}
	if done < all {
		h.decideGen = 0
		if h.mut != mutNoExclude || done < max(h.layout.Code.MinWrite(), h.layout.Code.Data) || !h.restUnfit() {
			return
		}
	}
	if !h.sureOfView() {
		return
	}
	h.phase = repairing
	h.decide()
	for _, p := range h.order {
		if h.active[p.node] && p.fenceDone {
			h.sendRepair(p, 0)
		}
	}
	h.checkRepair()
}

// restUnfit is for the mutant noexclude: those that did not answer are given up without a view change.
func (h *Holder) restUnfit() bool {
	for _, p := range h.order {
		if bad, _, _ := h.unfit(p); h.active[p.node] && !p.fenceDone && !bad {
			return false
		}
	}
	return true
}

// toldRegions are those of which a fenced member lists something in flight, ascending.
func (h *Holder) toldRegions() (regions []blocktree.RegionIndex) {
	seen := map[blocktree.RegionIndex]bool{}
	for _, p := range h.order {
		for _, s := range p.states {
			if len(s.Pending) > 0 && !seen[s.Region] && s.Region < h.layout.Regions() {
				seen[s.Region] = true
				regions = append(regions, s.Region)
			}
		}
	}
	slices.Sort(regions)
	return regions
}

// decide says what becomes of everything in flight (rule 5, decision 4).
func (h *Holder) decide() {
	h.written = h.writtenBefore()
	regions := h.toldRegions()
	chunk, entries := []Repair(nil), 0
	for _, i := range regions {
		r, ok := h.decideRegion(i)
		if !ok {
			continue
		}
		if entries += 1 + len(r.Winners); entries > repairEntriesMax && len(chunk) > 0 {
			h.repairs = append(h.repairs, chunk)
			chunk, entries = nil, 1+len(r.Winners)
		}
		chunk = append(chunk, r)
		reg := h.region(i) // its members are told the new epoch's watermark, which ends what they keep for take-overs
		h.markDirty(reg)
		reg.commitDue = true
	}
	h.repairs = append(h.repairs, chunk)
}

// writtenBefore is the newest epoch of which a fenced member tells a version. What was acknowledged under it is held by all of them. A watermark of sequence 0, which ends what an earlier take-over decided, tells of no version of its own epoch, and hides those of the ones before.
func (h *Holder) writtenBefore() (newest blocktree.Epoch) {
	for _, p := range h.order {
		for i := range p.states {
			s := &p.states[i]
			e := s.Watermark.Epoch
			if s.Watermark.Sequence == 0 && e > 0 {
				e--
			}
			newest = max(newest, e)
			for j := range s.Pending {
				newest = max(newest, s.Pending[j].Version.Epoch)
			}
		}
	}
	return newest
}

// Written is the newest epoch before this holder's under which the file may have been written: under those between the two nothing was acknowledged. Zero: under none. Before the members have told, it is the one before the holder's.
func (h *Holder) Written() blocktree.Epoch {
	if h.phase == fencing {
		return h.epoch - 1
	}
	return h.written
}

// repairCall owns the repair of one peer; its slot is the chunk.
type repairCall struct{ h *Holder }

func (r repairCall) onSlow(*call) {}

func (h *Holder) sendRepair(p *peer, chunk int) {
	m := h.message(KindRepair, p)
	m.Repairs, m.Last = h.repairs[chunk], chunk == len(h.repairs)-1
	h.post(&call{peer: p, owner: repairCall{h}, slot: chunk, msg: m})
}

func (r repairCall) onAnswer(c *call, a *Message) {
	h := r.h
	switch {
	case a.Err != blocktree.Other:
		h.failedAnswer(c, a)
	case c.slot+1 < len(h.repairs):
		h.sendRepair(c.peer, c.slot+1)
	default:
		c.peer.repairDone = true
		h.checkRepair()
	}
}

// checkRepair starts the operations once every member that remains has the decision durably.
func (h *Holder) checkRepair() {
	if h.phase != repairing {
		return
	}
	for _, p := range h.order {
		if h.active[p.node] && p.toFence && !p.repairDone && (p.fenceDone || h.mut != mutNoExclude) && h.mut != mutNoRepairWait {
			return
		}
	}
	h.phase = running
	if h.mut != mutNoRepairWait {
		h.repairs = nil
	}
	for _, p := range h.order {
		p.states = nil
	}
	h.reopen()
	for _, r := range h.byIndex {
		for _, w := range r.writes[r.head:] {
			if w.state == live && !h.park(w) {
				w.sendAll()
			}
		}
	}
	for _, r := range slices.Clone(h.reads) {
		r.restart()
	}
	h.considerRemoval()
}
