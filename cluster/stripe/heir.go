package stripe

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"blocktree"
)

// An heir is a joiner for the place of a member that stays in sync until the heir is, and leaves in that very step
// (docs/design/0016): so a place moves and the region never has a member less.

// has reports whether node has a place in the view, or is its heir.
func (v View) has(node blocktree.NodeID) bool {
	_, ok := v.Shard(node)
	return ok || v.Heir == node && node != 0
}

// place returns which shards node has, or is to have, in the view, and its standing.
func (v View) place(node blocktree.NodeID) (shard blocktree.ShardIndex, state MemberState, ok bool) {
	if v.Heir == node && node != 0 {
		return v.HeirPlace, Joining, true
	}
	if shard, ok = v.Shard(node); ok {
		state = v.Members[shard].State
	}
	return shard, state, ok
}

// standing is the state of a node, Out if it has no place.
func (v View) standing(node blocktree.NodeID) MemberState {
	_, state, _ := v.place(node)
	return state
}

func (v View) withoutHeir() View {
	v.Heir, v.HeirPlace = 0, 0
	return v
}

// move makes to the heir of from, whose place it has not, in a region where nobody else joins.
func (l *Layout) move(r blocktree.RegionIndex, from, to blocktree.NodeID, inc blocktree.Incarnation) error {
	v := l.View(r)
	i, ok := v.Shard(from)
	if !ok || v.has(to) || to == 0 || v.Heir != 0 || v.Members[i].State != InSync || v.Count(Joining) > 0 {
		return blocktree.E("change view", blocktree.Invalid, fmt.Errorf("node %v cannot be the heir of %v in region %d", to, from, r))
	}
	if err := l.addSpare(to, inc); err != nil {
		return err
	}
	if err := l.comeAs(to, inc); err != nil {
		return err
	}
	v.ID, v.Members, v.Heir, v.HeirPlace = l.Seq, slices.Clone(v.Members), to, i
	l.Own[r] = v
	return nil
}

// stay sends an heir away.
func (l *Layout) stay(r blocktree.RegionIndex, heir blocktree.NodeID) error {
	v := l.View(r)
	if v.Heir != heir || heir == 0 {
		return blocktree.E("change view", blocktree.Invalid, fmt.Errorf("node %v is no heir in region %d", heir, r))
	}
	v = v.withoutHeir()
	v.ID = l.Seq
	l.Own[r] = v
	return nil
}

// inherit gives the heir of a region its place, in sync.
func (l *Layout) inherit(r blocktree.RegionIndex, v View) {
	heir := v.Heir
	n := v.with(l.Seq, func(*ViewMember) {}).withoutHeir()
	n.Members[v.HeirPlace] = ViewMember{Node: heir, State: InSync}
	l.Own[r] = n
	if l.BaseOut[heir] || l.placedByHash(r, n) { // else there is nothing to fold, as a rule: it would cost a look at all moved regions
		l.fold(heir, r)
	}
}

// ---- the holder's side ----

// moves is what a holder knows of places that are to be moved.
type moves struct {
	draining map[blocktree.NodeID]bool
	not      time.Duration // no new look for places before
	at       blocktree.RegionIndex
	all      blocktree.ViewID               // of a layout in which no member that drains is in sync
	away     map[blocktree.RegionIndex]bool // whose heirs are to be sent away
}

// noteChange keeps who may have left by a change whose outcome is not known yet. For reads a promotion of an heir is the removal of
// whom it follows.
func (h *Holder) noteChange(kind ChangeKind, nodes []blocktree.NodeID, region blocktree.RegionIndex) {
	if kind == ChangeRemove {
		h.noteRemoval(removal{nodes: nodes, everywhere: true})
	}
	if v := h.layout.View(region); kind == ChangePromote && v.Heir == nodes[0] && h.mut != mutMoveLeaving {
		h.noteRemoval(removal{nodes: []blocktree.NodeID{v.Members[v.HeirPlace].Node}, region: region})
	}
}

// shard returns which shards a slot of the region is for: the heir's is behind the places.
func (r *hregion) shard(slot int) blocktree.ShardIndex {
	if r.isHeir(slot) {
		return r.view.HeirPlace
	}
	return blocktree.ShardIndex(slot)
}

func (r *hregion) isHeir(slot int) bool { return slot == len(r.view.Members) }

func (j *join) isHeir() bool { return j.slot == j.h.layout.Code.Shards() }

func (j *join) shard() blocktree.ShardIndex { return j.h.region(j.region).shard(j.slot) }

// slot is where the messages of a write to one member are.
func (w *hwrite) slot(i int) *wslot {
	if i < len(w.slots) {
		return &w.slots[i]
	}
	if w.heir == nil {
		w.heir = &wslot{}
	}
	return w.heir
}

// eachCall calls f with the newest call of each slot.
func (w *hwrite) eachCall(f func(slot int, c *call)) {
	for i := range w.slots {
		if c := w.slots[i].cur; c != nil {
			f(i, c)
		}
	}
	if w.heir != nil && w.heir.cur != nil {
		f(len(w.slots), w.heir.cur)
	}
}

// joins notes that a member joins, and if it did not before, that it does by the newest layout.
func (r *hregion) joins(slot int, old uint32, were []*peer) {
	r.all |= 1 << slot
	if old>>slot&1 != 0 && were[slot] == r.members[slot] {
		return
	}
	r.unready |= 1 << slot
	if r.joined == nil {
		r.joined = map[int]blocktree.ViewID{}
	}
	r.joined[slot] = r.h.layout.Seq
}

// whoLeft returns the slots whose members of the view before have left it, without that of an heir which has got its place, and that place,
// else -1: old had the members in sync or joining, were all.
func (r *hregion) whoLeft(old uint32, were []*peer) (left uint32, slot int) {
	left, slot = old&^r.all, -1
	for i := range min(len(were), len(r.members)) {
		if old>>i&1 != 0 && were[i] != r.members[i] && r.h.mut != mutMoveAnswers {
			left |= 1 << i
		}
	}
	if heir := len(r.view.Members); old>>heir&1 != 0 {
		if slot = r.inherited(were[heir]); slot >= 0 {
			left &^= 1<<heir | 1<<slot
		}
	}
	return left, slot
}

// inherited returns the place in which p, the heir of the view before, is in sync by the newest view, -1 if it is nowhere.
func (r *hregion) inherited(p *peer) int {
	slot := slices.Index(r.members, p)
	if slot < 0 || r.sync>>slot&1 == 0 {
		return -1
	}
	return slot
}

// succeed makes the heir of the view before the member in a slot, in all that is counted by slots (I18). Who had the slot before has
// left.
func (r *hregion) succeed(slot int, were []*peer) {
	h, bit, heir := r.h, uint32(1)<<slot, len(r.view.Members)
	r.withheld, r.heldFor = 0, 0
	for _, w := range r.writes[r.head:] {
		if w.heir != nil && w.heir.cur != nil && !w.heir.cur.gone && w.heir.cur.msg.Kind == KindAbort {
			w.answered &^= 1 << heir // it may refuse by now what it held
		}
	}
	h.dropRegion(were[slot], r.index)
	h.dropRegion(were[heir], r.index)
	shift := func(bits uint32) uint32 {
		if h.mut != mutMoveAnswers {
			bits &^= bit
		}
		return bits&^(1<<heir) | bits>>heir&1<<slot
	}
	for _, w := range r.writes[r.head:] {
		if w.slots != nil && w.heir != nil && h.mut != mutMoveSyncs {
			w.slots[slot].stamp = w.heir.stamp // the old member's is of SYNCs to that one
		}
		w.answered, w.sent, w.heir = shift(w.answered), shift(w.sent), nil
		if w.slots != nil && w.slots[slot].cur != nil {
			h.drop(w.slots[slot].cur)
		}
		if a := w.abort; a != nil {
			if a.refuser == heir {
				a.refuser = slot
			}
			a.acked, a.refused = shift(a.acked), shift(a.refused)
		}
	}
}

// sendOn sends what an heir that has got its place has not answered again, from there.
func (w *hwrite) sendOn() {
	switch {
	case w.state != live || w.finished || w.r.h.phase != running:
	case w.abort == nil:
		w.sendAll()
	case w.abort.final:
		w.sendAborts(w.r.mask &^ w.abort.acked)
	}
}

// Draining tells which nodes of the cluster are to lose their places: those in sync in the file's regions are given heirs, one
// region at a time, and none of them gets a place. It is a hint, and Raft judges; it holds until the next call.
func (h *Holder) Draining(nodes []blocktree.NodeID) {
	m := &h.moves
	m.draining = map[blocktree.NodeID]bool{}
	for _, n := range nodes {
		m.draining[n] = true
	}
	m.not, m.all = 0, 0
}

// beginMove asks for an heir of a member that drains, once there is nobody to join and no place of a lost member to be given away. It
// reports whether it asked.
func (h *Holder) beginMove() bool {
	m := &h.moves
	if len(m.draining) == 0 || h.now < m.not || m.all == h.layout.Seq {
		return false
	}
	any := false
	for n := h.layout.Regions(); n > 0; n-- {
		if m.at >= h.layout.Regions() {
			m.at = 0
		}
		r := m.at
		v := h.layout.View(r)
		i := slices.IndexFunc(v.Members, func(x ViewMember) bool { return x.State == InSync && m.draining[x.Node] })
		any = any || i >= 0
		if i >= 0 && v.Heir == 0 && v.Count(Joining) == 0 && h.now >= h.joinPauses[r].until && !h.layout.Marked[v.Members[i].Node] {
			if s := h.spareFor(r, v); s != nil {
				h.job = &join{h: h, region: r, node: s.node, inc: s.inc, slot: len(v.Members), copies: map[*copyRun]bool{}}
				h.propose(ChangeMove, []blocktree.NodeID{v.Members[i].Node, s.node}, r, s.inc)
				return true
			}
		}
		m.at++
	}
	if m.not = h.now + h.memberTimeout; !any {
		m.all = h.layout.Seq
	}
	return false
}

// noRoomFor is how long nothing is moved to a node that had no space for it.
const noRoomFor = joinPauseMin

// noRoom sends an heir away that has no space. It is not voted out: it may be in sync in other regions.
func (h *Holder) noRoom(p *peer, r blocktree.RegionIndex) {
	p.noRoom = h.now + noRoomFor
	h.sendAway(r)
}

// sendAway gives up the move in a region, and leaves the region alone for a while.
func (h *Holder) sendAway(r blocktree.RegionIndex) {
	if h.moves.away[r] || h.layout.View(r).Heir == 0 {
		return
	}
	if h.moves.away == nil {
		h.moves.away = map[blocktree.RegionIndex]bool{}
	}
	h.moves.away[r] = true
	h.pauseJoins(r)
	if j := h.job; j != nil && j.region == r && j.state < joinDrain { // else Raft may be asked still: what is withheld stays so until the heir is out
		j.end()
	}
	h.considerStay()
}

// considerStay asks for the end of moves that were given up, and of one that is not wanted any more.
func (h *Holder) considerStay() {
	if j := h.job; j != nil && j.isHeir() && j.state != joinAsked && j.state != joinPromote && !h.moves.away[j.region] {
		if v := h.layout.View(j.region); v.Heir != 0 && (!h.moves.draining[v.Members[v.HeirPlace].Node] || h.moves.draining[v.Heir]) {
			h.sendAway(j.region)
			return
		}
	}
	for len(h.moves.away) > 0 && h.changeID == 0 && !h.changeNot && !h.fenced {
		r := slices.Min(slices.Collect(maps.Keys(h.moves.away)))
		if heir := h.layout.View(r).Heir; heir != 0 {
			h.propose(ChangeStay, []blocktree.NodeID{heir}, r, blocktree.Incarnation{})
			return
		}
		delete(h.moves.away, r)
	}
}
