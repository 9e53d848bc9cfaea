package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/internal/vfs"
)

// storeCacheBytes bounds the index pages that a node keeps in memory beside those not yet written.
const storeCacheBytes = 16 << 20

// member drives a node's stripe.Member over its store.
//
// Order, under mu: 1. the machine takes a message. 2. What it wants recorded is appended, and located at once. 3. What it
// decided is indexed. 4. Reads look up the index. After mu: 5. catch-ups and reads run. 6. Answers are sent; each
// depends on durable records only, as the machine holds back the others until durable was told.
type member struct {
	node   blocktree.NodeID
	group  *meta.Group // set before anything is served
	logger *slog.Logger
	store  *store.Store
	fatal  chan error
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	machine  *stripe.Member
	serving  bool   // from start on; requests that come before are refused with Unavailable
	handed   uint64 // records that the machine gave out
	requests map[uint64]asked
	lastID   uint64
	layouts  map[blocktree.FileID]*stripe.Layout // as the machine learnt them
	closed   bool
}

// asked is a request whose answer is still due.
type asked struct {
	req *bttp.Request
	id  uint64 // the asker's own number
}

// effects are what is left to do once mu is released.
type effects struct {
	answers []*stripe.Message
	reads   []readTask
	catchUp []blocktree.FileID
}

// openMember opens or makes the store in dir and replays it. It does not serve before start.
func openMember(fs vfs.FS, dir string, node blocktree.NodeID, logger *slog.Logger) (*member, error) {
	m := &member{node: node, logger: logger, requests: map[uint64]asked{},
		layouts: map[blocktree.FileID]*stripe.Layout{},
		fatal:   make(chan error, 1)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	options := store.Options{Logger: logger, CacheBytes: storeCacheBytes}
	s, err := store.Open(fs, dir, node, options, (*replayer)(m))
	if blocktree.KindOf(err) == blocktree.NotFound {
		if err = store.Create(fs, dir, node, options); err == nil {
			s, err = store.Open(fs, dir, node, options, (*replayer)(m))
		}
	}
	if err != nil {
		return nil, err
	}
	m.store = s
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
	r.machine.Apply(&sr, packRef(rec.Ref))
	rd := r.machine.Ready()
	return (*member)(r).index(&rd)
}

// start makes the member serve under its incarnation; layouts are what Raft knows of every file.
func (m *member) start(incarnation blocktree.Incarnation, layouts []*stripe.Layout) {
	m.mu.Lock()
	m.serving = true
	m.machine.Serve(incarnation)
	for _, l := range layouts {
		m.learnOne(l)
	}
	fx := m.turn()
	m.mu.Unlock()
	m.run(fx)
	m.wg.Go(m.checkpoints)
}

// learnOne passes one layout on; mu is held.
func (m *member) learnOne(l *stripe.Layout) {
	if old := m.layouts[l.File]; old == nil || old.Seq <= l.Seq {
		m.layouts[l.File] = l
	}
	m.machine.Learn(l)
}

// forget drops a removed file; mu is held.
func (m *member) forget(f blocktree.FileID) {
	delete(m.layouts, f)
	m.machine.Forget(f)
}

// learn passes on what the node's own Raft log says.
func (m *member) learn(layouts []*stripe.Layout, removed []blocktree.FileID) {
	m.mu.Lock()
	for _, l := range layouts {
		m.learnOne(l)
	}
	for _, f := range removed {
		m.forget(f)
	}
	fx := m.turn()
	m.mu.Unlock()
	m.run(fx)
}

// serve takes a request off the network. It blocks only for as long as another turn of the machine.
func (m *member) serve(req *bttp.Request) {
	msg, err := stripe.DecodeMessage(req.Header, req.Body)
	if err != nil {
		req.Fail(err)
		req.Release()
		return
	}
	m.mu.Lock()
	if m.closed || !m.serving {
		m.mu.Unlock()
		req.Fail(blocktree.E("cluster: member", blocktree.Unavailable, errors.New("the node is starting or stopping")))
		req.Release()
		return
	}
	m.lastID++
	if msg.Kind != stripe.KindCommit { // which is not answered
		m.requests[m.lastID] = asked{req, msg.ID}
	}
	msg.ID = m.lastID
	m.machine.Step(msg)
	fx := m.turn()
	m.mu.Unlock()
	m.run(fx)
	if msg.Kind == stripe.KindCommit {
		req.Reply(nil)
		req.Release()
	}
}

// turn does everything the machine wants done under mu, and returns the rest.
func (m *member) turn() (fx effects) {
	for {
		rd := m.machine.Ready()
		if len(rd.Records) > 0 {
			m.append(rd.Records)
		}
		if err := m.index(&rd); err != nil {
			m.fail(err)
		}
		for i := range rd.Reads {
			fx.reads = append(fx.reads, m.lookup(&rd.Reads[i]))
		}
		fx.answers = append(fx.answers, rd.Answers...)
		fx.catchUp = append(fx.catchUp, rd.CatchUp...)
		if len(rd.Records)+len(rd.Resets)+len(rd.Commits)+len(rd.Drops)+len(rd.Reads)+len(rd.Answers)+len(rd.CatchUp) == 0 {
			return fx
		}
	}
}

// append puts records into the log and locates them. For want of space it keeps promises and refuses data.
func (m *member) append(records []*stripe.Record) {
	m.handed += uint64(len(records))
	recs := make([]store.Record, len(records))
	for i, r := range records {
		recs[i] = toStore(r)
	}
	refs := make([]stripe.Ref, len(records))
	got, err := m.store.Append(recs, m.durable(m.handed))
	if err == nil {
		for i := range got {
			refs[i] = packRef(got[i])
		}
		m.machine.Located(refs, nil)
		return
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
		m.fail(err)
		return
	}
	if len(promises) > 0 {
		if got, err = m.store.Append(promises, m.durable(m.handed)); err != nil {
			m.fail(err)
			return
		}
		for i := range got {
			refs[at[i]] = packRef(got[i])
		}
	}
	m.machine.Located(refs, refused)
}

// durable returns the callback that says that the first upTo records are durable. It runs without mu.
func (m *member) durable(upTo uint64) func(error) {
	return func(err error) {
		if err != nil {
			m.fail(err)
			return
		}
		m.mu.Lock()
		m.machine.Durable(upTo)
		fx := m.turn()
		m.mu.Unlock()
		m.run(fx)
	}
}

// index applies what the machine decided to the store's index, in its order.
func (m *member) index(rd *stripe.MemberReady) error {
	for _, r := range rd.Resets {
		if err := m.store.DropRange(r.File, r.First, r.Count); err != nil {
			return err
		}
	}
	for _, h := range rd.Commits {
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
		m.answer(a, nil)
	}
	for _, f := range fx.catchUp {
		m.wg.Go(func() { m.catchUp(f) })
	}
}

// answer sends a message back to who asked; release is called when its payload is not needed any more.
func (m *member) answer(a *stripe.Message, release func()) {
	m.mu.Lock()
	q, ok := m.requests[a.ID]
	delete(m.requests, a.ID)
	m.mu.Unlock()
	if !ok {
		if release != nil {
			release()
		}
		return
	}
	reply := *a
	reply.ID = q.id
	header, body := stripe.EncodeMessage(&reply)
	q.req.ReplyThen(release, header, body...)
	q.req.Release()
}

// catchUp brings the node's Raft state up to now, so that the machine can believe (or refuse) a newer epoch or view.
func (m *member) catchUp(f blocktree.FileID) {
	ctx, cancel := context.WithTimeout(m.ctx, askTimeout)
	defer cancel()
	err := m.group.Sync(ctx)
	var l *stripe.Layout
	if err == nil {
		l, err = m.group.Layout(f)
	}
	m.mu.Lock()
	switch {
	case err == nil:
		m.learnOne(l)
	case blocktree.KindOf(err) == blocktree.NotFound:
		m.forget(f)
	}
	m.machine.CaughtUp(f)
	fx := m.turn()
	m.mu.Unlock()
	m.run(fx)
}

// fail ends the member: the process must exit (DESIGN section 6: the first error latches).
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

// close stops serving, checkpoints and gives the directory back. Requests in flight are not answered.
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
	blob := m.machine.Snapshot()
	m.mu.Unlock()
	return m.store.Close(blob)
}
