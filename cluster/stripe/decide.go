package stripe

import (
	"slices"

	"blocktree"
)

// What a fenced member tells nothing proves (docs/design/0029). Where all keep their promises, a version that one lists and another knows to be settled is acknowledged, and
// held by all: one that denies it has lost it, or somebody lies.

// vote is what the members say of one version.
type vote struct {
	version blocktree.Version
	digest  Digest
	holders int // with that digest, those included to whom it is settled
	marks   int // of these, to whom it is settled: at or below the watermark, or kept by a take-over before this one
	members int
}

// kept reports whether the version is to be committed: all hold it, or it is settled to some, and not as many deny it as a read would not believe a member for.
func (v *vote) kept(k int, mut mutant) bool {
	return v.holders == v.members || v.marks > 0 && (!v.refuted(k) || mut == mutTrustFloor)
}

// refuted reports whether too many deny a version for it to be acknowledged: more than half, and no fewer than give a sector; or so many that those who hold it do
// not give one, so that to commit it would only take from them what they have.
func (v *vote) refuted(k int) bool {
	return v.members-v.holders >= max(k, v.members/2+1) || v.holders < k
}

// fencedIn is what each member in sync of a region that has answered the fence tells of it.
func (h *Holder) fencedIn(i blocktree.RegionIndex) (states []RegionState) {
	for _, m := range h.layout.View(i).Members {
		p := h.peer(m.Node)
		if m.State != InSync || !p.fenceDone {
			continue
		}
		s := RegionState{Region: i}
		if at, ok := slices.BinarySearchFunc(p.states, i, func(s RegionState, i blocktree.RegionIndex) int { return int(s.Region) - int(i) }); ok {
			s = p.states[at]
		}
		states = append(states, s)
	}
	return states
}

// votes counts what the members say of each version that one of them lists, in ascending order. To whom a version is at or below the watermark, or was kept by a
// take-over that was not completed, it is acknowledged: all held it then. Of one version that some have with another digest, what most have counts. It takes the
// lists in turn, as one that lies makes them as long as it may.
func votes(states []RegionState) (out []vote) {
	type key struct {
		version blocktree.Version
		digest  Digest
	}
	at := map[key]int{}
	for i := range states {
		for _, x := range states[i].Pending {
			k := key{x.Version, x.Digest}
			j, ok := at[k]
			if !ok {
				j = len(out)
				at[k] = j
				out = append(out, vote{version: x.Version, digest: x.Digest, members: len(states)})
			}
			if states[i].Watermark.Less(x.Version) { // else it is counted below
				out[j].holders++
				if !x.Pending {
					out[j].marks++
				}
			}
		}
	}
	for j := range out {
		for i := range states {
			if !states[i].Watermark.Less(out[j].version) {
				out[j].holders++
				out[j].marks++
			}
		}
	}
	slices.SortStableFunc(out, func(a, b vote) int {
		if c := compareVersions(a.version, b.version); c != 0 {
			return c
		}
		return b.holders - a.holders
	})
	return slices.CompactFunc(out, func(a, b vote) bool { return a.version == b.version })
}

// decideRegion says what becomes of what is in flight in a region. The floor stays below what is refuted, and what is kept above it is named.
func (h *Holder) decideRegion(i blocktree.RegionIndex) (Repair, bool) {
	out := Repair{Region: i}
	k := h.layout.Code.Data
	states := h.fencedIn(i)
	all := votes(states)
	lowest := slices.IndexFunc(all, func(v vote) bool { return !v.kept(k, h.mut) && v.marks > 0 })
	for _, s := range states {
		if out.Floor.Less(s.Watermark) && (lowest < 0 || s.Watermark.Less(all[lowest].version)) {
			out.Floor = s.Watermark
		}
	}
	for _, v := range all {
		if (v.kept(k, h.mut) || h.mut == mutRollForwardAny) && out.Floor.Less(v.version) && h.mut != mutDropPrepared {
			out.Winners = append(out.Winners, v.version)
		}
	}
	return out, len(all) > 0
}

// voids reports whether something that a fenced member lists is not kept.
func (h *Holder) voids() bool {
	k := h.layout.Code.Data
	return slices.ContainsFunc(h.toldRegions(), func(i blocktree.RegionIndex) bool {
		return slices.ContainsFunc(votes(h.fencedIn(i)), func(v vote) bool { return !v.kept(k, h.mut) })
	})
}

// sureOfView reports whether all that were fenced are still in the view, as Raft says since the last of them was. One that has left does not hold what is written
// after that, or has lost it, and the others answered readers under the newer view before they were fenced: what they alone hold may have been read. Only
// what would be void has to wait for that.
func (h *Holder) sureOfView() bool {
	if h.mut == mutDecideUnsure || !h.voids() {
		return true
	}
	if h.decideGen == 0 {
		h.decideGen = h.wantConfirm()
	}
	return h.confirmDone >= h.decideGen
}

// wellTold reports whether an answer to a fence can be true: regions in order from the one asked for on, and of them nothing of this epoch or a later one; all
// of them, or as many as fill a message. Who answers on and on would have everything kept.
func (h *Holder) wellTold(q, a *Message) bool {
	entries, next := 0, q.Region
	for i := range a.Regions {
		s := &a.Regions[i]
		if s.Region < next || s.Region >= blocktree.RegionsMax || s.Watermark.Epoch >= h.epoch {
			return false
		}
		next = s.Region + 1
		entries += 1 + len(s.Pending)
		last := blocktree.Version{}
		for j := range s.Pending {
			x := &s.Pending[j]
			if x.Version.Epoch >= h.epoch || !last.Less(x.Version) || x.Count == 0 {
				return false
			}
			last = x.Version
		}
	}
	return a.Last || entries >= fenceEntriesMax
}
