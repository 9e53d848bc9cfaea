package stripe

import (
	"math/bits"
	"slices"
	"time"

	"blocktree"
	"blocktree/internal/invariant"
)

// hregion is a region as its holder sees it.
type hregion struct {
	h       *Holder
	index   blocktree.RegionIndex
	view    View
	members []*peer // by shard index
	sync    uint32  // bits of the in-sync members
	all     uint32  // and of the joining ones
	mask    uint32  // every one of these must answer: all
	unready uint32  // joining ones that have not yet forgotten the region: nothing is sent to them
	// joined says, of each joining one, which layout let it join: it begins anew for that, once (KindReset).
	joined map[int]blocktree.ViewID
	// While a joiner is about to be promoted, the member withheld is sent nothing that heldFor has not answered (join.drain).
	withheld, heldFor uint32
	open              bool // writes may be acknowledged (rules 2, 3)

	seq    blocktree.Sequence // last version taken
	mark   blocktree.Sequence // watermark
	writes []*hwrite          // writes[head+i] has sequence mark+1+i
	head   int

	// aborted are versions below the watermark that a read which began earlier may still have seen pending.
	aborted map[blocktree.Sequence]bool

	lastWrite          time.Duration
	toldMark           blocktree.Sequence
	commitDue, isDirty bool
}

type writeState uint8

const (
	begun writeState = iota
	cancelled
	live
)

// hwrite is a version that was taken, until the watermark passes it.
type hwrite struct {
	r        *hregion
	op       uint64
	w        *Write
	version  blocktree.Version
	number   uint64 // order of submission
	at       time.Duration
	state    writeState
	reported bool // its operation has its outcome
	finished bool // acknowledged, or refused durably everywhere
	aborted  bool // finished, the latter way
	answered uint32
	sent     uint32 // members that were sent it, ever
	abort    *abort
	slots    []wslot // by shard index
	heir     *wslot  // of the heir, whose slot is behind the others
	counted  bool    // among those in flight or volatile (flush.go)
	parked   bool    // waits for room, is sent to nobody
}

// wslot has the first message to one member in one piece of memory with its call.
type wslot struct {
	call  call
	msg   Message
	rec   Record
	cur   *call  // outstanding, or nil
	stamp uint64 // number of the last SYNC that was sent to the member before it answered
}

// abort undoes a write that a member refused for want of space (decision 7).
type abort struct {
	refuser int    // durably does not hold it, once final
	final   bool   // the refuser has answered so: from now on nobody can have read it
	acked   uint32 // members that refuse it durably
	refused uint32 // members that had no space
}

func (h *Holder) region(i blocktree.RegionIndex) *hregion {
	r := h.regions[i]
	if r == nil {
		r = &hregion{h: h, index: i}
		h.regions[i] = r
		at, _ := slices.BinarySearchFunc(h.byIndex, i, func(r *hregion, i blocktree.RegionIndex) int { return int(r.index) - int(i) })
		h.byIndex = slices.Insert(h.byIndex, at, r)
		r.setView(h.layout.View(i))
		r.reopen()
	}
	return r
}

// setView goes by a newer view: what a member answered before it left no longer counts.
func (r *hregion) setView(v View) {
	r.h.vol.judged = false
	old, were := r.all, r.members
	r.view, r.sync, r.all = v, 0, 0
	r.members = make([]*peer, 0, len(v.Members)+1)
	for i, m := range v.Members {
		r.members = append(r.members, r.h.peer(m.Node))
		switch m.State {
		case InSync:
			r.sync |= 1 << i
		case Joining:
			r.joins(i, old, were)
		}
	}
	if v.Heir != 0 {
		r.members = append(r.members, r.h.peer(v.Heir))
		r.joins(len(v.Members), old, were)
	}
	r.all |= r.sync
	if r.mask = r.all; r.h.mut == mutJoinNoWait {
		r.mask = r.sync
	}
	r.unready &= r.all &^ r.sync
	left, slot := r.whoLeft(old, were)
	if left == 0 && slot < 0 {
		return
	}
	writes := slices.Clone(r.writes[r.head:])
	gone := make([]bool, len(writes)) // who refused it first
	for i, w := range writes {
		gone[i] = w.abort != nil && (left>>w.abort.refuser&1 != 0 || w.abort.refuser == slot)
	}
	if slot >= 0 {
		r.succeed(slot, were)
	}
	for to := left; to != 0; to &= to - 1 {
		r.h.dropRegion(were[bits.TrailingZeros32(to)], r.index)
	}
	for _, w := range writes {
		w.strike(left)
	}
	for i, w := range writes { // only now: it may look at those behind it
		w.membersLeft(gone[i])
		if slot >= 0 {
			w.sendOn()
		}
	}
}

// release sends what was withheld.
func (r *hregion) release() {
	if r.heldFor == 0 {
		return
	}
	r.withheld, r.heldFor = 0, 0
	if r.h.fenced || r.h.phase != running {
		return
	}
	for _, w := range r.writes[r.head:] {
		if w.state == live && !w.finished && w.abort == nil {
			w.sendAll()
		}
	}
}

// told is the watermark that members are told.
func (r *hregion) told() blocktree.Version {
	v := blocktree.Version{Epoch: r.h.epoch, Sequence: r.mark}
	if r.h.mut == mutWatermarkPasses {
		for i, w := range r.writes[r.head:] {
			if w.finished {
				v.Sequence = r.mark + blocktree.Sequence(i) + 1
			}
		}
	}
	return v
}

// reopen judges anew whether the region's writes may be acknowledged.
func (r *hregion) reopen() {
	h := r.h
	r.open = h.phase == running
	enough := bits.OnesCount32(r.sync)
	for i, p := range r.members {
		if r.all>>i&1 == 0 {
			continue
		}
		if p.learned < r.view.ID && h.mut != mutNoViewAck {
			r.open = false // I6
		}
		if h.layout.Marked[p.node] {
			r.open = false
		}
	}
	if enough < h.layout.Code.MinWrite() && h.mut != mutNoMinWrite {
		r.open = false
	}
}

// reopen judges every region anew and acknowledges what was waiting for it.
func (h *Holder) reopen() {
	for _, r := range h.byIndex {
		r.reopen()
		if r.open && len(r.writes) > r.head {
			for _, w := range slices.Clone(r.writes[r.head:]) {
				w.tryFinish()
			}
		}
		r.advance()
	}
	if h.job != nil {
		h.job.pump()
	}
}

// Begin takes the next version of a region, to seal with; Write or Cancel must follow, or the watermark stands still.
func (h *Holder) Begin(i blocktree.RegionIndex) blocktree.Version {
	r := h.region(i)
	r.seq++
	w := &hwrite{r: r, version: blocktree.Version{Epoch: h.epoch, Sequence: r.seq}}
	if !h.fenced {
		r.writes = append(r.writes, w)
		h.above++
	}
	return w.version
}

// find returns the write of a version that was begun, nil if the watermark has passed it.
func (r *hregion) find(v blocktree.Version) *hwrite {
	if v.Epoch != r.h.epoch || v.Sequence <= r.mark || v.Sequence > r.seq || int(v.Sequence-r.mark) > len(r.writes)-r.head {
		return nil
	}
	return r.writes[r.head+int(v.Sequence-r.mark)-1]
}

// Cancel gives a version back that was begun and will not be written.
func (h *Holder) Cancel(i blocktree.RegionIndex, v blocktree.Version) {
	r := h.region(i)
	if w := r.find(v); w != nil && w.state == begun {
		w.state = cancelled
		r.advance()
	}
}

// Write starts a write under a version from Begin; see Write (the type) for who owns what. The outcome is a Done.
func (h *Holder) Write(op uint64, wr *Write) {
	if h.fenced {
		h.done(op, h.why, nil)
		h.next.Released = append(h.next.Released, wr)
		return
	}
	r := h.region(wr.Region)
	w := r.find(wr.Version)
	if w == nil || w.state != begun || !h.fits(wr) || h.above > h.vol.aboveMax() {
		kind := blocktree.Invalid
		if h.above > h.vol.aboveMax() {
			kind = blocktree.Busy
		}
		h.done(op, kind, nil)
		h.next.Released = append(h.next.Released, wr)
		h.Cancel(wr.Region, wr.Version)
		return
	}
	h.unread++
	w.op, w.w, w.state, w.at, w.number = op, wr, live, h.now, h.unread
	r.lastWrite = h.now
	h.queue = append(h.queue, w)
	if h.phase == running && !h.park(w) {
		w.sendAll()
	}
}

// fits reports whether a write lies in its region and has the shape its file asks for.
func (h *Holder) fits(w *Write) bool {
	if w.Region >= h.layout.Regions() {
		return false
	}
	if size := h.layout.Size(); h.mut != mutWriteBehind && (uint64(w.First) >= size || uint64(w.Count) > size-uint64(w.First)) {
		return false // Z3
	}
	first, count := h.layout.Run(w.Region)
	if w.Count == 0 || w.First < first || uint64(w.First-first) >= count || uint64(w.Count) > count-uint64(w.First-first) {
		return false
	}
	if w.Kind == RecordZero {
		return w.ShardBytes == 0 && len(w.Shards) == 0 && len(w.Seals) == 0
	}
	c := h.layout.Code
	if w.Kind != RecordData || w.Count > h.layout.RunSectorsMax() || len(w.Shards) != c.Shards() ||
		int(w.ShardBytes) != c.ShardBytes(int(h.layout.SectorBytes)) || len(w.Seals) != int(w.Count)*SealBytes {
		return false
	}
	for _, s := range w.Shards {
		if len(s) != int(w.Count)*int(w.ShardBytes) {
			return false
		}
	}
	return true
}

// sendAll prepares the write at every member that has not answered.
func (w *hwrite) sendAll() {
	if w.parked {
		return
	}
	if w.slots == nil {
		w.slots = make([]wslot, len(w.r.view.Members))
	}
	w.r.h.vol.sent(w)
	to := w.r.all &^ w.r.unready &^ w.answered
	if w.answered&w.r.heldFor == 0 {
		to &^= w.r.withheld
	}
	for ; to != 0; to &= to - 1 {
		w.send(bits.TrailingZeros32(to))
	}
}

// send prepares the write at one member.
func (w *hwrite) send(slot int) {
	r, h := w.r, w.r.h
	own := w.slot(slot)
	s := own
	if s.cur != nil && !s.cur.gone {
		return
	}
	if s.cur != nil { // the first message may still be on its way and is not touched
		s = &wslot{}
	}
	own.cur = &s.call
	w.sent |= 1 << slot
	p, wr := r.members[slot], w.w
	mark := r.told()
	if !mark.Less(w.version) { // a finished write that a joiner still needs, under a broken rule
		mark = blocktree.Version{}
	}
	s.rec = Record{
		Kind: wr.Kind, File: h.layout.File, Region: wr.Region, First: wr.First, Count: wr.Count, Version: w.version,
		Digest: wr.Digest, Watermark: mark, Shard: r.shard(slot), ShardBytes: wr.ShardBytes, Seals: wr.Seals,
	}
	if wr.Kind == RecordData {
		s.rec.Payload = wr.Shards[s.rec.Shard]
	}
	s.msg = Message{
		Kind: KindPrepare, Node: p.node, File: h.layout.File, Region: r.index, Epoch: h.epoch, View: r.view.ID,
		Incarnation: h.layout.Incarnations[p.node], Watermark: mark, Version: w.version, Record: &s.rec, Memory: wr.Memory,
	}
	s.call = call{msg: &s.msg, peer: p, owner: w, slot: slot}
	h.stats.PrepareRecordsSent++
	h.post(&s.call)
}

func (w *hwrite) onSlow(*call) {}

func (w *hwrite) onAnswer(c *call, a *Message) {
	h := w.r.h
	bit := uint32(1) << c.slot
	if c.msg.Kind == KindAbort {
		w.abortAnswer(c, a, bit)
		return
	}
	switch a.Err {
	case blocktree.Other:
		w.stored(c.slot)
		if bit&w.r.heldFor != 0 && w.abort == nil && !w.finished {
			w.sendAll()
		}
		w.tryFinish()
		w.r.advance()
		if w.r.heldFor != 0 && h.job != nil {
			h.job.pump()
		}
	case blocktree.NoSpace:
		w.noSpace(c.slot)
	case blocktree.Canceled: // it refuses durably already
		if w.r.sync&bit == 0 && (w.abort == nil || !w.abort.final) { // a joiner refuses what the others keep: only a reset cures it
			if w.r.isHeir(c.slot) {
				h.sendAway(w.r.index)
				h.putBack(c)
				return
			}
			c.peer.gone = true
			h.considerRemoval()
			h.putBack(c)
			return
		}
		w.beginAbort(c.slot, bit)
		w.finalAbort(bit)
	case blocktree.Corrupt, blocktree.Invalid, blocktree.OutOfRange: // a second write of one version: never ours to do
		w.report(a.Err)
	default:
		h.failedAnswer(c, a)
	}
}

// tryFinish acknowledges the write if every in-sync and joining member of the newest view has answered, enough are in
// sync, and all of them know the view (rules 1 to 3; I1, I6).
func (w *hwrite) tryFinish() {
	r, h := w.r, w.r.h
	if w.state != live || w.finished || w.abort != nil {
		return
	}
	k := h.layout.Code.Data
	if h.mut == mutAckAtK && bits.OnesCount32(w.answered&r.sync) >= k {
		w.finish(blocktree.Other)
		return
	}
	if !r.open || w.answered&r.mask != r.mask {
		return
	}
	invariant.Check(bits.OnesCount32(w.answered&r.sync) >= k, "write %v acknowledged by fewer than k members", w.version)
	w.finish(blocktree.Other)
}

func (w *hwrite) finish(err blocktree.Kind) {
	w.finished, w.aborted = true, err != blocktree.Other
	if !w.aborted {
		w.r.h.stats.WritesDone++
		w.r.h.vol.acknowledged(w)
		if w.r.h.mut == mutReleaseEarly {
			w.r.h.next.Released = append(w.r.h.next.Released, w.w)
		}
	} else {
		w.r.h.stats.Aborted++
		w.r.noteAborted(w.version.Sequence)
	}
	w.report(err)
}

// noteAborted keeps an aborted version for as long as reads run that may have seen it pending. If they never all end at
// once, those of the region begin again when the list is full: every member refuses it by then, so they see it no more.
func (r *hregion) noteAborted(s blocktree.Sequence) {
	if len(r.aborted) >= InFlightMax {
		clear(r.aborted)
		for _, x := range slices.Clone(r.h.reads) {
			if x.region == r.index && r.h.phase == running {
				x.restart()
			}
		}
	}
	if r.aborted == nil {
		r.aborted = map[blocktree.Sequence]bool{}
	}
	r.aborted[s] = true
}

// report gives the operation its outcome, once.
func (w *hwrite) report(err blocktree.Kind) {
	h := w.r.h
	if w.reported {
		return
	}
	w.reported = true
	h.done(w.op, err, nil)
	if h.qhead < len(h.queue) && h.queue[h.qhead] == w {
		h.popQueue()
	}
}

func (h *Holder) popQueue() {
	for h.qhead < len(h.queue) && h.queue[h.qhead].reported {
		h.queue[h.qhead] = nil
		h.qhead++
	}
	if h.qhead == len(h.queue) {
		h.queue, h.qhead = h.queue[:0], 0
	} else if h.qhead > 64 && h.qhead*2 > len(h.queue) {
		k := copy(h.queue, h.queue[h.qhead:])
		clear(h.queue[k:])
		h.queue, h.qhead = h.queue[:k], 0
	}
	h.checkFlushes()
}

// advance moves the watermark over all that is settled at every member, joining ones included.
func (r *hregion) advance() {
	h := r.h
	moved := false
	for r.head < len(r.writes) {
		w := r.writes[r.head]
		settled := w.state == cancelled || w.finished && (w.aborted || w.answered&r.mask == r.mask && w.stable() || h.mut == mutAckAtK)
		if !settled {
			break
		}
		if w.w != nil {
			if h.mut != mutReleaseEarly || w.aborted {
				h.next.Released = append(h.next.Released, w.w)
			}
			h.vol.passed(w)
		}
		r.writes[r.head] = nil
		r.head++
		r.mark++
		h.above--
		moved = true
	}
	if r.head == len(r.writes) {
		r.writes, r.head = r.writes[:0], 0
	} else if r.head > 64 && r.head*2 > len(r.writes) {
		k := copy(r.writes, r.writes[r.head:])
		clear(r.writes[k:])
		r.writes, r.head = r.writes[:k], 0
	}
	if moved {
		h.markDirty(r)
		h.unpark()
	}
}

func (h *Holder) markDirty(r *hregion) {
	if !r.isDirty {
		r.isDirty = true
		h.dirty = append(h.dirty, r)
	}
}

// tickWrites fails what has waited too long (it stays in flight), and tells idle regions' members the watermark.
func (h *Holder) tickWrites() {
	for h.qhead < len(h.queue) {
		w := h.queue[h.qhead]
		if !w.reported && h.now-w.at < h.stall {
			break
		}
		w.report(blocktree.Unavailable)
		if h.qhead < len(h.queue) && h.queue[h.qhead] == w {
			h.popQueue()
		}
	}
	h.checkFlushes()
	h.failFlushes()
	h.pumpSync()
	h.askOfLost()
	if h.phase != running {
		return
	}
	keep := h.dirty[:0]
	for _, r := range h.dirty {
		if len(h.reads) == 0 {
			r.aborted = nil
		}
		if h.now-r.lastWrite < idleCommit {
			keep = append(keep, r)
			continue
		}
		r.isDirty = false
		if r.mark > r.toldMark || r.commitDue {
			r.sendCommit()
		}
	}
	clear(h.dirty[len(keep):])
	h.dirty = keep
}

// TellWatermarks tells every region's members the watermark now, as a tick would once they are idle: the holder is about to let go.
func (h *Holder) TellWatermarks() {
	if h.phase != running {
		return
	}
	for _, r := range h.dirty {
		if r.mark > r.toldMark || r.commitDue {
			r.sendCommit()
		}
	}
}

// tellAgain has the members told the watermark once more, if there is one: a Commit is not answered, so whoever has not got it, or refused it, is told by another.
func (r *hregion) tellAgain() {
	if r.commitDue = r.commitDue || r.mark > 0; r.commitDue {
		r.h.markDirty(r)
	}
}

func (r *hregion) sendCommit() {
	h := r.h
	r.toldMark, r.commitDue = r.mark, false
	for i, p := range r.members {
		if r.all&^r.unready>>i&1 == 0 || !p.up {
			continue
		}
		h.nextID++
		h.next.Messages = append(h.next.Messages, &Message{
			Kind: KindCommit, ID: h.nextID, Node: p.node, File: h.layout.File, Region: r.index, Epoch: h.epoch,
			View: r.view.ID, Incarnation: h.layout.Incarnations[p.node], Watermark: r.told(),
		})
	}
}
