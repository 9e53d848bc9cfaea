package cluster

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/internal/vfs"
)

const (
	// storeCacheBytes bounds the index pages that a node keeps in memory beside those not yet written.
	storeCacheBytes = 16 << 20
	// memberLayoutBytes bounds the layouts that a node keeps in memory, of the files that were used last: some twenty thousand. Those of others
	// are read from the applied state when somebody asks of them (docs/design/0073).
	memberLayoutBytes = 16 << 20
	// noteAfter is how long a node's log is idle before the last writes are told from a torn tail: a sync a second at most.
	noteAfter = time.Second
	// queuedBytesMax is how much may wait for the disk before requests with records wait instead of being stepped: half
	// of what the store takes, so that a promise of the machine always finds room. backlogBytesMax bounds those that
	// wait; what comes then is Busy.
	queuedBytesMax  = blocktree.InFlightBytesMax / 2
	backlogBytesMax = blocktree.InFlightBytesMax / 2
	// roomWaitMax is how long data waits for the store to make room before it is tried, and perhaps refused. With the
	// two seconds that a group may wait in the store it is less than MemberTimeout: no space is no reason to leave the view.
	roomWaitMax = time.Second
)

// member drives a node's stripe.Member over its store.
//
// Order, under mu: 1. the machine takes a message. 2. What it wants recorded is appended, and located at once. 3. What it
// decided is indexed. 4. Reads look up the index. After mu: 5. reads run. 6. Answers are sent; each depends on durable
// records only, as the machine holds back the others until durable was told. 7. What need not be durable to be answered is written, by who
// asked for it, once for all that came together (docs/design/0065-short-ways.md).
type member struct {
	node   blocktree.NodeID
	group  *meta.Group // set before anything is served
	logger *slog.Logger
	store  *store.Store

	lie        func(to blocktree.Path, answer *stripe.Message) // nil in production
	makingRoom func() bool                                     // the store's MakingRoom, but for tests
	met        atomic.Pointer[scrubber]                        // told of damage, once there is one
	mark       atomic.Pointer[tailMark]                        // once the node's start is recorded
	endpoint   atomic.Pointer[bttp.Endpoint]                   // that answers go out by, once there is one
	clients    atomic.Uint64                                   // how often a client was served
	sent       sentCounts

	fatal  chan error
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc

	mu           sync.Mutex
	machine      *stripe.Member
	serving      bool   // from start on; requests that come before are refused with Unavailable
	handed       uint64 // records that the machine gave out
	appends      int    // calls of store.Append and AppendLazy that have not been answered yet
	lazyTo       uint64 // number of the newest record that was appended lazily and is not durable yet; 0: there is none
	syncTo       uint64 // up to which record a sync is on its way, or done
	syncsSoon    bool   // syncSoon runs
	queuedBytes  int    // of the records of those
	backlog      []waiting
	backlogBytes int
	watching     bool // watchBacklog runs
	requests     map[uint64]asked
	lastID       uint64
	reading      map[blocktree.FileID]layoutReads
	loading      []blocktree.FileID // files for loads
	loadWake     chan struct{}
	catching     []blocktree.FileID // files for catchUps
	catchWake    chan struct{}
	counts       MemberCounts
	records      []store.Record // append's own memory, from one call to the next, as refs
	refs         []stripe.Ref
	closed       bool
	failed       bool // the log or the index is not what the machine thinks: nothing is taken, told or kept any more

	together bool // the store's writer's own: it calls back for a group
	news     news // likewise: what it has said so far
}

// waiting is a request that waits for the disk to catch up.
type waiting struct {
	req   *bttp.Request
	msg   *stripe.Message
	since time.Time
}

// asked is a request whose answer is still due.
type asked struct {
	req *bttp.Request
	id  uint64 // the asker's own number
}

// answer is a message to who asked.
type answer struct {
	to  asked
	msg *stripe.Message
}

// effects are what is left to do once mu is released.
type effects struct {
	answers []answer
	reads   []readTask
	lazy    bool // records were appended lazily, and are to be written
}

func (fx *effects) add(more effects) {
	fx.answers = append(fx.answers, more.answers...)
	fx.reads = append(fx.reads, more.reads...)
	fx.lazy = fx.lazy || more.lazy
}

// openMember opens or makes the store in dir and replays it; spacePercent is as in store.Options. It does not serve before start.
func openMember(fs vfs.FS, dir string, node blocktree.NodeID, logger *slog.Logger, spacePercent int64) (*member, error) {
	m := &member{node: node, logger: logger, requests: map[uint64]asked{}, reading: map[blocktree.FileID]layoutReads{},
		fatal: make(chan error, 1), loadWake: make(chan struct{}, 1), catchWake: make(chan struct{}, 1)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	options := store.Options{Logger: logger, CacheBytes: storeCacheBytes, NoteAfter: noteAfter, OnRoom: m.roomMade, OnDamage: m.damaged, OnWritten: m.reached,
		OnGroup: m.tellGroup, SpacePercent: spacePercent}
	s, err := store.Open(fs, dir, node, options, (*replayer)(m))
	if blocktree.KindOf(err) == blocktree.NotFound {
		if err = store.Create(fs, dir, node, options); err == nil {
			s, err = store.Open(fs, dir, node, options, (*replayer)(m))
		}
	}
	if err != nil {
		return nil, err
	}
	m.machine.KeepLayouts(memberLayoutBytes)
	m.store, m.makingRoom = s, s.MakingRoom
	return m, nil
}

// replayer feeds the machine what the store finds. It runs within store.Open, before anything else knows the member.
type replayer member

func (r *replayer) Checkpoint(s *store.Store, blob []byte) (err error) {
	r.store = s
	if blob == nil {
		r.machine = stripe.NewMember(r.node, blocktree.Incarnation{})
		return nil
	}
	r.machine, err = stripe.RestoreMember(r.node, blocktree.Incarnation{}, blob)
	return err
}

func (r *replayer) Record(rec store.Replayed) error {
	sr := fromStore(&rec)
	if err := r.machine.Apply(&sr, packRef(rec.Ref)); err != nil {
		return err
	}
	rd := r.machine.Ready()
	return (*member)(r).index(&rd)
}

// serve takes a request that was admitted, and its message, which aliases it. It blocks only for as long as another turn
// of the machine, and for what WriteLazy does. inServe says that the caller is the request's Serve.
func (m *member) serve(req *bttp.Request, msg *stripe.Message, inServe bool) {
	m.mu.Lock()
	if m.closed || m.failed || !m.serving {
		m.mu.Unlock()
		req.Fail(blocktree.E("cluster: member", blocktree.Unavailable, errors.New("the node is starting or stopping")))
		req.Release()
		return
	}
	if msg.Record != nil && (len(m.backlog) > 0 || m.crowded(msg, time.Time{})) {
		m.wait(req, msg)
		m.mu.Unlock()
		return
	}
	m.step(req, msg)
	fx := m.turn()
	m.mu.Unlock()
	if fx.lazy && inServe && req.AfterBatch(m.store.WriteLazy) { // not when another's batch is over: that may take long
		fx.lazy = false
	}
	m.run(fx)
}

// step gives a request to the machine; mu is held. One that is answered is released with its answer: until then the
// records made of it alias its memory. One that is not answered leaves nothing behind in the machine.
func (m *member) step(req *bttp.Request, msg *stripe.Message) {
	m.counts.request(msg)
	if msg.Kind == stripe.KindCommit || req.OneWay {
		if msg.Kind == stripe.KindCommit && m.machine.Knows(msg.File) { // of an unknown file nothing can be committed
			msg.Record, msg.ID = nil, 0 // the sender's id may be another request's here
			m.machine.Step(msg)
		}
		req.Reply(nil)
		req.Release()
		return
	}
	if msg.Kind == stripe.KindPrepare || msg.Kind == stripe.KindRead && !msg.Watermark.IsZero() {
		m.clients.Add(1)
	}
	m.lastID++
	m.requests[m.lastID] = asked{req, msg.ID}
	msg.ID = m.lastID
	m.machine.Step(msg)
}

// wait keeps a request until the disk has caught up, or refuses it; mu is held.
func (m *member) wait(req *bttp.Request, msg *stripe.Message) {
	if n := len(req.Body); !req.OneWay && m.backlogBytes+n <= backlogBytesMax {
		m.backlog = append(m.backlog, waiting{req, msg, time.Now()})
		m.backlogBytes += n
		if !m.watching {
			m.watching = true
			m.wg.Go(m.watchBacklog)
		}
		return
	}
	header, body := stripe.EncodeMessage(&stripe.Message{Kind: msg.Kind, Answer: true, ID: msg.ID, Node: m.node, File: msg.File,
		Region: msg.Region, Epoch: msg.Epoch, View: msg.View, Seq: msg.Seq, Version: msg.Version, Err: blocktree.Busy})
	req.Reply(header, body...)
	req.Release()
}

// crowded reports whether a request with a record that has waited since then (zero: it has just come) should wait: the disk is behind, or it is data and the store
// is making room; mu is held.
func (m *member) crowded(msg *stripe.Message, since time.Time) bool {
	return m.queuedBytes > queuedBytesMax || msg.Record != nil && msg.Record.Kind == stripe.RecordData && m.makingRoom() && (since.IsZero() || time.Since(since) < roomWaitMax)
}

// watchBacklog goes on with what has waited for room long enough, until nothing waits.
func (m *member) watchBacklog() {
	for {
		m.roomMade()
		m.mu.Lock()
		if len(m.backlog) == 0 || m.closed {
			m.watching = false
			m.mu.Unlock()
			return
		}
		left := max(roomWaitMax-time.Since(m.backlog[0].since), roomWaitMax/8) // not at once: it may be the disk that is behind
		m.mu.Unlock()
		select {
		case <-m.ctx.Done():
			return
		case <-time.After(left):
		}
	}
}

// roomMade goes on with what waited for room. It runs in a goroutine of the store's.
func (m *member) roomMade() {
	m.mu.Lock()
	if len(m.backlog) == 0 || m.closed {
		m.mu.Unlock()
		return
	}
	fx := m.unwait()
	m.mu.Unlock()
	m.run(fx)
}

// damaged is told of sectors that the store's compactor or a read found damaged. They read as damaged from now on as before; the
// scrubber mends them, or whoever holds the file and reads them.
func (m *member) damaged(d store.Damage) {
	m.logger.Error("shards do not match their checksum", "file", d.File.String(), "sectors", len(d.Sectors), "err", d.Error())
	if s := m.met.Load(); s != nil {
		s.noteMet(d)
	}
}

// servedClients is how many requests wrote or read something since last, which it moves on; what scrubs ask for does not count.
func (m *member) servedClients(last *uint64) uint64 {
	was := *last
	*last = m.clients.Load()
	return *last - was
}

// unwait steps what waited, as far as the disk has caught up; mu is held.
func (m *member) unwait() (fx effects) {
	for len(m.backlog) > 0 && !m.crowded(m.backlog[0].msg, m.backlog[0].since) && !m.failed {
		w := m.backlog[0]
		m.backlog[0] = waiting{}
		m.backlog = m.backlog[1:]
		m.backlogBytes -= len(w.req.Body)
		m.step(w.req, w.msg)
		fx.add(m.turn())
	}
	return fx
}

// turn does everything the machine wants done under mu, and returns the rest.
func (m *member) turn() (fx effects) {
	for !m.failed {
		rd := m.machine.Ready()
		lazy := rd.SyncTo <= m.handed
		if len(rd.Records) > 0 {
			if err := m.append(rd.Records, lazy); err != nil {
				m.breakDown(err)
				break
			}
			fx.lazy = fx.lazy || lazy
		}
		if rd.SyncTo > m.syncTo && m.lazyTo > m.syncTo {
			if err := m.sync(); err != nil {
				m.breakDown(err)
				break
			}
		}
		if rd.SoonTo > m.syncTo && !m.syncsSoon {
			m.syncsSoon = true
			m.wg.Go(m.syncSoon)
		}
		if err := m.index(&rd); err != nil {
			m.breakDown(err)
			break
		}
		for i := range rd.Reads {
			fx.reads = append(fx.reads, m.lookup(&rd.Reads[i]))
		}
		for _, a := range rd.Answers {
			fx.answers = append(fx.answers, answer{m.take(a.ID), a})
		}
		if len(rd.CatchUp) > 0 {
			m.loading = append(m.loading, rd.CatchUp...)
			signal(m.loadWake)
		}
		if len(rd.Records)+len(rd.Resets)+len(rd.Commits)+len(rd.Drops)+len(rd.Reads)+len(rd.Answers)+len(rd.CatchUp) == 0 {
			return fx
		}
	}
	return effects{}
}

// take takes a request out, to be answered, by the number that the machine knows it by; the zero asked where nobody waits for an answer. mu is held.
func (m *member) take(id uint64) asked {
	q := m.requests[id]
	delete(m.requests, id)
	return q
}

// append puts records into the log and locates them; lazily, where nobody waits for them to be durable. For want of space it
// keeps promises and refuses data.
func (m *member) append(records []*stripe.Record, lazy bool) error {
	m.handed += uint64(len(records))
	recs := m.records[:0]
	for _, r := range records {
		recs = append(recs, toStore(r))
	}
	refs := slices.Grow(m.refs[:0], len(records))[:len(records)]
	clear(refs)
	defer func() {
		clear(recs) // which alias what was received
		m.records, m.refs = recs, refs
	}()
	got, err := m.appendAll(recs, lazy)
	if err == nil {
		for i := range got {
			refs[i] = packRef(got[i])
		}
		m.machine.Located(refs, nil)
		m.counts.stored(records, nil)
		return nil
	}
	var refused, at []int
	var promises []store.Record
	for i := range recs {
		if recs[i].Kind == store.KindData {
			refused = append(refused, i)
		} else {
			promises, at = append(promises, recs[i]), append(at, i)
		}
	}
	if blocktree.KindOf(err) != blocktree.NoSpace || len(refused) == 0 {
		return err
	}
	if len(promises) > 0 {
		if got, err = m.appendAll(promises, lazy); err != nil {
			return err
		}
		for i := range got {
			refs[at[i]] = packRef(got[i])
		}
	}
	m.machine.Located(refs, refused)
	m.counts.stored(records, refused)
	m.tellStored(0) // no callback will tell of those that were refused, if none is due
	return nil
}

// appendAll appends records of which the last is number handed.
func (m *member) appendAll(recs []store.Record, lazy bool) ([]store.Ref, error) {
	bytes := 0
	for i := range recs {
		r := &recs[i]
		bytes += recordOverheadBytes + len(r.Payload) + len(r.Blob) + 2*len(r.Seals)
	}
	put, n := m.store.Append, news{calls: 1, bytes: bytes, durable: m.handed}
	if lazy {
		put, n = m.store.AppendLazy, news{calls: 1, bytes: bytes, written: m.handed}
	}
	refs, err := put(recs, m.told(n))
	if err == nil {
		m.appends++
		m.queuedBytes += bytes
		if lazy {
			m.lazyTo = m.handed
		} else {
			m.syncTo = m.handed
		}
	}
	return refs, err
}

// recordOverheadBytes is more than a record's header and padding.
const recordOverheadBytes = 1 << 10

// index applies what the machine decided to the store's index, in its order.
func (m *member) index(rd *stripe.MemberReady) error {
	for _, r := range rd.Resets {
		// Regions begin at pages. Behind the last one lies nothing, and only a damaged page that goes as a whole is good again.
		count := (r.Count + store.PageSectors - 1) / store.PageSectors * store.PageSectors
		if err := m.store.DropRange(r.File, r.First, count); err != nil {
			return err
		}
	}
	for _, h := range rd.Commits {
		if h.Void {
			continue // it found no space
		}
		if err := m.store.Index(h.File, storeExtent(h)); err != nil {
			return err
		}
	}
	for _, h := range rd.Drops {
		if h.Kind == stripe.RecordData {
			m.store.Drop(unpackRef(h.Ref), 0, h.Count)
		}
	}
	return nil
}

// run does what may block or take time: it is called without mu.
func (m *member) run(fx effects) {
	for i := range fx.reads {
		m.read(&fx.reads[i])
	}
	for _, a := range fx.answers {
		m.answer(a.to, a.msg, nil)
	}
	if fx.lazy {
		m.store.WriteLazy()
	}
}

// answer sends a message back to who asked; release is called when its payload is not needed any more.
func (m *member) answer(q asked, a *stripe.Message, release func()) {
	if q.req == nil {
		if release != nil {
			release()
		}
		return
	}
	a.ID = q.id // a is nobody else's any more
	if m.lie != nil {
		m.lie(q.req.Conn.Peer().Path, a)
	}
	_ = encoded(a, func(header []byte, body [][]byte) error {
		q.req.ReplyThen(release, header, body...)
		return nil
	})
	q.req.Release()
}

// breakDown ends the member: nothing is answered or checkpointed any more, so that a restart finds the log as it is; mu is
// held. DESIGN section 6: the first error latches.
func (m *member) breakDown(err error) {
	m.failed = true
	m.fail(err)
}

// fail reports the error after which the process must exit.
func (m *member) fail(err error) {
	select {
	case m.fatal <- err:
	default:
	}
}

// checkpoints writes one whenever the store asks.
func (m *member) checkpoints() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case err := <-m.store.Fatal():
			m.fail(err)
			return
		case <-m.store.CheckpointWanted():
		}
		m.mu.Lock()
		if m.failed {
			m.mu.Unlock()
			return
		}
		c, err := m.store.BeginCheckpoint(m.machine.Snapshot())
		m.mu.Unlock()
		if err == nil {
			err = c.Finish()
		}
		if err != nil {
			m.logger.Error("checkpoint failed", "err", err)
		}
	}
}

// close stops serving, checkpoints and gives the directory back. Requests in flight are not answered. From here on the
// machine stands still: what it does after the snapshot would be in neither checkpoint nor replay.
func (m *member) close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.cancel()
	m.mu.Unlock()
	m.wg.Wait()
	m.mu.Lock()
	var blob []byte             // nil: no checkpoint
	if !m.failed && m.serving { // before that Raft may not know yet what Open found damaged, and a checkpoint ends at it
		blob = m.machine.Snapshot()
	}
	m.mu.Unlock()
	err := m.store.Close(blob)
	if mark := m.mark.Load(); mark != nil {
		err = errors.Join(err, mark.close(err == nil && blob != nil))
	}
	return err
}
