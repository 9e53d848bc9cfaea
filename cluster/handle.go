package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/internal/erasure"
)

// tickInterval is how often a handle's machine is told the time when nothing else happens.
const tickInterval = 25 * time.Millisecond

// lookEvery is how long what is late, or to be tried again, may wait for a look at it.
const lookEvery = time.Millisecond

// joinDelay is how long a node that was out must be reachable before it is copied up.
const joinDelay = 500 * time.Millisecond

// Handle is a file held for writing: it drives a stripe.Holder against the members. All methods may be called by many
// goroutines at once.
type Handle struct {
	client *Client
	inode  meta.Inode
	path   blocktree.Path
	epoch  blocktree.Epoch
	loss   uint64 // the file's loss number under that epoch
	lazy   bool   // it is of durability flush
	codec  *erasure.Codec
	code   blocktree.Code

	cancel context.CancelFunc
	ctx    context.Context
	wg     sync.WaitGroup

	leaseUntil atomic.Int64 // on Clock.Boot; 0 once the handle has ended
	size       size
	follow     follow
	shrinks    shrinks
	touch      touch
	naming     naming

	mu       sync.Mutex
	clock    roughClock
	progress progress
	meter    copyUpMeter
	draining []blocktree.NodeID // as the machine was told
	holder   *stripe.Holder
	ops      map[uint64]*operation
	lastOp   uint64
	err      error                          // set once the handle can do nothing any more
	settles  chan struct{}                  // closed once it has taken over, or has an error; nil from then on
	over     bool                           // the machine is not driven any more: nothing is sent, asked or started
	delayed  map[blocktree.NodeID][]delayed // what a connection had no room for
	asking   bool                           // findTaker runs
	warned   bool                           // it was told that the file is being taken over
	checking bool                           // checkRights asks, or has just asked
	mended   mended
	suspects []stripe.Suspect // to be told once mu is unlocked
	resting  bool             // it is told the time every restInterval only
	stir     chan struct{}    // ends that
}

// newHandle takes over a file under the lease that gave the layout its epoch; until is how long that holds, delay how long a node that was out must be
// reachable before it is copied up, first that it was made for this
// handle, so that there is nothing to take over. From here on the
// machine finds out what was written, and decides.
func newHandle(c *Client, path blocktree.Path, inode meta.Inode, layout *stripe.Layout, until, delay time.Duration, first bool) (*Handle, error) {
	codec, err := erasure.New(inode.Code)
	if err != nil {
		return nil, err
	}
	h := &Handle{client: c, inode: inode, path: path, epoch: layout.Epoch, loss: layout.Loss, lazy: layout.Durability == stripe.DurabilityFlush,
		codec: codec, code: inode.Code, ops: map[uint64]*operation{}, delayed: map[blocktree.NodeID][]delayed{}, clock: roughClock{clock: c.cfg.Clock},
		stir: make(chan struct{}, 1), progress: progress{log: c.cfg.Logger.With("file", path.Short())}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	now := h.clock.read()
	h.holder = stripe.NewHolder(stripe.HolderConfig{Layout: layout, First: first, JoinDelay: delay, LookEvery: lookEvery,
		Codec: &rebuilder{codec: codec, file: inode.ID, sectorBytes: int(inode.SectorBytes), wrong: h.noteSuspect}}, now)
	h.holder.Renewed(until)
	if !h.holder.Recovered() {
		h.settles = make(chan struct{})
	}
	h.noteLease(until)
	h.size.note(layout)
	c.noteLayout(layout)
	c.peers.watch(h)
	h.wg.Go(h.tick)
	return h, nil
}

// Epoch is the epoch under which the handle writes.
func (h *Handle) Epoch() blocktree.Epoch { return h.epoch }

// Written is the newest epoch before the handle's under which the file may have been written, as the members told at the take-over; zero: none. Under those between nothing was acknowledged.
func (h *Handle) Written() blocktree.Epoch {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holder.Written()
}

// Inode describes the file as it was when the handle was made.
func (h *Handle) Inode() meta.Inode { return h.inode }

// RegionSectors is how many sectors each region of the file has; the last may have fewer.
func (h *Handle) RegionSectors() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holder.Layout().RegionSectors
}

// Stats counts what the machine did.
func (h *Handle) Stats() stripe.HolderStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holder.Stats()
}

// enter locks the handle and brings the machine's clock up to date. Every input goes through it, or through enterRoughly.
func (h *Handle) enter() {
	h.mu.Lock()
	if now := h.clock.read(); !h.over {
		h.holder.Tick(now)
	}
}

// enterRoughly is enter for inputs that end no read: what a read found is believed as long as the lease holds, which after a
// suspension only the exact time tells.
func (h *Handle) enterRoughly() {
	h.mu.Lock()
	if !h.over {
		h.holder.Tick(h.clock.now())
	}
}

// leave unlocks the handle and does what the machine wants done: completions first, they are what somebody waits for.
func (h *Handle) leave() {
	if old, now := h.size.note(h.holder.Layout()); old != now {
		h.client.sizeChanged(h.path, old, now)
	}
	rd := h.holder.Ready()
	if h.resting && !h.holder.Idle() {
		h.resting = false
		signal(h.stir)
	}
	suspects := append(h.suspects, rd.Suspects...)
	h.suspects = nil
	messages := h.toSend(rd.Messages)
	for _, w := range rd.Released {
		releaseRun(w)
	}
	metas := rd.Metas
	var few [8]*operation
	ended := few[:0]
	for _, d := range rd.Done {
		o := h.ops[d.Op]
		if o == nil {
			continue
		}
		delete(h.ops, d.Op)
		o.read = d.Read
		switch d.Err {
		case blocktree.Other:
		case blocktree.Lost:
			o.err = lostError(h.path)
		default:
			o.err = blocktree.E("cluster", d.Err, nil)
		}
		ended = append(ended, o)
	}
	if h.err == nil && h.holder.Lost() {
		h.leaseUntil.Store(0)
		h.err = lostError(h.path)
		h.client.cfg.Logger.Error("acknowledged writes may be gone: too few nodes have kept what they had not synced", "path", h.path.Short(),
			"hint", lostHint)
	}
	if h.err == nil && h.holder.Fenced() {
		h.leaseUntil.Store(0)
		h.err = &blocktree.Error{Op: "cluster", Path: h.path.Short(), Kind: blocktree.Fenced,
			Hint: "another holder took the file over, or this one was silent for longer than its lease; reopen it"}
		if !h.over && !h.asking {
			h.asking = true
			h.wg.Go(h.findTaker)
		}
	}
	h.settle()
	if h.over {
		metas = nil
	}
	for _, q := range metas { // under mu, so that Close cannot be waiting for them yet
		h.wg.Go(func() { h.ask(q) })
	}
	h.mu.Unlock()
	for _, x := range suspects {
		h.client.suspects.seen(x, h.code.Parity)
	}
	for _, o := range ended {
		o.end()
	}
	for _, m := range messages {
		h.send(m)
	}
}

// toSend returns messages to be sent without mu, each a user of its run; none once the handle is over. What the machine has released it has nothing to say of
// any more, and internal/sim proves that: if it had, other bytes would go out under the write's version, so that is not sent.
func (h *Handle) toSend(messages []*stripe.Message) []*stripe.Message {
	if h.over || len(messages) == 0 {
		return nil
	}
	out := make([]*stripe.Message, 0, len(messages))
	for _, m := range messages {
		if useRun(m) {
			out = append(out, m)
		}
	}
	return out
}

// do enters the handle, registers an operation and has start give it to the machine, unless the handle has ended.
func (h *Handle) do(start func(op uint64)) *operation {
	o := &operation{ended: make(chan struct{})}
	h.start(o, start)
	return o
}

// start is do for an operation that the caller made. It reports whether the machine was given it.
func (h *Handle) start(o *operation, start func(op uint64)) bool {
	h.enterRoughly()
	if err := h.err; err != nil {
		h.leave()
		o.err = err
		o.end()
		return false
	}
	h.lastOp++
	o.id = h.lastOp
	h.ops[h.lastOp] = o
	start(h.lastOp)
	h.leave()
	return true
}

// nodeUp, nodeSilent and nodeDown implement watcher.
func (h *Handle) nodeUp(node blocktree.NodeID, i incarnations) {
	inc := i.disk
	if h.lazy {
		inc = i.volatile
	}
	h.enter()
	h.holder.NodeUp(node, inc)
	h.leave()
}

func (h *Handle) nodeSilent(node blocktree.NodeID) {
	h.enter()
	h.holder.NodeSilent(node)
	h.leave()
}

func (h *Handle) nodeDown(node blocktree.NodeID) {
	h.enter()
	h.holder.NodeDown(node)
	h.leave()
}

// renewed tells the machine that the lease holds until then.
func (h *Handle) renewed(until time.Duration) {
	h.enter()
	h.holder.Renewed(until)
	h.noteLease(until)
	h.warned = false
	h.leave()
}

// noteLease keeps for Lease until when this holder may speak for the file; mu is held.
func (h *Handle) noteLease(until time.Duration) {
	if h.err == nil && int64(until) > h.leaseUntil.Load() {
		h.leaseUntil.Store(int64(until))
	}
}

// Lease returns the handle's epoch, and whether its lease term, margin taken off, has not run out: while it has not, nobody
// else can have written the file. It does not block.
func (h *Handle) Lease() (blocktree.Epoch, bool) {
	return h.epoch, int64(h.client.cfg.Clock.Boot()) < h.leaseUntil.Load()
}

// LeaseLeft returns the handle's epoch, and for how long Lease will go on to say so if the lease is not renewed. It does not block.
func (h *Handle) LeaseLeft() (blocktree.Epoch, time.Duration) {
	return h.epoch, max(0, time.Duration(h.leaseUntil.Load())-h.client.cfg.Clock.Boot())
}

// send gives a message to the member's connection. What cannot be sent since the connection is gone is lost: the machine
// sends it again when the node is up again. What it has no room for now is sent later.
func (h *Handle) send(m *stripe.Message) {
	conn := h.client.peers.conn(m.Node)
	if conn == nil {
		doneWithRun(m)
		return
	}
	switch err := h.post(conn, m); {
	case err == nil:
	case blocktree.KindOf(err) == blocktree.Busy:
		h.delay(conn, m)
	default:
		doneWithRun(m)
	}
}

// post sends a message, which is a user of its run until its end has been heard of. On an error it is one yet.
func (h *Handle) post(conn *bttp.Conn, m *stripe.Message) error {
	if m.Kind == stripe.KindCommit {
		_ = encoded(m, func(header []byte, body [][]byte) error { return conn.Send(codeStripe, header, body...) })
		return nil // the next message says it too
	}
	call := conn.Call
	if m.Record != nil && len(m.Record.Payload) > bulkBytes || m.Kind == stripe.KindRead && m.Count > bulkSectors || m.Kind == stripe.KindDigest || m.Kind == stripe.KindList {
		call = conn.CallBulk
	}
	useRun(m) // for the call itself, which may read the body when its end has been heard of
	defer doneWithRun(m)
	return encoded(m, func(header []byte, body [][]byte) error {
		return call(codeStripe, header, body, func(r bttp.Reply, err error) {
			h.answered(m, r, err)
			doneWithRun(m)
		})
	})
}

// Larger messages travel on the bulk lanes, so that small ones do not wait behind them.
const (
	bulkBytes   = 32 << 10
	bulkSectors = 16
)

// answered takes a member's answer. The payload of a read stays aliased until the reader is done with it: then
// Read.Release gives its memory back, or the garbage collector does; any other reply is released here.
func (h *Handle) answered(m *stripe.Message, r bttp.Reply, err error) {
	if err != nil {
		if blocktree.KindOf(err) == blocktree.Permission {
			h.checkRights()
		}
		return // else the connection is gone, which the watcher tells; or the node does not serve yet
	}
	if m.Kind == stripe.KindPrepare {
		h.stored(m, r)
		return
	}
	a := h.client.decodeAnswer(m, r, new(stripe.Message))
	if a == nil {
		return
	}
	aliased := a.Memory != nil // a belongs to the reader from Step on
	if a.Kind == stripe.KindRead {
		h.enter()
	} else {
		h.enterRoughly()
	}
	if !h.over {
		h.holder.Step(a)
	}
	h.leave()
	if !aliased {
		r.Release()
	}
}

// answers are the messages that answers to PREPARE are decoded into: the machine keeps none of them.
var answers = sync.Pool{New: func() any { return new(stripe.Message) }}

// stored takes a member's answer to a write.
func (h *Handle) stored(m *stripe.Message, r bttp.Reply) {
	room := answers.Get().(*stripe.Message)
	if a := h.client.decodeAnswer(m, r, room); a != nil {
		h.enterRoughly()
		if !h.over {
			h.holder.Step(a)
		}
		h.leave()
		r.Release()
	}
	*room = stripe.Message{}
	answers.Put(room)
}

// checkRights ends the handle if the client may not hold the file any more, which a node has told it.
func (h *Handle) checkRights() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || h.checking {
		return
	}
	h.checking = true
	h.wg.Go(func() {
		if err := h.client.lostRight(h.ctx, h.path, h.inode.ID, meta.RightsHold); err != nil {
			h.client.cfg.Logger.Error("the right to hold the file is gone", "path", h.path.Short(), "err", err)
			h.end(err)
			return
		}
		select {
		case <-h.ctx.Done():
		case <-time.After(rightsCheckPause):
		}
		h.mu.Lock()
		h.checking = false
		h.mu.Unlock()
	})
}

// decodeAnswer makes an answer of the reply to m in a, which is zero; nil if it makes no sense: then the reply is released. The answer of a
// read aliases the reply, and says so in its Memory.
func (c *Client) decodeAnswer(m *stripe.Message, r bttp.Reply, a *stripe.Message) *stripe.Message {
	err := stripe.DecodeInto(a, r.Header, r.Body)
	if err != nil || !a.Answer || a.Kind != m.Kind {
		c.cfg.Logger.Error("answer makes no sense", "node", m.Node.String(), "err", err)
		r.Release()
		return nil
	}
	a.Node = m.Node
	if len(a.Payload) > 0 {
		kept := r // only of these: it is on the heap from here on
		a.Memory = &kept
	}
	return a
}

// ask carries a question of the machine to Raft.
func (h *Handle) ask(q stripe.MetaRequest) {
	layout, kind := h.askRaft(q)
	h.enter()
	if !h.over {
		h.holder.MetaDone(q.ID, layout, kind)
	}
	h.leave()
}

// askRaft returns the newest layout, nil if it is not known, and what became of a change.
func (h *Handle) askRaft(q stripe.MetaRequest) (*stripe.Layout, blocktree.Kind) {
	ctx, cancel := context.WithTimeout(h.ctx, askTimeout)
	defer cancel()
	kind := blocktree.Other
	if q.Change != nil {
		r, err := h.client.propose(ctx, meta.ChangeView{Change: *q.Change})
		if err != nil {
			return nil, blocktree.KindOf(err)
		}
		h.client.noteLayout(r.Layout)
		if fits(r.Layout, &h.inode) {
			return r.Layout, r.Kind
		}
		kind = r.Kind
	}
	layout, err := h.client.layout(ctx, &h.inode)
	if err != nil {
		return nil, blocktree.KindOf(err)
	}
	h.client.noteLayout(layout)
	return layout, kind
}

// fits reports whether a layout that came over the network is one of the file: what does not fit would break the machine. Its size may be another by now.
func fits(l *stripe.Layout, inode *meta.Inode) bool {
	return l != nil && l.File == inode.ID && l.Code == inode.Code && l.SectorBytes == inode.SectorBytes &&
		l.Sectors <= blocktree.FileBytesMax/uint64(l.SectorBytes) && l.Beyond < l.Sectors && len(l.View(0).Members) == l.Code.Shards()
}

// Begin takes the next version of a region, to seal with; NewRun and Write, or Zero, must follow with it.
func (h *Handle) Begin(region blocktree.RegionIndex) (blocktree.Version, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return blocktree.Version{}, h.err
	}
	return h.holder.Begin(region), nil
}

// Zero stores a tombstone over count sectors of one region.
func (h *Handle) Zero(region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32, v blocktree.Version) *Write {
	w := &stripe.Write{Kind: stripe.RecordZero, Region: region, First: first, Count: count, Version: v}
	return &Write{h.do(func(op uint64) { h.holder.Write(op, w) })}
}

// Flush returns when every write submitted before has ended, well or not (each says so itself), and no member is marked; of a file
// of durability flush, when those that were acknowledged are durable, too. It fails with Unavailable after WriteStallTimeout, with Fenced once
// the handle has learnt that the file is another's, with Lost once acknowledged writes may be gone.
func (h *Handle) Flush(ctx context.Context) error {
	return h.do(h.holder.Flush).wait(ctx)
}

// recovered waits until the take-over is over: what was in flight under earlier holders is decided.
func (h *Handle) recovered(ctx context.Context) error {
	h.mu.Lock()
	settles := h.settles
	h.mu.Unlock()
	if settles != nil {
		select {
		case <-settles:
		case <-ctx.Done():
			return &blocktree.Error{Op: "open", Path: h.path.Short(), Kind: blocktree.Unavailable, Err: ctx.Err(),
				Hint: fmt.Sprintf("at least %d of the file's %d members must answer; see btnode status", h.code.Data, h.code.Shards())}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// settle tells who waits for the take-over that it is over, or will never be. mu is held.
func (h *Handle) settle() {
	if h.settles != nil && (h.err != nil || h.holder.Recovered()) {
		close(h.settles)
		h.settles = nil
	}
}

// Close waits for what is in flight, at most closeTimeout, and gives the lease back; what is volatile is durable then, else the next holder
// would have to decide about all of it. What has not ended by then fails with Closed, and its outcome is unknown. If the file was lost before,
// it says so (Fenced, Lost), also to one that had nothing to write.
func (h *Handle) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	err := h.finish(ctx)
	cancel()
	ctx, cancel = context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	if e := h.client.release(ctx, h); err == nil {
		err = e
	}
	return err
}

// finish waits for what is in flight, and ends the handle.
func (h *Handle) finish(ctx context.Context) error {
	h.mu.Lock()
	recovered, err := h.holder.Recovered(), h.err
	h.mu.Unlock()
	if err == nil && recovered { // else nothing was written
		err = h.Flush(ctx)
		h.enter() // the members would keep the last writes as pending, until somebody takes the file over
		h.holder.TellWatermarks()
		h.leave()
	}
	h.client.peers.unwatch(h)
	h.end(blocktree.E("cluster", blocktree.Closed, nil))
	h.cancel()
	h.wg.Wait()
	return err
}

// end stops driving the machine. Whatever is asked of the handle fails with err, unless it had an error already.
func (h *Handle) end(err error) {
	h.mu.Lock()
	h.over = true
	h.leaseUntil.Store(0)
	if h.err == nil {
		h.err = err
	}
	h.settle()
	ops := h.ops
	h.ops = map[uint64]*operation{}
	for _, o := range ops {
		o.err = h.err
	}
	h.mu.Unlock()
	for _, o := range ops {
		o.end()
	}
}

// closeTimeout bounds what Close waits for what is in flight, releaseTimeout for the lease to be given back: that goes on in
// the client if it takes longer.
const (
	closeTimeout   = 10 * time.Second
	releaseTimeout = 2 * time.Second
)
