package stripe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"blocktree"
)

// The tests' world: nodes with an in-memory store, Raft as one truth that nodes learn late, a lossy network.

const (
	testSector  = 32
	testRegions = 2
	testRegion  = 8
)

func testLayout(code blocktree.Code) *Layout {
	l := &Layout{
		File: blocktree.FileID{Generation: 1, Inode: 7}, Code: code, SectorBytes: testSector, RegionSectors: testRegion,
		Sectors: testRegion*testRegions - 2, Seq: 1, BaseID: 1, Incarnations: map[blocktree.NodeID]blocktree.Incarnation{},
	}
	for i := range code.Shards() {
		n := blocktree.NodeID(i + 1)
		l.Hosts = append(l.Hosts, n)
		l.Incarnations[n] = incarnation(n, 1)
	}
	return l
}

func incarnation(n blocktree.NodeID, i int) blocktree.Incarnation {
	return blocktree.Incarnation{byte(n), byte(i)}
}

// testSectorState is one sector in a node's index.
type testSectorState struct {
	kind    ExtentKind
	version blocktree.Version
	payload []byte
	seals   []byte
	damaged bool
}

// testNode is a node: a machine, its log, its index.
type testNode struct {
	w       *world
	id      blocktree.NodeID
	m       *Member
	inc     int
	up      bool
	full    bool
	badPage bool      // of its index, in region 0: it can be neither listed nor digested
	noRead  bool      // nor read, there
	log     []*Record // log[:synced] survives a crash
	synced  int
	base    int   // records in the log when this process started
	stored  []int // per record handed out by this process: how long the log was after it
	learnt  *Layout
	index   map[blocktree.SectorIndex]testSectorState
	catchup []blocktree.FileID
}

func (n *testNode) ref(i int) (r Ref) {
	binary.BigEndian.PutUint64(r[:], uint64(i)+1)
	return r
}

func (n *testNode) at(r Ref) *Record { return n.log[binary.BigEndian.Uint64(r[:])-1] }

func (n *testNode) apply(rd MemberReady) {
	for _, r := range rd.Resets {
		for s := range r.Count {
			delete(n.index, r.First+blocktree.SectorIndex(s))
		}
	}
	for _, h := range rd.Commits {
		if h.Void {
			continue
		}
		rec := n.at(h.Ref)
		for i := range int(h.Count) {
			s := h.First + blocktree.SectorIndex(i)
			if old, ok := n.index[s]; ok && h.Version.Less(old.version) {
				continue
			}
			e := testSectorState{kind: Zero, version: h.Version}
			if h.Kind == RecordData {
				b := int(h.ShardBytes)
				e.kind, e.payload, e.seals = Data, rec.Payload[i*b:(i+1)*b], rec.Seals[i*SealBytes:(i+1)*SealBytes]
			}
			n.index[s] = e
		}
	}
}

// drain runs the node's Ready once.
func (n *testNode) drain() {
	rd := n.m.Ready()
	refs := make([]Ref, len(rd.Records))
	var noSpace []int
	for i, rec := range rd.Records {
		if n.full && rec.Kind != RecordControl && (n.w.quiet || n.w.r.IntN(2) == 0) {
			noSpace = append(noSpace, i)
		} else {
			n.log = append(n.log, rec)
			refs[i] = n.ref(len(n.log) - 1)
		}
		n.stored = append(n.stored, len(n.log))
	}
	n.m.Located(refs, noSpace)
	n.apply(rd)
	for i := range rd.Reads {
		n.w.send(n.read(&rd.Reads[i]))
	}
	for _, a := range rd.Answers {
		n.w.send(a)
	}
	n.catchup = append(n.catchup, rd.CatchUp...)
	if len(noSpace) > 0 {
		n.drain()
	}
}

// sync makes some of the log durable.
func (n *testNode) sync(upTo int) {
	n.synced = max(n.synced, upTo)
	k := 0
	for k < len(n.stored) && n.stored[k] <= n.synced {
		k++
	}
	n.m.Durable(uint64(k))
	n.drain()
}

// crash loses what is not synced; restart replays the rest.
func (n *testNode) crash() { n.up = false }

func (n *testNode) restart() error {
	n.log = n.log[:n.synced]
	n.up, n.stored, n.catchup = true, nil, nil
	n.index = map[blocktree.SectorIndex]testSectorState{}
	n.m = NewMember(n.id, incarnation(n.id, n.inc))
	n.m.SetMutant(n.w.mutant)
	for i, rec := range n.log {
		if err := n.m.Apply(rec, n.ref(i)); err != nil {
			return err
		}
		n.apply(n.m.Ready())
	}
	if n.learnt != nil {
		n.m.Learn(n.learnt)
		n.drain()
	}
	return nil
}

type testOp struct {
	read   bool
	first  blocktree.SectorIndex
	count  uint32
	v      blocktree.Version
	floor  []blocktree.Version // per sector: what a read may not be older than
	holder int
	reader bool
}

// world is everything.
type world struct {
	r       *rand.Rand
	mutant  string
	first   bool // the holder of the first epoch knows that it is
	now     time.Duration
	truth   *Layout
	past    []*Layout // all that Raft ever said
	nodes   []*testNode
	codec   testCodec
	h, old  *Holder // the newest holder, and the one before: it may not know yet
	hid     int
	leaseTo time.Duration // Raft gives no new epoch before
	rd      *Reader
	asked   []askedRead // leaseless reads that have a layout and have not begun
	net     []*envelope
	metas   []metaEnv
	ops     map[uint64]*testOp
	nextOp  uint64
	floor   map[blocktree.SectorIndex]blocktree.Version // newest version acknowledged or returned
	issued  map[blocktree.SectorIndex][]blocktree.Version
	zeros   map[string]bool
	drop    float64
	errs    []string
	acked   int
	wrote   []blocktree.Epoch // of what was acknowledged
	readsOK int
	fails   map[blocktree.Kind]int
	quiet   bool
	from    int // sender of what the machine that runs sends
	lease   bool

	onDone      func(*testOp, Done)
	lastPrepare *envelope
	lie         func(*Message) // changes what members answer to reads
	lieLists    func(*Message) // and to lists and digests
	suspects    []Suspect
	block       func(*Message) bool // requests that carry loses
}

type envelope struct {
	msg  *Message
	from int // holder number, -1 the reader; answers go back there
}

type metaEnv struct {
	holder int
	req    MetaRequest
}

func newWorld(code blocktree.Code, seed uint64, mutant string) *world {
	w := &world{
		r: rand.New(rand.NewPCG(seed, 3)), mutant: mutant, first: seed%2 == 0, truth: testLayout(code), codec: testCodec{code},
		ops: map[uint64]*testOp{}, floor: map[blocktree.SectorIndex]blocktree.Version{},
		issued: map[blocktree.SectorIndex][]blocktree.Version{}, zeros: map[string]bool{}, fails: map[blocktree.Kind]int{},
	}
	w.drop = []float64{0, 0.02, 0.1}[w.r.IntN(3)]
	w.past = append(w.past, w.truth)
	for i := range code.Shards() {
		n := &testNode{w: w, id: blocktree.NodeID(i + 1), inc: 1, learnt: w.truth}
		if err := n.restart(); err != nil {
			panic(err)
		}
		w.nodes = append(w.nodes, n)
	}
	w.rd = NewReader(ReaderConfig{Mutant: mutant, MemberTimeout: time.Second, StallTimeout: 3 * time.Second}, 0)
	for _, n := range w.nodes {
		w.rd.NodeUp(n.id, incarnation(n.id, n.inc))
	}
	w.acquire()
	return w
}

func (w *world) bad(f string, a ...any) { w.errs = append(w.errs, fmt.Sprintf(f, a...)) }

func (w *world) send(m *Message) {
	if m.Answer {
		if w.lie != nil && m.Kind == KindRead && m.Err == blocktree.Other {
			w.lie(m)
		}
		if w.lieLists != nil && (m.Kind == KindList || m.Kind == KindDigest) && m.Err == blocktree.Other {
			w.lieLists(m)
		}
		w.net = append(w.net, &envelope{m, w.from})
		return
	}
	w.net = append(w.net, &envelope{m, w.from})
}

func (w *world) acquire() {
	if w.now < w.leaseTo {
		return
	}
	w.checkWritten()
	maps.DeleteFunc(w.ops, func(_ uint64, op *testOp) bool { return !op.reader && op.holder < w.hid }) // that holder is gone
	w.change(w.truth.Acquire())
	w.hid++
	w.old = w.h
	w.h = NewHolder(HolderConfig{Layout: w.truth, First: w.first, Codec: w.codec, Mutant: w.mutant, DigestSectors: 2, MemberTimeout: time.Second, JoinDelay: 200 * time.Millisecond, StallTimeout: 10 * time.Second}, w.now)
	for _, n := range w.nodes {
		if n.up {
			w.with(w.hid, func(h *Holder) { h.NodeUp(n.id, incarnation(n.id, n.inc)) })
		}
	}
	w.runHolder()
}

func (w *world) nodeUp(n *testNode) {
	w.each(func(h *Holder) { h.NodeUp(n.id, incarnation(n.id, n.inc)) })
	w.rd.NodeUp(n.id, incarnation(n.id, n.inc))
	w.runReader()
}

func (w *world) nodeDown(n *testNode) {
	w.each(func(h *Holder) { h.NodeDown(n.id) })
	w.rd.NodeDown(n.id)
	w.runReader()
}

// each does f to the newest holder and the one before it.
func (w *world) each(f func(h *Holder)) {
	for _, id := range []int{w.hid, w.hid - 1} {
		w.with(id, f)
	}
}

func (w *world) with(id int, f func(h *Holder)) {
	h := w.h
	if id != w.hid {
		h = w.old
	}
	if h == nil || id < w.hid-1 {
		return
	}
	h.Tick(w.now)
	f(h)
	w.drain(id, h)
}

func (w *world) runHolder() { w.with(w.hid, func(*Holder) {}) }

func (w *world) drain(id int, h *Holder) {
	rd := h.Ready()
	w.suspects = append(w.suspects, rd.Suspects...)
	for _, m := range rd.Messages {
		w.net = append(w.net, &envelope{m, id})
	}
	for _, m := range rd.Metas {
		w.metas = append(w.metas, metaEnv{id, m})
	}
	for _, d := range rd.Done {
		w.done(d)
	}
}

func (w *world) change(l *Layout) {
	w.truth = l
	w.past = append(w.past, l)
}

func (w *world) node(id blocktree.NodeID) *testNode { return w.nodes[id-1] }

func (w *world) runReader() {
	rd := w.rd.Ready()
	w.suspects = append(w.suspects, rd.Suspects...)
	for _, m := range rd.Messages {
		w.net = append(w.net, &envelope{m, -1})
	}
	for _, d := range rd.Done {
		w.done(d)
	}
}

func (w *world) done(d Done) {
	op := w.ops[d.Op]
	if op == nil {
		w.bad("op %d ended twice", d.Op)
		return
	}
	delete(w.ops, d.Op)
	if w.onDone != nil {
		w.onDone(op, d)
	}
	if d.Err != 0 {
		w.fails[d.Err]++
		return
	}
	if !op.read {
		w.acked++
		w.wrote = append(w.wrote, op.v.Epoch)
		w.raise(op.first, op.count, op.v)
		return
	}
	w.readsOK++
	at := op.first
	for _, p := range d.Read.Pieces {
		if p.First != at {
			w.bad("read has a gap at %d", at)
			return
		}
		for i := range p.Count {
			s := p.First + blocktree.SectorIndex(i)
			w.sector(op, s, &p, int(i))
		}
		at += blocktree.SectorIndex(p.Count)
	}
	if uint64(at) != uint64(op.first)+uint64(op.count) {
		w.bad("read ends at %d", at)
	}
}

func (w *world) raise(first blocktree.SectorIndex, count uint32, v blocktree.Version) {
	for i := range count {
		if s := first + blocktree.SectorIndex(i); w.floor[s].Less(v) {
			w.floor[s] = v
		}
	}
}

// sector checks one sector of a read: linearizable in the order of versions, and the right bytes.
func (w *world) sector(op *testOp, s blocktree.SectorIndex, p *Piece, at int) {
	who := "holder"
	if op.reader {
		who = "reader"
	}
	if p.Version.Less(op.floor[s-op.first]) {
		w.bad("%s read of sector %d gave %v, but %v was acknowledged or read before", who, s, p.Version, op.floor[s-op.first])
	}
	if !p.Version.IsZero() && !slices.Contains(w.issued[s], p.Version) {
		w.bad("sector %d never had version %v", s, p.Version)
	}
	zero := w.zeros[fmt.Sprint(p.Version, s/testRegion)]
	switch {
	case p.Version.IsZero() != (p.Kind == Absent), !p.Version.IsZero() && zero != (p.Kind == Zero):
		w.bad("sector %d version %v has kind %d", s, p.Version, p.Kind)
	case p.Kind == Data:
		if len(p.Shards) < w.codec.code.Data {
			w.bad("sector %d: %d shards", s, len(p.Shards))
		}
		for _, x := range p.Shards {
			if !w.codec.check(s, p.Version, x, at) {
				w.bad("sector %d version %v: wrong bytes in shard %d", s, p.Version, x.Shard)
			}
		}
	}
	w.raise(s, 1, p.Version)
}

func (w *world) pick() (blocktree.RegionIndex, blocktree.SectorIndex, uint32) {
	r := blocktree.RegionIndex(w.r.IntN(testRegions))
	first, count := w.truth.Run(r)
	off := w.r.IntN(int(count))
	n := 1 + w.r.IntN(min(3, int(count)-off))
	return r, first + blocktree.SectorIndex(off), uint32(n)
}

// someone is the holder that is asked next: sometimes the one before.
func (w *world) someone() (int, *Holder) {
	if w.old != nil && w.r.IntN(4) == 0 {
		return w.hid - 1, w.old
	}
	return w.hid, w.h
}

func (w *world) write() {
	r, first, n := w.pick()
	id, h := w.someone()
	w.writeAt(id, h, r, first, n)
}

func (w *world) writeAt(id int, h *Holder, r blocktree.RegionIndex, first blocktree.SectorIndex, n uint32) {
	v := h.Begin(r)
	if !w.quiet && w.r.IntN(20) == 0 {
		w.with(id, func(h *Holder) { h.Cancel(r, v) })
		return
	}
	kind := RecordData
	if w.r.IntN(5) == 0 {
		kind = RecordZero
		w.zeros[fmt.Sprint(v, r)] = true
	}
	for i := range n {
		s := first + blocktree.SectorIndex(i)
		w.issued[s] = append(w.issued[s], v)
	}
	w.nextOp++
	w.ops[w.nextOp] = &testOp{first: first, count: n, v: v, holder: id}
	w.with(id, func(h *Holder) { h.Write(w.nextOp, w.codec.write(kind, r, first, n, v)) })
}

func (w *world) read(reader bool) {
	r, first, n := w.pick()
	id, _ := w.someone()
	op := &testOp{read: true, first: first, count: n, holder: id, reader: reader}
	for i := range n {
		op.floor = append(op.floor, w.floor[first+blocktree.SectorIndex(i)])
	}
	w.nextOp++
	w.ops[w.nextOp] = op
	if reader { // its layout is the newest when it is asked for (rule 6), and may be old when it begins
		w.asked = append(w.asked, askedRead{w.nextOp, w.truth})
		if w.quiet || w.r.IntN(3) == 0 {
			w.beginRead(len(w.asked) - 1)
		}
		return
	}
	all := w.r.IntN(8) == 0
	w.with(id, func(h *Holder) {
		if all {
			h.ReadAll(w.nextOp, r, first, n, Care{})
		} else {
			h.Read(w.nextOp, r, first, n)
		}
	})
}

// askedRead is a leaseless read and the layout that Raft gave for it.
type askedRead struct {
	op     uint64
	layout *Layout
}

// beginRead begins one of the leaseless reads that wait.
func (w *world) beginRead(i int) {
	x := w.asked[i]
	w.asked = slices.Delete(w.asked, i, i+1)
	op := w.ops[x.op]
	w.rd.Read(x.op, x.layout, w.truth.RegionOf(op.first), op.first, op.count)
	w.runReader()
}

// deliver gives one message to whom it is for.
func (w *world) deliver(e *envelope) {
	m := e.msg
	if m.Answer {
		if e.from == -1 {
			w.rd.Step(m)
			w.runReader()
			return
		}
		w.with(e.from, func(h *Holder) { h.Step(m) })
		return
	}
	if m.Kind == KindPrepare {
		w.lastPrepare = e
	}
	n := w.node(m.Node)
	if !n.up {
		return
	}
	w.stepNode(n, e)
}

// stepNode steps a member; its answers go back by the id they repeat.
func (w *world) stepNode(n *testNode, e *envelope) {
	c := *e.msg
	c.ID = c.ID<<16 | uint64(e.from+1) // whose message it is
	if h, b := EncodeMessage(&c); true {
		d, err := DecodeMessage(h, bytes.Join(b, nil))
		if err != nil {
			w.bad("codec: %v", err)
			return
		}
		n.m.Step(d)
	}
	n.drain()
}

// route takes what members sent and turns the ids back.
func (w *world) route() {
	for _, e := range w.net {
		if e.msg.Answer && e.from == 0 {
			m := *e.msg
			e.from = int(m.ID&0xffff) - 1
			m.ID >>= 16
			e.msg = &m
		}
	}
}

func (w *world) meta(i int, unknown bool) {
	e := w.metas[i]
	w.metas = slices.Delete(w.metas, i, i+1)
	if unknown && w.r.IntN(2) == 0 {
		w.with(e.holder, func(h *Holder) { h.MetaDone(e.req.ID, nil, blocktree.Timeout) }) // never reached Raft
		return
	}
	var kind blocktree.Kind
	if c := e.req.Change; c != nil {
		l, err := w.truth.Apply(*c, func(n blocktree.NodeID) blocktree.Incarnation { return incarnation(n, w.node(n).inc) })
		if err == nil {
			w.change(l)
		}
		kind = blocktree.KindOf(err)
	}
	l := w.truth
	if unknown {
		l, kind = nil, blocktree.Timeout
	}
	w.with(e.holder, func(h *Holder) { h.MetaDone(e.req.ID, l, kind) })
}

func (w *world) catchUp(n *testNode) {
	fs := n.catchup
	n.catchup = nil
	n.learnt = w.truth
	n.m.Learn(w.truth)
	for _, f := range fs {
		n.m.CaughtUp(f)
	}
	n.drain()
}

func (w *world) tick(d time.Duration) {
	w.now += d
	if w.lease {
		w.leaseTo = w.now + 300*time.Millisecond
		w.h.Renewed(w.leaseTo)
	}
	w.each(func(*Holder) {})
	w.rd.Tick(w.now)
	w.runReader()
}
