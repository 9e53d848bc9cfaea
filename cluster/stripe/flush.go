package stripe

import (
	"math/bits"
	"slices"
	"time"

	"blocktree"
)

type flush struct {
	op, upTo uint64
	at       time.Duration
}

// volatile is what the holder of a file of durability flush keeps count of (docs/design/0014); of another file it stays zero.
type volatile struct {
	on       bool
	after    time.Duration // how long something may be volatile before a SYNC begins
	bytesMax int           // and how many bytes; twice as many are in flight or volatile at a time

	writes int // sent and above their watermarks
	bytes  int // of the sectors of these
	acked  int // of these, acknowledged
	since  time.Duration
	parked []*hwrite // wait for room, in the order of their submission
	judged bool      // the first flush was found to wait for a SYNC, and nothing that changes this has happened since
	waits  bool      // a flush waits for a SYNC
	joins  bool      // a joiner does, to be promoted
	done   uint64    // number of the last write that a flush has made durable
	askAt  time.Duration
}

// volatileWritesMax is how many writes may be volatile before a SYNC begins, and half of how many are sent at a time: members list what is above
// the watermark, and so does a take-over.
const volatileWritesMax = InFlightMax / 4

func (v *volatile) init(cfg *HolderConfig) {
	v.on = cfg.Layout.Durability == DurabilityFlush
	if v.after = cfg.FlushAfter; v.after == 0 {
		v.after = blocktree.AutoFlushAfter
	}
	if v.bytesMax = cfg.FlushBytes; v.bytesMax == 0 {
		v.bytesMax = blocktree.AutoFlushBytes
	}
}

// aboveMax bounds the versions that were begun and are above their watermarks.
func (v *volatile) aboveMax() int {
	if v.on {
		return 2 * InFlightMax // those that are parked are sent to nobody
	}
	return InFlightMax
}

// sent counts a write in flight, once.
func (v *volatile) sent(w *hwrite) {
	if v.on && !w.counted {
		w.counted = true
		v.writes++
		v.bytes += w.bytes()
	}
}

// acknowledged counts one that may be volatile.
func (v *volatile) acknowledged(w *hwrite) {
	if v.on {
		if v.acked == 0 {
			v.since = w.r.h.now
		}
		v.acked++
	}
}

// passed counts one out that is below its watermark.
func (v *volatile) passed(w *hwrite) {
	if w.counted {
		v.writes--
		v.bytes -= w.bytes()
	}
	if v.on && w.finished && !w.aborted {
		v.acked--
	}
}

func (v *volatile) full() bool {
	return v.on && (v.bytes >= 2*v.bytesMax || v.writes >= 2*volatileWritesMax)
}

// due reports whether a SYNC is to begin unasked for.
func (v *volatile) due(now time.Duration) bool {
	return v.acked > 0 && (now-v.since >= v.after || v.bytes >= v.bytesMax || v.writes >= volatileWritesMax)
}

func (w *hwrite) bytes() int {
	if w.w == nil || w.w.Kind != RecordData {
		return 0
	}
	return int(w.w.Count) * int(w.r.h.layout.SectorBytes)
}

// park keeps a write until there is room, and reports whether it does. One that is next above the watermark is sent, or no room
// would ever be made.
func (h *Holder) park(w *hwrite) bool {
	if !h.vol.full() || w.isNext() {
		return false
	}
	w.parked = true
	h.stats.Parked++
	h.vol.parked = append(h.vol.parked, w)
	return true
}

func (w *hwrite) isNext() bool { return w.r.head < len(w.r.writes) && w.r.writes[w.r.head] == w }

// unpark sends what waited for room, and what has come to be next.
func (h *Holder) unpark() {
	if len(h.vol.parked) == 0 || h.phase != running {
		return
	}
	keep := h.vol.parked[:0]
	for _, w := range h.vol.parked {
		if h.vol.full() && !w.isNext() {
			keep = append(keep, w)
		} else {
			w.parked = false
			w.sendAll()
		}
	}
	clear(h.vol.parked[len(keep):])
	h.vol.parked = keep
}

// stored notes that a member has a write, as far as its answers to PREPARE say.
func (w *hwrite) stored(slot int) {
	w.answered |= 1 << slot
	if p := w.r.members[slot]; w.r.h.vol.on && w.slots != nil {
		w.slot(slot).stamp = p.syncNo
		p.unsynced = true
	}
}

// synced is the members that have the write durably: a SYNC that was sent after they had answered was answered, too.
func (w *hwrite) synced() (out uint32) {
	for to := w.answered; to != 0; to &= to - 1 {
		slot := bits.TrailingZeros32(to)
		if n, stamp := w.r.members[slot].synced, w.slot(slot).stamp; n > stamp || w.r.h.mut == mutSyncLate && n > 0 && n == stamp {
			out |= 1 << slot
		}
	}
	return out
}

// stable reports whether every member, joining ones included, has the write durably: then the watermark may pass it.
func (w *hwrite) stable() bool {
	mask := w.r.mask
	if w.r.h.mut == mutStableNoJoin {
		mask = w.r.sync
	}
	return !w.r.h.vol.on || w.r.h.mut == mutMarkVolatile || w.synced()&mask == mask
}

// Flush ends when every write submitted before it has its outcome and no member has lost its memory: none is marked, nor up
// under another incarnation than its views expect, which Raft may not have said yet; of a file of durability flush, when what was acknowledged
// of these writes is durable, too, at every member in sync or joining. It fails with Unavailable if that takes longer than StallTimeout.
func (h *Holder) Flush(op uint64) {
	if h.fenced {
		h.done(op, h.why, nil)
		return
	}
	h.flushes = append(h.flushes, flush{op, h.unread, h.now})
	h.checkFlushes()
}

func (h *Holder) checkFlushes() {
	h.vol.waits = false
	if len(h.flushes) == 0 || h.fenced || h.phase != running {
		return
	}
	for _, p := range h.order {
		if h.active[p.node] && (h.layout.Marked[p.node] || p.up && p.inc != h.layout.Incarnations[p.node]) {
			return
		}
	}
	first := h.unread + 1
	if h.qhead < len(h.queue) {
		first = h.queue[h.qhead].number
	}
	n := 0
	for n < len(h.flushes) && h.flushes[n].upTo < first && h.flushed(h.flushes[n].upTo) {
		h.vol.done = max(h.vol.done, h.flushes[n].upTo)
		h.done(h.flushes[n].op, blocktree.Other, nil)
		n++
	}
	h.flushes = slices.Delete(h.flushes, 0, n)
	h.pumpSync()
}

// flushed reports whether all that was acknowledged of the first n writes is durable at every member. A write that is below its
// watermark is.
func (h *Holder) flushed(n uint64) bool {
	if !h.vol.on || h.vol.acked == 0 || h.mut == mutFlushOnly {
		return true
	}
	if h.vol.judged {
		h.vol.waits = true
		return false
	}
	for _, r := range h.byIndex {
		for _, w := range r.writes[r.head:] {
			if w.state != live || w.number > n || !w.finished || w.aborted {
				continue
			}
			if got := w.synced(); got&r.mask != r.mask && (h.mut != mutFlushNoJoin || got&r.sync != r.sync) && (h.mut != mutFlushSome || bits.OnesCount32(got&r.sync) < h.layout.Code.Data) {
				h.vol.waits, h.vol.judged = true, true
				return false
			}
		}
	}
	return true
}

// failFlushes fails those that have waited too long.
func (h *Holder) failFlushes() {
	n := 0
	for n < len(h.flushes) && h.now-h.flushes[n].at >= h.stall {
		h.done(h.flushes[n].op, blocktree.Unavailable, nil)
		h.vol.judged = false
		n++
	}
	h.flushes = slices.Delete(h.flushes, 0, n)
}

// pumpSync asks members to make durable what they have answered for, one question at a time to each, if somebody waits for that or it is time.
func (h *Holder) pumpSync() {
	if !h.vol.on || h.fenced || h.phase != running || !h.vol.waits && !h.vol.joins && !h.vol.due(h.now) {
		return
	}
	for _, p := range h.order {
		if !h.active[p.node] || !p.unsynced || p.sync != nil && !p.sync.gone {
			continue
		}
		p.syncNo++
		p.unsynced = false
		m := h.message(KindSync, p)
		m.Seq = 0 // it need not know our newest view
		p.sync = &call{peer: p, owner: syncCall{h, p.syncNo}, msg: m}
		h.vol.since = h.now
		h.stats.Syncs++
		if !h.vol.waits {
			h.stats.AutoSyncs++
		}
		h.post(p.sync)
	}
}

// syncCall owns a SYNC by its number.
type syncCall struct {
	h  *Holder
	no uint64
}

func (q syncCall) onSlow(*call) {}

func (q syncCall) onAnswer(c *call, a *Message) {
	h := q.h
	if a.Err != blocktree.Other {
		h.failedAnswer(c, a)
		return
	}
	c.peer.synced = max(c.peer.synced, q.no)
	h.vol.judged = false
	for _, r := range h.byIndex {
		if len(r.writes) > r.head {
			r.advance()
		}
	}
	h.checkFlushes()
	h.pumpSync()
	if h.job != nil {
		h.job.pump()
	}
}

// hasFlushed reports whether a joiner has durably what was flushed and is above the watermark: a flush that ended before it joined did not
// wait for it, and it was sent the write as any other. If not, it is asked for.
func (h *Holder) hasFlushed(r *hregion, slot int) bool {
	h.vol.joins = false
	if !h.vol.on || h.mut == mutPromoteVolatile {
		return true
	}
	for _, w := range r.writes[r.head:] {
		if w.state == live && w.finished && !w.aborted && w.number <= h.vol.done && w.synced()>>slot&1 == 0 {
			h.vol.joins = true
			h.pumpSync()
			return false
		}
	}
	return true
}

// askOfLost asks Raft again and again while a member is up under another incarnation than its views expect, or marked. Where too few
// others are left it cannot be removed, so nothing else would tell the holder that its file has turned lossy.
func (h *Holder) askOfLost() {
	if !h.vol.on || h.changeID != 0 || h.now < h.vol.askAt {
		return
	}
	for _, p := range h.order {
		if _, _, lost := h.unfit(p); lost && h.active[p.node] {
			h.vol.askAt = h.now + h.memberTimeout/4
			h.wantConfirm()
			return
		}
	}
}

// manned reports whether every region of a layout has k members in sync, none of them doubted, that answer and are what it expects. Of
// durability ack only regions matter in which one of those who have left had a place: to the others nothing has happened.
func (h *Holder) manned(l *Layout, left, doubted []blocktree.NodeID) bool {
	touched := func(m ViewMember) bool { return slices.Contains(left, m.Node) }
	for _, v := range l.apart() {
		if !h.vol.on && !slices.ContainsFunc(v.Members, touched) {
			continue
		}
		up := 0
		for _, m := range v.Members {
			if p := h.peers[m.Node]; m.State == InSync && p != nil && p.up && !p.silent && p.inc == l.Incarnations[m.Node] && !l.Marked[m.Node] && !slices.Contains(doubted, m.Node) {
				up++
			}
		}
		if up < l.Code.Data {
			return false
		}
	}
	return true
}
