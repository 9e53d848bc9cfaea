package stripe

import (
	"blocktree"
	"blocktree/internal/invariant"
)

// ParkedMax bounds the messages of one file that wait until the node has caught up with its Raft log; more get Busy.
const ParkedMax = 4096

// Member is the node's machine: it keeps the promises of one node for all files it hosts. See MemberReady for the loop.
type Member struct {
	node blocktree.NodeID
	inc  blocktree.Incarnation
	vol  blocktree.Incarnation // what files of durability flush know it by (docs/design/0014)
	mut  mutant

	files   map[blocktree.FileID]*memberFile
	packed  map[blocktree.FileID]string // what a checkpoint has of files that were not used for long (memberkeep.go); none is in files
	kept    keptLayouts
	handed  uint64 // records handed out (also those still in next.Records)
	written uint64 // of those, how many a restart after a kill finds: they are in the log file
	durable uint64 // and how many are known to be durable
	// needDurable is how many have to be made durable without being asked: an answer, a read or a promise waits for that.
	needDurable uint64
	noted       uint64 // the newest note that the node was in sync: nothing waits for it

	next, last memberOut // next is being filled, last was given out
	waiting    []waitingAnswer
	waitHead   int
	unwritten  []waitingAnswer // to writes of files of durability flush whose records are not written yet, in their order
	heldReads  []*Message      // reads that wait for a promise to be durable
}

// memberOut is a MemberReady being made, and the Held of each of its records (nil for control records).
type memberOut struct {
	MemberReady
	held []*Held
}

type waitingAnswer struct {
	after uint64 // waits for that many durable records
	of    uint64 // number of the data record that it speaks of, 0 for none
	msg   *Message
}

// memberFile is what a node knows of one file.
type memberFile struct {
	id     blocktree.FileID
	layout *Layout // newest learnt from Raft; nil before the first, and where it was not kept
	kept   keptPlace

	// Promises, all of them in the log.
	epoch      blocktree.Epoch  // newest layout that anything was answered under
	seq        blocktree.ViewID // likewise
	fenced     blocktree.Epoch  // newest fence answered
	recovering bool             // fenced, not yet repaired
	regions    map[blocktree.RegionIndex]*memberRegion

	promiseNo uint64 // number of the newest record that epoch, seq or fenced went by
	views     map[blocktree.RegionIndex]memberView
	parked    []parkedMessage
	catching  bool
}

// memberView is the node's place in a region's view.
type memberView struct {
	id     blocktree.ViewID
	state  MemberState
	shard  blocktree.ShardIndex
	member bool
}

type parkedMessage struct {
	msg   *Message
	tries int
}

// NewMember makes the machine of a node that has promised nothing yet.
func NewMember(node blocktree.NodeID, inc blocktree.Incarnation) *Member {
	return &Member{node: node, inc: inc, vol: inc, files: map[blocktree.FileID]*memberFile{}, packed: map[blocktree.FileID]string{}}
}

// incOf is the incarnation that the views of a file expect.
func (m *Member) incOf(f *memberFile) blocktree.Incarnation {
	if f.isFlush() {
		return m.vol
	}
	return m.inc
}

func (f *memberFile) isFlush() bool { return f.layout != nil && f.layout.Durability == DurabilityFlush }

// stored is how many records may be told of as held, and answered for if they are writes.
func (m *Member) stored(f *memberFile) uint64 {
	if f.isFlush() && m.mut != mutToldUnwritten {
		return max(m.written, m.durable)
	}
	if f.isFlush() {
		return m.handed
	}
	return m.durable
}

// SetMutant breaks a rule on purpose; tests only.
func (m *Member) SetMutant(name string) { m.mut = parseMutant(name) }

// Learn tells what the node's own Raft log says of a file. An older layout than one that was learnt is ignored.
func (m *Member) Learn(l *Layout) {
	f := m.file(l.File)
	if f.layout != nil && l.Seq < f.layout.Seq {
		return
	}
	m.kept.leave(f) // its layout may be longer now
	f.layout = l
	clear(f.views)
	m.use(f)
	m.unpark(f, false)
	m.trim()
}

// CaughtUp tells that a catch-up that Ready asked for is over, whether or not Learn was called meanwhile.
func (m *Member) CaughtUp(file blocktree.FileID) {
	if f := m.files[file]; f != nil {
		f.catching = false
		m.unpark(f, true)
		m.trim()
	}
}

// Forget drops a file that Raft says is removed. It is called again after a restart for files that Raft does not know.
func (m *Member) Forget(file blocktree.FileID) {
	f := m.find(file)
	if f == nil {
		return
	}
	m.kept.leave(f)
	for _, r := range sortedRegions(f.regions) {
		run := RegionRun{File: file, Region: r}
		if f.layout != nil && r < f.layout.Regions() {
			run.First, run.Count = f.layout.Run(r)
		}
		m.reset(f, run)
		m.next.Drops = append(m.next.Drops, f.regions[r].pending...)
	}
	for _, p := range f.parked {
		m.answer(f, p.msg, blocktree.NotFound)
	}
	delete(m.files, file)
}

// Files lists the files the machine has state of, for the driver to Forget what Raft does not know.
func (m *Member) Files() []blocktree.FileID { return m.sortedFiles() }

// Ready returns what is to be done and starts anew; see MemberReady.
func (m *Member) Ready() MemberReady {
	if m.needDurable > m.durable {
		m.next.SyncTo = m.needDurable
	}
	if m.noted > m.durable {
		m.next.SoonTo = m.noted
	}
	out := m.next
	clear(m.last.Records) // what they held, shards among it, may go
	clear(m.last.Answers)
	m.next = memberOut{
		MemberReady: MemberReady{
			Records: m.last.Records[:0], Resets: m.last.Resets[:0], Commits: m.last.Commits[:0], Drops: m.last.Drops[:0],
			Reads: m.last.Reads[:0], Answers: m.last.Answers[:0], CatchUp: m.last.CatchUp[:0],
		},
		held: m.last.held[:0],
	}
	m.last = out
	return out.MemberReady
}

// Located tells where the records of the last Ready are. noSpace lists, ascending, the data records among them that
// could not be stored: they never happened. It is called before anything else is.
func (m *Member) Located(refs []Ref, noSpace []int) {
	invariant.Check(len(refs) == len(m.last.held), "%d refs for %d records", len(refs), len(m.last.held))
	for i, h := range m.last.held {
		if h != nil {
			h.Ref = refs[i]
		}
	}
	for _, i := range noSpace {
		m.unstore(m.last.held[i], m.last.Records[i])
	}
	for _, h := range m.last.held {
		if h == nil || !h.late || h.Void {
			continue
		}
		if f := m.find(h.File); f != nil {
			f.region(h.Region).raise(h.Version)
		}
	}
	clear(m.last.held)
	m.last.held = m.last.held[:0]
}

// unstore takes back a data record that found no space.
func (m *Member) unstore(h *Held, rec *Record) {
	invariant.Check(h != nil, "a control record of file %v was not stored", rec.File)
	f := m.find(h.File)
	if f == nil {
		return
	}
	r := f.region(h.Region)
	if i, ok := r.find(h.Version); ok && r.pending[i] == h {
		r.remove(i)
	}
	h.Void = true
	for i := m.waitHead; i < len(m.waiting); i++ {
		switch w := &m.waiting[i]; {
		case w.msg.File != h.File:
		case w.of == h.no && w.msg.Kind == KindAbort, w.msg.Kind == KindFence && w.after >= h.no: // they tell of it as held
			w.msg.Err, w.msg.Held, w.msg.Regions, w.msg.Last = blocktree.Busy, false, nil, false
		case w.of == h.no:
			w.msg.Err = blocktree.NoSpace
		}
	}
	for i := range m.unwritten {
		if w := &m.unwritten[i]; w.of == h.no && w.msg.File == h.File {
			w.msg.Err = blocktree.NoSpace
		}
	}
	if !rec.Watermark.IsZero() { // what it said of the watermark stands, so it needs a record of its own
		m.hand(f, m.controlRecord(f, &control{kind: ctlWatermark, region: h.Region, version: rec.Watermark}))
	}
}

// Durable tells that the first n records handed out by this machine are durable (those without space count too).
func (m *Member) Durable(n uint64) {
	if n <= m.durable {
		return
	}
	invariant.Check(n <= m.handed, "%d records durable of %d handed out", n, m.handed)
	m.durable = n
	m.releaseWritten()
	for m.waitHead < len(m.waiting) && m.waiting[m.waitHead].after <= n {
		m.next.Answers = append(m.next.Answers, m.waiting[m.waitHead].msg)
		m.waiting[m.waitHead] = waitingAnswer{}
		m.waitHead++
	}
	if m.waitHead == len(m.waiting) {
		m.waiting, m.waitHead = m.waiting[:0], 0
	} else if m.waitHead > 64 && m.waitHead*2 > len(m.waiting) {
		k := copy(m.waiting, m.waiting[m.waitHead:])
		clear(m.waiting[k:])
		m.waiting, m.waitHead = m.waiting[:k], 0
	}
	if len(m.heldReads) > 0 {
		reads := m.heldReads
		m.heldReads = nil
		for _, msg := range reads {
			m.Step(msg)
		}
	}
}

// Written tells that the first n records handed out are in the log file, where a restart after a kill of the process finds them. Only
// files of durability flush go by it. A driver that does not know need not call it: Durable says as much.
func (m *Member) Written(n uint64) {
	if n <= m.written {
		return
	}
	invariant.Check(n <= m.handed, "%d records written of %d handed out", n, m.handed)
	m.written = n
	m.releaseWritten()
}

// releaseWritten answers the writes that wait for their records to be written.
func (m *Member) releaseWritten() {
	n, to := 0, max(m.written, m.durable)
	for n < len(m.unwritten) && m.unwritten[n].of <= to {
		w := m.unwritten[n]
		m.unwritten[n] = waitingAnswer{}
		n++
		if w.after <= m.durable {
			m.next.Answers = append(m.next.Answers, w.msg)
		} else {
			m.enqueue(w)
		}
	}
	if m.unwritten = m.unwritten[n:]; len(m.unwritten) == 0 && cap(m.unwritten) < 64 {
		m.unwritten = nil
	}
}

// lazy reports whether a record may wait for a sync that something else asks for: it promises nothing that has to be durable. A watermark that is lost with the memory of a node leaves as pending what every member in sync has durably, and a take-over decides for that.
// A note that the node was in sync, lost so, costs a copy-up that could have been shorter: noted has it made durable soon.
func (m *Member) lazy(f *memberFile, rec *Record) bool {
	kind := controlKind(0)
	if rec.Kind == RecordControl && len(rec.Control) > 1 {
		kind = controlKind(rec.Control[1])
	}
	switch {
	case kind == ctlWatermark || kind == ctlWhole:
		return true
	case !f.isFlush():
		return false
	}
	return rec.Kind != RecordControl && !rec.Installed
}

// hand gives a record out to be appended and folds it into the state. It returns the record's number.
func (m *Member) hand(f *memberFile, rec *Record) uint64 {
	m.handed++
	if !m.lazy(f, rec) {
		m.needDurable = m.handed
	}
	h, err := m.fold(f, rec, m.handed)
	invariant.Check(err == nil, "own control record: %v", err)
	m.next.Records = append(m.next.Records, rec)
	m.next.held = append(m.next.held, h)
	return m.handed
}

func (m *Member) controlRecord(f *memberFile, c *control) *Record {
	return &Record{Kind: RecordControl, File: f.id, Region: c.region, Control: c.encode()}
}

// answer replies to msg at once, and answerAfter once the first after records and the file's promise are durable. Nobody
// waits for an answer to a Commit: whatever it meets, it is dropped.
func (m *Member) answer(f *memberFile, msg *Message, err blocktree.Kind) {
	if msg.Kind == KindCommit {
		return
	}
	m.next.Answers = append(m.next.Answers, m.reply(msg, err))
}

func (m *Member) answerAfter(f *memberFile, a *Message, after uint64) { m.answerOf(f, a, after, 0) }

// answerOf is answerAfter for an answer that is true only if data record of is stored.
func (m *Member) answerOf(f *memberFile, a *Message, after, of uint64) {
	after = max(after, f.promiseNo)
	if m.mut == mutLazySync && a.Kind == KindPrepare || m.mut == mutVolatileFence && a.Kind == KindFence {
		after = 0
	}
	if after <= m.durable {
		m.next.Answers = append(m.next.Answers, a)
		return
	}
	m.enqueue(waitingAnswer{after, of, a})
}

// answerStored replies to a PREPARE once data record of is stored as the file's durability demands, and the promise it goes by is durable.
func (m *Member) answerStored(f *memberFile, a *Message, of uint64) {
	if !f.isFlush() {
		m.answerOf(f, a, of, of)
		return
	}
	switch w := (waitingAnswer{f.promiseNo, of, a}); {
	case of > m.stored(f):
		m.unwritten = append(m.unwritten, w)
	case w.after > m.durable:
		m.enqueue(w)
	default:
		m.next.Answers = append(m.next.Answers, a)
	}
}

// enqueue keeps an answer until what it, and those before it, wait for is durable.
func (m *Member) enqueue(w waitingAnswer) {
	m.needDurable = max(m.needDurable, w.after)
	m.waiting = append(m.waiting, w)
}

func (m *Member) reply(msg *Message, err blocktree.Kind) *Message {
	return &Message{
		Kind: msg.Kind, Answer: true, ID: msg.ID, Node: m.node, File: msg.File, Region: msg.Region,
		Epoch: msg.Epoch, View: msg.View, Seq: msg.Seq, Version: msg.Version, Err: err,
	}
}

func (m *Member) file(id blocktree.FileID) *memberFile {
	f := m.find(id)
	if f == nil {
		f = &memberFile{id: id}
		m.files[id] = f
	}
	return f
}

// view returns the node's place in region r by the newest layout.
func (m *Member) view(f *memberFile, r blocktree.RegionIndex) memberView {
	v, ok := f.views[r]
	if !ok {
		w := f.layout.View(r)
		v.id = w.ID
		v.shard, v.state, v.member = w.place(m.node)
		if f.views == nil {
			f.views = map[blocktree.RegionIndex]memberView{}
		}
		f.views[r] = v
	}
	return v
}

// park keeps msg until the node has caught up.
func (m *Member) park(f *memberFile, msg *Message, tries int) {
	if len(f.parked) >= ParkedMax {
		m.answer(f, msg, blocktree.Busy)
		return
	}
	f.parked = append(f.parked, parkedMessage{msg, tries})
	if !f.catching {
		f.catching = true
		m.next.CatchUp = append(m.next.CatchUp, f.id)
	}
}

// unpark steps what is parked again. Of those that have waited for a whole catch-up, what still names a newer layout
// than Raft has is refused.
func (m *Member) unpark(f *memberFile, caughtUp bool) {
	parked := f.parked
	f.parked = nil
	for _, p := range parked {
		if caughtUp {
			p.tries++
		}
		switch {
		case f.layout != nil && !m.ahead(f, p.msg):
			m.Step(p.msg)
		case p.tries < 2:
			m.park(f, p.msg, p.tries)
		case f.layout == nil:
			m.answer(f, p.msg, blocktree.NotFound)
		default:
			m.answer(f, p.msg, blocktree.Unavailable)
		}
	}
	if f.layout == nil && f.seq == 0 && len(f.regions)+len(f.parked) == 0 {
		delete(m.files, f.id) // nobody knows it
		return
	}
	m.use(f)
}
