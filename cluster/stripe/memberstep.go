package stripe

import (
	"blocktree"
)

// byView says whether messages of this kind go by the view of their region (else by Seq, for the whole file).
func (k MessageKind) byView() bool {
	return k != KindFence && k != KindRepair && k != KindLearn && k != KindSync
}

// ahead reports whether the node's Raft log is behind msg, or behind what the node has promised before a restart.
func (m *Member) ahead(f *memberFile, msg *Message) bool {
	l := f.layout
	if l == nil || l.Seq < f.seq || l.Epoch < f.epoch {
		return true
	}
	if m.mut == mutNoCatchUp {
		return false
	}
	if msg.Epoch > l.Epoch {
		return true
	}
	if msg.Kind.byView() {
		return msg.View > l.Seq
	}
	return msg.Seq > l.Seq
}

// Step takes one request. What comes of it is in the next Ready.
func (m *Member) Step(msg *Message) {
	f := m.files[msg.File]
	if f == nil {
		f = m.file(msg.File)
	}
	m.use(f)
	if m.ahead(f, msg) {
		m.park(f, msg, 0)
		return
	}
	if err := m.admit(f, msg); err != blocktree.Other {
		m.answer(f, msg, err)
		return
	}
	if f.seq < f.layout.Seq || f.epoch < f.layout.Epoch {
		c := control{kind: ctlPromise, epoch: f.layout.Epoch, seq: f.layout.Seq}
		m.hand(f, m.controlRecord(f, &c))
	}
	m.noteWhole(f, msg)
	switch msg.Kind {
	case KindPrepare:
		m.prepare(f, msg)
	case KindCommit:
		m.moveWatermark(f, msg)
	case KindAbort:
		m.abort(f, msg)
	case KindFence:
		m.fence(f, msg)
	case KindRepair:
		m.repair(f, msg)
	case KindLearn:
		m.answerAfter(f, m.reply(msg, blocktree.Other), 0)
	case KindRead, KindList, KindDigest:
		m.read(f, msg)
	case KindReset:
		m.stepReset(f, msg)
	case KindInstall:
		m.install(f, msg)
	case KindForget:
		m.forget(f, msg)
	case KindSync:
		m.sync(f, msg)
	}
}

// noteWhole writes down, once, that the node is in sync in a region under its incarnation: should it leave and come back
// as the same, it has missed only what is newer than its watermark.
func (m *Member) noteWhole(f *memberFile, msg *Message) {
	if !msg.Kind.byView() {
		return
	}
	v := m.view(f, msg.Region)
	if r := f.regions[msg.Region]; r != nil && r.whole != m.wholeAs(f, v.shard) && !r.newest.IsZero() && v.state == InSync {
		m.noted = m.hand(f, m.controlRecord(f, &control{kind: ctlWhole, region: msg.Region, incarnation: m.wholeAs(f, v.shard)}))
	}
}

// wholeAs is how the node writes down that it is in sync in a place of a region: its incarnation, and in the last byte of that the
// place. One that is given another place of the region has the shards of the place before.
func (m *Member) wholeAs(f *memberFile, shard blocktree.ShardIndex) blocktree.Incarnation {
	inc := m.incOf(f)
	if m.mut != mutWholeAnywhere {
		inc[len(inc)-1] ^= byte(shard + 1)
	}
	return inc
}

// admit checks epoch, view, incarnation and place (rules 1, 2, 6; I3).
func (m *Member) admit(f *memberFile, msg *Message) blocktree.Kind {
	l := f.layout
	read := msg.Kind == KindRead
	loose := read && m.mut == mutReadStaleView
	if msg.Answer || msg.Kind == 0 || msg.Kind >= kindEnd {
		return blocktree.Invalid
	}
	if msg.Epoch < l.Epoch && m.mut != mutNoFence && !loose && (m.mut != mutFirstLate || msg.Epoch != firstEpoch) {
		return blocktree.Fenced
	}
	if inc := m.incOf(f); m.mut != mutNoIncarnation && (msg.Incarnation != inc || l.Incarnations[m.node] != inc || l.Marked[m.node]) {
		return blocktree.StaleMember
	}
	if msg.Kind == KindRepair && !validRepairs(l, msg) {
		return blocktree.Invalid
	}
	if !msg.Kind.byView() {
		return blocktree.Other
	}
	if msg.Region >= l.Regions() {
		return blocktree.OutOfRange
	}
	v := m.view(f, msg.Region)
	if msg.View != v.id && m.mut != mutNoViewCheck && m.mut != mutNoCatchUp && !loose {
		return blocktree.StaleView
	}
	if msg.View > v.id && m.mut != mutNoCatchUp {
		return blocktree.StaleView // the region never had that view
	}
	lax := m.mut == mutNoViewCheck || loose
	switch {
	case !v.member:
		return blocktree.StaleView
	case v.state == Out && !lax, read && v.state != InSync && !lax, (msg.Kind == KindReset || msg.Kind == KindForget) && v.state != Joining:
		return blocktree.StaleView
	}
	return m.checkRun(l, v, msg)
}

// checkRun refuses runs and records that do not fit the file.
func (m *Member) checkRun(l *Layout, v memberView, msg *Message) blocktree.Kind {
	first, count := l.Run(msg.Region)
	inside := func(f blocktree.SectorIndex, n uint64) bool {
		return n > 0 && n <= count && f >= first && uint64(f-first) <= count-n
	}
	switch msg.Kind {
	case KindRead:
		if !inside(msg.First, msg.Count) || msg.Count > uint64(l.RunSectorsMax()) && msg.Want != WantZeros || msg.Want < WantShards || msg.Want > WantZeros {
			return blocktree.OutOfRange
		}
	case KindList:
		if !inside(msg.First, msg.Count) {
			return blocktree.OutOfRange
		}
	case KindDigest:
		if msg.Count == 0 || msg.Count > DigestSectorsMax || !inside(msg.First, 1) || uint64(msg.First-first)%msg.Count != 0 {
			return blocktree.OutOfRange
		}
	case KindAbort:
		if msg.Version.Epoch != msg.Epoch {
			return blocktree.Invalid
		}
	case KindReset, KindForget:
		if msg.Seq > l.Seq || msg.Watermark.Epoch > msg.Epoch {
			return blocktree.Invalid
		}
	case KindPrepare, KindInstall:
		rec := msg.Record
		if rec == nil || rec.File != msg.File || rec.Region != msg.Region || !inside(rec.First, uint64(rec.Count)) ||
			rec.Version.IsZero() || rec.Watermark.Epoch > msg.Epoch || rec.Version.Epoch > msg.Epoch || rec.Installed != (msg.Kind == KindInstall) ||
			msg.Kind == KindPrepare && rec.Version.Epoch != msg.Epoch || rec.Shard != v.shard {
			return blocktree.Invalid
		}
		return checkRecord(l, rec)
	}
	return blocktree.Other
}

// validRepairs refuses decisions on regions that are not there, or on anything but older epochs.
func validRepairs(l *Layout, msg *Message) bool {
	entries := 0
	for i := range msg.Repairs {
		p := &msg.Repairs[i]
		if entries += 1 + len(p.Winners); entries > repairEntriesMax+1+InFlightMax { // it becomes one control record
			return false
		}
		if p.Region >= l.Regions() || p.Floor.Epoch >= msg.Epoch {
			return false
		}
		last := p.Floor
		for _, v := range p.Winners {
			if !last.Less(v) || v.Epoch >= msg.Epoch {
				return false
			}
			last = v
		}
	}
	return true
}

func checkRecord(l *Layout, rec *Record) blocktree.Kind {
	switch rec.Kind {
	case RecordData:
		if rec.Count <= l.RunSectorsMax() && int(rec.ShardBytes) == l.Code.ShardBytes(int(l.SectorBytes)) &&
			len(rec.Payload) == int(rec.Count)*int(rec.ShardBytes) && len(rec.Seals) == int(rec.Count)*SealBytes && rec.Control == nil {
			return blocktree.Other
		}
	case RecordZero:
		if len(rec.Payload) == 0 && len(rec.Seals) == 0 && rec.ShardBytes == 0 && rec.Control == nil {
			return blocktree.Other
		}
	}
	return blocktree.Invalid
}

// usable reports whether region i may be written under epoch: the node was fenced and repaired in it, or copied up, or the region is no older.
func (m *Member) usable(f *memberFile, i blocktree.RegionIndex, r *memberRegion, epoch blocktree.Epoch) bool {
	if m.mut == mutFirstLater || m.mut == mutFirstLate && epoch == firstEpoch {
		return true
	}
	return f.fenced == epoch && !f.recovering || r.resetEpoch == epoch || f.layout.bornUnder(i, epoch)
}

// prepare stores a record durably, then answers (rule 1); of a file of durability flush it answers once the record is written.
// A duplicate is answered when the original is stored so.
func (m *Member) prepare(f *memberFile, msg *Message) {
	rec := msg.Record
	r := f.region(msg.Region)
	a := m.reply(msg, blocktree.Other)
	a.Version = rec.Version
	if !m.usable(f, msg.Region, r, msg.Epoch) && m.mut != mutNoFence && m.mut != mutNoCatchUp && m.mut != mutNoRepairWait {
		a.Err = blocktree.Recovering
		m.next.Answers = append(m.next.Answers, a)
		return
	}
	if !r.watermark.Less(rec.Version) {
		m.answerAfter(f, a, 0) // done with long ago
		return
	}
	if r.isAborted(rec.Version) {
		a.Err = blocktree.Canceled
		m.answerAfter(f, a, r.abortNo)
		return
	}
	if i, ok := r.find(rec.Version); ok {
		h := r.pending[i]
		if h.Digest == rec.Digest && h.First == rec.First && h.Count == rec.Count {
			m.answerStored(f, a, h.no)
			return
		}
		if m.mut != mutSecondDigest {
			a.Err = blocktree.Corrupt
			m.next.Answers = append(m.next.Answers, a)
			return
		}
		r.remove(i)
	}
	if m.mut == mutTornTombstone && rec.Kind == RecordZero {
		torn := *rec
		torn.Count = 1
		rec = &torn
	}
	at, found := r.find(rec.Watermark)
	if found {
		at++
	}
	if len(r.pending)-at >= InFlightMax { // no holder has more in flight: a take-over could not list them
		a.Err = blocktree.Busy
		m.next.Answers = append(m.next.Answers, a)
		return
	}
	m.answerStored(f, a, m.hand(f, rec))
}

// moveWatermark commits what is at or below msg.Watermark; the record of it rides with the next sync.
func (m *Member) moveWatermark(f *memberFile, msg *Message) uint64 {
	r := f.region(msg.Region)
	if !r.watermark.Less(msg.Watermark) || !m.usable(f, msg.Region, r, msg.Epoch) && m.mut != mutNoRepairWait || msg.Watermark.Epoch > msg.Epoch {
		return 0
	}
	return m.hand(f, m.controlRecord(f, &control{kind: ctlWatermark, region: msg.Region, version: msg.Watermark}))
}

// abort refuses a version for ever; see decision 7.
func (m *Member) abort(f *memberFile, msg *Message) {
	r := f.region(msg.Region)
	a := m.reply(msg, blocktree.Other)
	if !m.usable(f, msg.Region, r, msg.Epoch) {
		a.Err = blocktree.Recovering
		m.next.Answers = append(m.next.Answers, a)
		return
	}
	if r.isAborted(msg.Version) {
		m.answerAfter(f, a, r.abortNo)
		return
	}
	if !r.watermark.Less(msg.Version) {
		a.Held = true
		m.answerAfter(f, a, 0)
		return
	}
	if i, ok := r.find(msg.Version); ok && !msg.Last {
		a.Held = true
		m.answerOf(f, a, r.pending[i].no, r.pending[i].no)
		return
	}
	if len(r.aborted) >= InFlightMax && msg.Watermark.Less(msg.Version) { // those at or below the watermark are over
		m.moveWatermark(f, msg)
	}
	if len(r.aborted) >= InFlightMax { // no holder has more in flight, and they stay in memory and in every checkpoint
		a.Err = blocktree.Busy
		m.next.Answers = append(m.next.Answers, a)
		return
	}
	no := m.hand(f, m.controlRecord(f, &control{kind: ctlAbort, epoch: msg.Epoch, region: msg.Region, version: msg.Version}))
	r.abortNo = no
	if m.mut == mutAbortWritten && f.isFlush() {
		r.abortNo, no = 0, 0
	}
	m.answerAfter(f, a, no)
}

// fence promises the epoch and tells what is in flight (rule 4). What it tells is durable when the answer goes: the fence
// record comes after all of it in the log.
func (m *Member) fence(f *memberFile, msg *Message) {
	if f.fenced < msg.Epoch {
		c := control{kind: ctlFence, epoch: msg.Epoch, seq: f.layout.Seq}
		m.hand(f, m.controlRecord(f, &c))
	}
	a := m.reply(msg, blocktree.Other)
	a.Regions, a.Last = f.states(msg.Region)
	m.answerAfter(f, a, 0)
}

// repair takes the new holder's decision (rule 5).
func (m *Member) repair(f *memberFile, msg *Message) {
	a := m.reply(msg, blocktree.Other)
	if f.fenced != msg.Epoch {
		a.Err = blocktree.Recovering
	} else if f.recovering {
		c := control{kind: ctlRepair, epoch: msg.Epoch, seq: f.layout.Seq, last: msg.Last, repairs: m.ownRepairs(f, msg.Repairs)}
		m.hand(f, m.controlRecord(f, &c))
		if m.mut == mutRepairWritten && f.isFlush() {
			f.promiseNo = m.durable
		}
	}
	m.answerAfter(f, a, 0)
}

// ownRepairs are those of the regions that the node is in sync in. It is asked as it is in sync or joining somewhere; where it
// is not, it may have missed what is acknowledged, and hold what is void, below any floor.
func (m *Member) ownRepairs(f *memberFile, all []Repair) []Repair {
	if m.mut == mutRepairOut {
		return all
	}
	var own []Repair
	for _, r := range all {
		if m.view(f, r.Region).state == InSync {
			own = append(own, r)
		}
	}
	return own
}

// read hands a task to the driver. The answer must not leave before the promise it relies on is durable.
func (m *Member) read(f *memberFile, msg *Message) {
	r := f.regions[msg.Region]
	born := f.layout.bornUnder(msg.Region, msg.Epoch) || m.mut == mutFirstLater
	if !born && (f.recovering && (r == nil || r.resetEpoch < f.fenced) || m.undecided(f, r)) {
		m.answer(f, msg, blocktree.Recovering)
		return
	}
	if f.promiseNo > m.durable && m.mut != mutVolatileFence {
		m.heldReads = append(m.heldReads, msg)
		return
	}
	task := ReadTask{Request: msg, Shard: m.view(f, msg.Region).shard, mut: m.mut}
	var newest blocktree.Version
	if r != nil {
		if msg.Kind != KindRead && r.installNo > m.durable && m.mut != mutListVolatile {
			m.heldReads = append(m.heldReads, msg) // nobody may wait for that install any more: it counts once it is durable
			return
		}
		if r.watermark.Less(msg.Watermark) && r.anyUpTo(msg.Watermark, msg) && (msg.Kind == KindRead || m.mut != mutListNoMark) {
			m.moveWatermark(f, msg)
		}
		task.Pending = r.overlapping(msg, m.stored(f), m.mut == mutReadVolatile)
		newest = r.newest
	}
	if msg.Kind == KindDigest && msg.Held { // nothing is looked up
		a := m.reply(msg, blocktree.Other)
		a.Held = newest == msg.Version
		m.answerAfter(f, a, 0)
		return
	}
	m.next.Reads = append(m.next.Reads, task)
}

// undecided reports whether what was lost of a file is not decided yet, so that what the node has of it may be void.
func (m *Member) undecided(f *memberFile, r *memberRegion) bool {
	at := f.layout.LossEpoch
	return f.fenced < at && (r == nil || r.resetEpoch < at) && m.mut != mutReadAfterLoss
}

// sync answers once everything that was handed out is durable: what was answered before it came, and more.
func (m *Member) sync(f *memberFile, msg *Message) {
	after := m.handed
	if m.mut == mutSyncNothing {
		after = 0
	}
	m.needDurable = max(m.needDurable, after)
	m.answerAfter(f, m.reply(msg, blocktree.Other), after)
}

// stepReset begins a copy-up, once per join. The answer says whether the node had missed nothing up to its watermark, and
// what is the newest that it has.
func (m *Member) stepReset(f *memberFile, msg *Message) {
	r := f.region(msg.Region)
	a := m.reply(msg, blocktree.Other)
	switch {
	case msg.Seq < r.resetSeq:
		a.Err = blocktree.StaleView
	case msg.Seq > r.resetSeq:
		unbroken := (r.whole == m.wholeAs(f, m.view(f, msg.Region).shard) || m.mut == mutSkipUnwhole) && (!r.watermark.Less(r.newest) || m.mut == mutSkipDecided)
		c := control{kind: ctlReset, epoch: msg.Epoch, seq: msg.Seq, region: msg.Region, version: msg.Watermark}
		f.promiseNo = m.hand(f, m.controlRecord(f, &c))
		r.unbroken, r.missedNone = unbroken, r.newest
	}
	a.Held, a.Version = r.unbroken, r.missedNone // not r.newest: later in this join that is of writes that came to everybody
	if m.mut == mutSkipPaused {
		a.Version = r.newest
	}
	m.answerAfter(f, a, 0)
}

// forget drops what is committed in a region that is being copied up, once per join. Promises and pending records stay.
func (m *Member) forget(f *memberFile, msg *Message) {
	r := f.region(msg.Region)
	a := m.reply(msg, blocktree.Other)
	switch {
	case msg.Seq != r.resetSeq:
		a.Err = blocktree.StaleView
	case !r.forgot || m.mut == mutForgetTwice:
		first, count := f.layout.Run(msg.Region)
		c := control{kind: ctlForget, epoch: msg.Epoch, seq: msg.Seq, region: msg.Region, first: first, count: count}
		f.promiseNo = m.hand(f, m.controlRecord(f, &c))
	}
	m.answerAfter(f, a, 0)
}

// install stores a committed record (copy-up, mended shard).
func (m *Member) install(f *memberFile, msg *Message) {
	r := f.region(msg.Region)
	a := m.reply(msg, blocktree.Other)
	a.Version = msg.Record.Version
	if !m.usable(f, msg.Region, r, msg.Epoch) {
		a.Err = blocktree.Recovering
		m.next.Answers = append(m.next.Answers, a)
		return
	}
	no := m.hand(f, msg.Record)
	if m.mut == mutInstallWritten {
		m.answerStored(f, a, no)
		return
	}
	m.answerOf(f, a, no, no)
}

// Answer makes the reply to a task out of what the driver found: committed extents (see Message.Extents), the shards and
// seals of the Data ones in order, for a KindDigest the digests as payload, and for lists, digests and zeros where to go on. Of a WantExact, committed is what was
// found of it; of a WantZeros it covers the run from First to next without gaps, and versions do not matter.
func (t *ReadTask) Answer(node blocktree.NodeID, committed []Extent, payload, seals []byte, next blocktree.SectorIndex, err blocktree.Kind) *Message {
	q := t.Request
	a := &Message{
		Kind: q.Kind, Answer: true, ID: q.ID, Node: node, File: q.File, Region: q.Region, Epoch: q.Epoch, View: q.View,
		Version: q.Version, First: q.First, Count: q.Count, Want: q.Want, Err: err,
	}
	if err != blocktree.Other {
		return a
	}
	a.Extents, a.Payload, a.Seals, a.Next = committed, payload, seals, next
	if q.Kind == KindRead && q.Want == WantZeros {
		a.Extents, a.Next = t.zeros(committed, next)
		return a
	}
	if q.Kind == KindRead && q.Want != WantExact && len(t.Pending) > 0 {
		a.Extents = make([]Extent, len(committed), len(committed)+len(t.Pending))
		copy(a.Extents, committed)
		for _, h := range t.Pending {
			if x, ok := clip(h.Extent(true), q.First, q.Count); ok {
				a.Extents = append(a.Extents, x)
			}
		}
	}
	return a
}

// clip cuts an extent to a run.
func clip(x Extent, first blocktree.SectorIndex, count uint64) (Extent, bool) {
	lo := max(x.First, first)
	hi := min(uint64(x.First)+uint64(x.Count), uint64(first)+count)
	if uint64(lo) >= hi {
		return x, false
	}
	x.First, x.Count = lo, uint32(hi-uint64(lo))
	return x, true
}
