package cluster

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/internal/erasure"
)

// Reader reads a file without a lease, beside whoever holds it: it drives a stripe.Reader against the members. It changes
// nothing anywhere. All methods may be called by many goroutines at once.
//
// Order of a read. 1. It is asked for. 2. The file's layout is asked for, for all reads that wait by then; beside that the machine
// reads under the layout that was heard last, if there is one. 3. If the layout is that one, what was read so is what is told; else the machine
// reads under the new one. Nothing is told if writes were lost since the reader was opened. 4. If the file changed hands or its views meanwhile, it goes on
// with 2. So a layout is the newest at some time after the read was asked for, and all that was read was asked of the members after that, too (docs/design/0078).
type Reader struct {
	client *Client
	inode  meta.Inode
	path   blocktree.Path
	codec  *erasure.Codec

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{} // for layouts
	size   atomic.Uint64 // in bytes

	mu       sync.Mutex
	clock    roughClock
	machine  *stripe.Reader
	lastOp   uint64
	reads    map[uint64]*leaselessRead
	waiting  []*leaselessRead // for a layout that is asked for after them
	last     *stripe.Layout   // that the cluster gave; nil: none yet
	request  *request         // within which that was asked for, if it was by itself
	retry    []*leaselessRead // wait from the next tick on
	opening  opening
	checking bool // refused asks
	closed   bool
}

// leaselessRead is a read that has not ended.
type leaselessRead struct {
	operation
	region blocktree.RegionIndex
	first  blocktree.SectorIndex
	count  uint32
	zeros  bool
	all    bool // every shard that there is
	care   stripe.Care
	since  time.Duration
	under  *stripe.Layout     // that the machine reads under, or did; nil: none yet
	sure   bool               // that was the newest after the read was asked for
	found  *stripe.ReadResult // what is told if it was; nil: nothing yet

	request *request // nil: unknown
}

// OpenReader makes a Reader of a file, which inode and path describe. It asks nobody.
func (c *Client) OpenReader(path blocktree.Path, inode *meta.Inode) (*Reader, error) {
	if inode.Kind != meta.KindFile {
		return nil, notAFile(path, inode)
	}
	if c.tree != nil {
		c = c.tree.home(inode.ID.Generation, c)
	}
	codec, err := erasure.New(inode.Code)
	if err != nil {
		return nil, err
	}
	r := &Reader{client: c, inode: *inode, path: path, codec: codec, wake: make(chan struct{}, 1), reads: map[uint64]*leaselessRead{},
		clock: roughClock{clock: c.cfg.Clock}}
	r.machine = stripe.NewReader(stripe.ReaderConfig{LookEvery: lookEvery}, r.clock.read())
	r.size.Store(inode.SizeBytes)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	c.listReader(r)
	c.peers.watch(r)
	r.wg.Go(r.tick)
	r.wg.Go(r.layouts)
	return r, nil
}

// Read asks for count sectors of one region, at most RunSectorsMax. It fails with Unavailable after WriteStallTimeout, with
// NotFound once the file is removed, with Lost once acknowledged writes may be gone that it might have read before.
func (r *Reader) Read(region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) *Read {
	return r.ask(&leaselessRead{region: region, first: first, count: count})
}

// ReadIn is Read for the request that ctx is of: where the file was opened for that, the layout was asked for after it, and is not asked for again.
func (r *Reader) ReadIn(ctx context.Context, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) *Read {
	return r.ask(&leaselessRead{region: region, first: first, count: count, request: requestOf(ctx)})
}

// ReadCareful is Handle.ReadCareful without a lease: what is wrong it tells the nodes of, which repair it.
func (r *Reader) ReadCareful(ctx context.Context, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32,
	dst []byte, open func(*Piece, []byte) error) error {
	suspect := func(x stripe.Suspect) {
		r.drive(func() { r.machine.Distrust(x.Node) })
		r.client.suspects.seen(x, r.inode.Code.Parity)
	}
	c := careful{codec: r.codec, sectorBytes: int(r.inode.SectorBytes), file: r.inode.ID, open: open, suspect: suspect,
		all: func(care stripe.Care) (*stripe.ReadResult, error) {
			q := r.ask(&leaselessRead{region: region, first: first, count: count, all: true, care: care})
			err := q.op.wait(ctx)
			return q.op.read, err
		},
		wrong: func(one, _ *Piece, bad *stripe.ShardRun) {
			suspect(stripe.Suspect{Node: bad.Answer.Node, Kind: stripe.SuspectShard, File: r.inode.ID, First: one.First, Count: 1})
		}}
	return c.read(first, dst)
}

// Zeros is Handle.Zeros without a lease; it fails as Read does.
func (r *Reader) Zeros(region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) *Read {
	return r.ask(&leaselessRead{region: region, first: first, count: count, zeros: true})
}

// GiveUp is Handle.GiveUp.
func (r *Reader) GiveUp(q *Read) {
	r.drive(func() {
		x := r.reads[q.op.id]
		if x == nil {
			return
		}
		delete(r.reads, x.id)
		same := func(y *leaselessRead) bool { return x == y }
		r.waiting, r.retry = slices.DeleteFunc(r.waiting, same), slices.DeleteFunc(r.retry, same)
		r.machine.GiveUp(x.id)
		x.end(nil, blocktree.Canceled)
	})
}

func (r *Reader) ask(x *leaselessRead) *Read {
	out := r.enlist(x)
	if !x.zeros && !x.all {
		r.drive(func() {
			if r.reads[x.id] == x && x.under == nil && r.last != nil {
				r.begin(x, r.last, x.sure)
			}
		})
	}
	return out
}

// enlist has a read wait for a layout that is asked for from now on.
func (r *Reader) enlist(x *leaselessRead) *Read {
	x.ended = make(chan struct{})
	out := &Read{&x.operation, r.codec, int(r.inode.SectorBytes)}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		out.op = endedOperation(blocktree.E("cluster", blocktree.Closed, nil))
		return out
	case r.opening.lost:
		out.op = endedOperation(lostError(r.path))
		return out
	}
	r.lastOp++
	x.id, x.since = r.lastOp, r.clock.now()
	r.reads[x.id] = x
	if x.sure = x.request != nil && x.request == r.request; !x.sure {
		r.waiting = append(r.waiting, x)
		signal(r.wake)
	}
	return out
}

// Stats counts what the machine did.
func (r *Reader) Stats() stripe.HolderStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.machine.Stats()
}

// Close fails what has not ended, with Closed, and waits for the reader's goroutines.
func (r *Reader) Close() error {
	r.client.peers.unwatch(r)
	r.client.unlistReader(r)
	r.mu.Lock()
	r.closed = true
	for id, x := range r.reads {
		delete(r.reads, id)
		x.end(nil, blocktree.Closed)
	}
	r.mu.Unlock()
	r.cancel()
	r.wg.Wait()
	return nil
}

func (x *leaselessRead) end(found *stripe.ReadResult, kind blocktree.Kind) {
	if x.read = found; kind != blocktree.Other {
		x.err = blocktree.E("cluster", kind, nil)
	}
	close(x.ended)
}

// fail is end with an error that says why.
func (x *leaselessRead) fail(err error) {
	x.err = err
	close(x.ended)
}

// nodeUp, nodeSilent and nodeDown implement watcher.
func (r *Reader) nodeUp(node blocktree.NodeID, i incarnations) {
	r.drive(func() { r.machine.NodeUp(node, i.disk) }) // whether it is another one is all that matters here
}

func (r *Reader) nodeSilent(blocktree.NodeID) {} // it votes nobody out

func (r *Reader) nodeDown(node blocktree.NodeID) {
	r.drive(func() { r.machine.NodeDown(node) })
}

// tick tells the machine the time, and has reads that could not go on try again.
func (r *Reader) tick() {
	t := time.NewTicker(tickInterval)
	defer t.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
			r.drive(func() {
				r.machine.Tick(r.clock.read())
				if len(r.retry) > 0 {
					r.waiting, r.retry = append(r.waiting, r.retry...), nil
					signal(r.wake)
				}
			})
		}
	}
}

// drive gives the machine an input and does what it wants done. Messages leave after mu is unlocked. What a connection has no
// room for counts as refused by a member that is busy: the machine asks another one, or the same after a later Tick. No time
// passes for it here, so that this ends.
func (r *Reader) drive(input func()) {
	messages := r.turn(func() {
		r.machine.Tick(r.clock.now())
		input()
	})
	for len(messages) > 0 {
		var refused []*stripe.Message
		for _, m := range messages {
			if !r.send(m) {
				refused = append(refused, &stripe.Message{Kind: m.Kind, Answer: true, ID: m.ID, Node: m.Node, File: m.File, Epoch: m.Epoch,
					Err: blocktree.Busy})
			}
		}
		if len(refused) == 0 {
			return
		}
		messages = r.turn(func() {
			for _, a := range refused {
				r.machine.Step(a)
			}
		})
	}
}

// turn runs input under mu, ends the reads that are over, and returns what the machine wants sent.
func (r *Reader) turn(input func()) []*stripe.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	input()
	rd := r.machine.Ready()
	for _, x := range rd.Suspects {
		r.client.suspects.seen(x, r.inode.Code.Parity)
	}
	for _, d := range rd.Done {
		if x := r.reads[d.Op]; x != nil {
			r.done(x, d)
		}
	}
	return append([]*stripe.Message(nil), rd.Messages...)
}

// begin has the machine read under a layout, of which sure says that it was the newest after the read was asked for. mu is held, here and below.
func (r *Reader) begin(x *leaselessRead, l *stripe.Layout, sure bool) {
	if x.under != nil { // the machine may be at it yet: what it finds under the layout of before is nobody's
		delete(r.reads, x.id)
		r.lastOp++
		x.id = r.lastOp
		r.reads[x.id] = x
	}
	x.under, x.sure, x.found = l, sure, nil
	switch {
	case x.zeros:
		r.machine.Zeros(x.id, l, x.region, x.first, x.count)
	case x.all:
		r.machine.ReadAll(x.id, l, x.region, x.first, x.count, x.care)
	default:
		r.machine.Read(x.id, l, x.region, x.first, x.count)
	}
}

// given is for a layout that was asked for after the read was.
func (r *Reader) given(x *leaselessRead, l *stripe.Layout) {
	switch {
	case x.under == nil || !reflect.DeepEqual(x.under, l):
		r.begin(x, l, true)
	case x.found != nil:
		delete(r.reads, x.id)
		x.end(x.found, blocktree.Other)
	default:
		x.sure = true
	}
}

// done is what the machine says of a read. Under a layout that nobody has said to be the newest yet nothing is told.
func (r *Reader) done(x *leaselessRead, d stripe.Done) {
	switch {
	case x.sure:
		x.under, x.sure = nil, false
		r.over(x, d)
	case d.Err == blocktree.Other:
		x.found = d.Read
	default:
		x.under = nil
	}
}

// over ends a read, or keeps it for another try: under a newer layout, or when the new holder has decided.
func (r *Reader) over(x *leaselessRead, d stripe.Done) {
	switch d.Err {
	case blocktree.StaleView, blocktree.Recovering, blocktree.NotFound, blocktree.Unavailable:
		if r.clock.now()-x.since < blocktree.WriteStallTimeout {
			r.retry = append(r.retry, x)
			return
		}
		d.Err = blocktree.Unavailable
	}
	delete(r.reads, x.id)
	x.end(d.Read, d.Err)
}

// send gives a message to the member's connection, and reports false where that has no room. What is lost with a connection
// the machine asks again when the node is back.
func (r *Reader) send(m *stripe.Message) bool {
	conn := r.client.peers.conn(m.Node)
	if conn == nil {
		return true
	}
	header, body := stripe.EncodeMessage(m)
	call := conn.Call
	if m.Count > bulkSectors {
		call = conn.CallBulk
	}
	err := call(codeStripe, header, body, func(reply bttp.Reply, err error) {
		if err != nil {
			if blocktree.KindOf(err) == blocktree.Permission {
				r.refused(m)
			}
			return
		}
		a := r.client.decodeAnswer(m, reply, new(stripe.Message))
		if a == nil {
			return
		}
		aliased := a.Memory != nil // a belongs to whoever reads from Step on
		r.drive(func() { r.machine.Step(a) })
		if !aliased {
			reply.Release()
		}
	})
	return blocktree.KindOf(err) != blocktree.Busy
}

// refused has another member asked in place of one that has refused for want of a right, and finds out whether the client may still read.
func (r *Reader) refused(m *stripe.Message) {
	r.drive(func() {
		r.machine.Step(&stripe.Message{Kind: m.Kind, Answer: true, ID: m.ID, Node: m.Node, File: m.File, Epoch: m.Epoch, Err: blocktree.Busy})
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.checking {
		return
	}
	r.checking = true
	r.wg.Go(func() {
		err := r.client.lostRight(r.ctx, r.path, r.inode.ID, meta.RightRead)
		if err != nil {
			r.client.cfg.Logger.Error("the right to read the file is gone", "path", r.path.Short(), "err", err)
			r.failAll(err)
		} else {
			select {
			case <-r.ctx.Done():
			case <-time.After(rightsCheckPause):
			}
		}
		r.mu.Lock()
		r.checking = false
		r.mu.Unlock()
	})
}

// failAll ends every read with an error.
func (r *Reader) failAll(err error) {
	r.drive(func() {
		for id, x := range r.reads {
			delete(r.reads, id)
			r.machine.GiveUp(id)
			x.fail(err)
		}
		r.waiting, r.retry = nil, nil
	})
}

// layouts asks for the layout whenever reads wait, for all of them at once, and starts them under it.
func (r *Reader) layouts() {
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.wake:
		}
		r.mu.Lock()
		reads := r.waiting
		r.waiting = nil
		r.mu.Unlock()
		if len(reads) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(r.ctx, askTimeout)
		layout, err := r.client.layout(ctx, &r.inode)
		cancel()
		r.drive(func() {
			verdict := blocktree.Other
			if err == nil {
				verdict = r.opening.judge(layout)
			}
			if err == nil && verdict == blocktree.Other {
				r.last, r.request = layout, nil
			}
			for _, x := range reads {
				switch kind := blocktree.KindOf(err); {
				case r.reads[x.id] == nil: // given up meanwhile
				case verdict == blocktree.Lost:
					delete(r.reads, x.id)
					x.end(nil, blocktree.Lost)
				case verdict == blocktree.StaleView:
					r.over(x, stripe.Done{Op: x.id, Err: verdict})
				case err == nil:
					r.given(x, layout)
				case kind == blocktree.NotFound: // the file is removed
					delete(r.reads, x.id)
					x.end(nil, kind)
				case kind == blocktree.Permission:
					delete(r.reads, x.id)
					x.fail(err)
				default:
					r.over(x, stripe.Done{Op: x.id, Err: blocktree.Unavailable})
				}
			}
		})
	}
}
