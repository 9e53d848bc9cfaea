package cluster

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/internal/wire"
)

// Redialling a node that is away: at once, then after growing pauses.
const (
	redialMin   = 50 * time.Millisecond
	redialMax   = 1 * time.Second
	dialTimeout = 2 * time.Second
	// lostGrace is how long a node that was reached may be redialled before it is called down: a restart that takes
	// less costs nobody a view change.
	lostGrace = 750 * time.Millisecond
	// quietMax is how long another node that is counted on may not have been heard when one is called down: who is quiet for longer may have gone
	// just before it, and is known to live, or told of as silent, within DeadAfter.
	quietMax = blocktree.HeartbeatInterval
	// lostMax is how long other ways to it may be looked for. With the silence before, 1.5 to 1.75 s, that is within the 5 s in which
	// a node must be called down.
	lostMax = 3 * time.Second
	// lastedAfter is how long a connection must have lived for its end to be redialled at once, and for the pauses to begin anew: else a way
	// that comes up and is cut at once, each time, would be a loop of handshakes.
	lastedAfter = 2 * time.Second
	// helloPause is how long a node that does not serve yet is left alone.
	helloPause = 100 * time.Millisecond
)

// watcher is told when a node can be reached and when not. Calls for one node come in order, from one goroutine, and
// must not block.
type watcher interface {
	nodeUp(node blocktree.NodeID, i incarnations)
	nodeSilent(node blocktree.NodeID) // the connection has ended; nodeUp or, after a while, nodeDown follows
	nodeDown(node blocktree.NodeID)
}

// where is the runtime at the address where it was seen, at those that were told last, and at those that were known first: a configuration may be newer than a record.
func (q *peer) where() blocktree.Runtime {
	r := q.runtime
	if slices.Contains(r.Services, blocktree.ServiceSector) {
		r.Services = []string{blocktree.ServiceSector} // which it must prove, whatever else it may be
	}
	at, seen := q.at.Load(), q.heard.Load().addr()
	if seen == "" && (at == nil || slices.Equal(*at, r.Endpoints)) {
		return r
	}
	var all []string
	add := func(addrs ...string) {
		for _, x := range addrs {
			if !slices.Contains(all, x) {
				all = append(all, x)
			}
		}
	}
	if seen != "" {
		add(seen)
	}
	if at != nil {
		add(*at...)
	}
	add(r.Endpoints...)
	r.Endpoints = all
	return r
}

// peers keeps one connection to each sector host of a cluster, and tells watchers what it sees.
type peers struct {
	endpoint *bttp.Endpoint
	logger   *slog.Logger
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	detours  bool // a node may be reached through another one; set before ensure

	// How a node is dialled: the endpoint's, but for tests.
	dialOwn     func(context.Context, blocktree.Runtime) (*bttp.Conn, error)
	dialVia     func(context.Context, *bttp.Conn, blocktree.Runtime) (*bttp.Conn, error)
	dialBetter  func(context.Context, blocktree.Runtime) (*bttp.Conn, error) // a way on which nobody passes bytes on; dialOwn, unless ways are set
	dialTimeout time.Duration

	// mu orders what watchers are told; a watcher may call conn while it holds it. mapMu guards the map itself, and is
	// the inner one.
	mu       sync.Mutex
	watchers map[watcher]bool
	greeted  func(*bttp.Conn) // is told of each connection on which a node serves; nil: nobody wants to know. Set before ensure, and must not block.
	stranger func()           // told when a node says that it has another store; nil: nobody wants to know. Set before ensure.
	mapMu    sync.RWMutex
	all      map[blocktree.NodeID]*peer
}

// peer is one node. Its conn is nil while it cannot be reached.
type peer struct {
	runtime blocktree.Runtime
	ctx     context.Context // ends when the node is forgotten
	cancel  context.CancelFunc
	at      atomic.Pointer[[]string] // its newest addresses, where others than runtime's were told; not to be changed
	heard   atomic.Pointer[heardAt]  // where it is seen; nil: it has not said on which port it listens
	nudged  atomic.Bool              // somebody has it looked for there just now
	conn    atomic.Pointer[bttp.Conn]
	reached atomic.Uint64 // connections that came about
	refused atomic.Bool   // it could not be reached when it was tried
	said    atomic.Bool   // and somebody has said so; false: it did not answer in time
	// denied is why the node, or this runtime, refuses the other's identity; nil if neither did when it was dialled last.
	denied atomic.Pointer[error]
	lost   time.Time // keep's own: when a node that served stopped answering; zero once watchers know

	// keep's own too, of the ways to the node: gateway.go.
	trial   time.Duration                  // how long a connection of its own is tried before it replaces one through a gateway
	far     bool                           // its own way did not come up when it was tried last
	gate    gate                           // of the connection through a gateway
	shunned map[blocktree.NodeID]time.Time // gateways that were of no use, and since when
	tried   map[blocktree.NodeID]bool      // those that were of no use since lost

	// serving is guarded by peers.mu: the node's member service has said hello and nothing was missed since.
	serving     bool
	missing     bool // it serves, as far as is known, and its connection has ended
	as          incarnations
	silentSince time.Time // guarded by peers.mu too: since when it does not serve
	calledDown  bool      // and it was told of as down, and has not served since
}

func newPeers(endpoint *bttp.Endpoint, logger *slog.Logger) *peers {
	p := &peers{endpoint: endpoint, logger: logger, all: map[blocktree.NodeID]*peer{}, watchers: map[watcher]bool{},
		dialOwn: endpoint.Dial, dialVia: endpoint.DialVia, dialTimeout: dialTimeout}
	p.dialBetter = func(ctx context.Context, r blocktree.Runtime) (*bttp.Conn, error) { return p.dialOwn(ctx, r) }
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// close stops every dialler and waits for them. Connections are the endpoint's to close.
func (p *peers) close() {
	p.cancel()
	p.wg.Wait()
}

// ensure starts to keep a connection to each of the runtimes that is not known yet. Who is known, and is not reached where it was, is looked for at its newest addresses from now on.
func (p *peers) ensure(runtimes []blocktree.Runtime) {
	p.mapMu.Lock()
	defer p.mapMu.Unlock()
	for _, r := range runtimes {
		if q := p.all[r.Node]; q != nil && len(r.Endpoints) > 0 {
			q.at.Store(&r.Endpoints)
		}
		if r.Node == 0 || p.all[r.Node] != nil || p.ctx.Err() != nil {
			continue
		}
		q := &peer{runtime: r, silentSince: time.Now(), trial: trialMin}
		q.ctx, q.cancel = context.WithCancel(p.ctx)
		p.all[r.Node] = q
		p.wg.Go(func() { p.keep(q) })
	}
}

// only has one node reached by a connection that somebody else keeps. It is not looked for when that has ended.
func (p *peers) only(r blocktree.Runtime, conn *bttp.Conn) {
	q := &peer{runtime: r, silentSince: time.Now()}
	q.ctx, q.cancel = context.WithCancel(p.ctx)
	q.conn.Store(conn)
	p.mapMu.Lock()
	defer p.mapMu.Unlock()
	p.all[r.Node] = q
}

// hopeless reports whether every node was tried and none could be reached.
func (p *peers) hopeless() bool {
	p.mapMu.RLock()
	defer p.mapMu.RUnlock()
	for _, q := range p.all {
		if q.conn.Load() != nil || !q.refused.Load() {
			return false
		}
	}
	return true
}

// denied says why, where no node can be reached and each of them was refused for its identity, or refuses this runtime's; else nil.
func (p *peers) denied() (why error) {
	p.mapMu.RLock()
	defer p.mapMu.RUnlock()
	for _, q := range p.all {
		err := q.denied.Load()
		if q.conn.Load() != nil || err == nil {
			return nil
		}
		why = *err
	}
	return why
}

// undecided reports whether a node that cannot be reached has not said no either: it may be far away.
func (p *peers) undecided() bool {
	p.mapMu.RLock()
	defer p.mapMu.RUnlock()
	for _, q := range p.all {
		if q.conn.Load() == nil && !q.said.Load() {
			return true
		}
	}
	return false
}

// adopt keeps connections to these runtimes from now on, and to no others.
func (p *peers) adopt(runtimes []blocktree.Runtime) {
	p.mapMu.Lock()
	for n, q := range p.all {
		if !slices.ContainsFunc(runtimes, func(r blocktree.Runtime) bool { return r.Node == n }) {
			delete(p.all, n)
			q.cancel()
		}
	}
	p.mapMu.Unlock()
	p.ensure(runtimes)
}

// silentFor returns the nodes that have not served for so long, ascending.
func (p *peers) silentFor(d time.Duration) (nodes []blocktree.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes() {
		if q := p.peer(n); q != nil && !q.serving && time.Since(q.silentSince) >= d {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// broadcast sends a message that nobody answers to every node that is connected.
func (p *peers) broadcast(code uint16, header []byte) {
	for _, n := range p.nodes() {
		if conn := p.conn(n); conn != nil {
			_ = conn.Send(code, header) // the next one says it too
		}
	}
}

// conn returns the connection to a node, nil while there is none. It does not block.
func (p *peers) conn(node blocktree.NodeID) *bttp.Conn {
	if q := p.peer(node); q != nil {
		return q.conn.Load()
	}
	return nil
}

func (p *peers) peer(node blocktree.NodeID) *peer {
	p.mapMu.RLock()
	defer p.mapMu.RUnlock()
	return p.all[node]
}

// nodes returns the known nodes in ascending order.
func (p *peers) nodes() []blocktree.NodeID {
	p.mapMu.RLock()
	defer p.mapMu.RUnlock()
	return slices.Sorted(maps.Keys(p.all))
}

// runtime returns what was said of a node.
func (p *peers) runtime(node blocktree.NodeID) blocktree.Runtime {
	if q := p.peer(node); q != nil {
		return q.runtime
	}
	return blocktree.Runtime{Node: node}
}

// isServing reports whether the node answers and serves sectors, or did and has not been called down: lostGrace and lostMax.
func (p *peers) isServing(node blocktree.NodeID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.peer(node)
	return q != nil && q.serving
}

// isHeard is isServing for who is to be counted on: a node whose connection has ended may come back with another disk.
func (p *peers) isHeard(node blocktree.NodeID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.peer(node)
	return q != nil && q.serving && !q.missing
}

// watch tells w of every node that serves now and of every one that is known to be away, then of every change until unwatch.
func (p *peers) watch(w watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers[w] = true
	for _, n := range p.nodes() {
		switch q := p.peer(n); {
		case q == nil:
		case q.serving && !q.missing: // of one that is missing it is told what comes of it: what it said is old
			w.nodeUp(n, q.as)
		case q.away():
			w.nodeDown(n)
		}
	}
}

// away reports whether whoever begins to watch need not wait for the node: that was done, by those before. It holds peers.mu.
func (q *peer) away() bool {
	return !q.serving && (q.calledDown || time.Since(q.silentSince) >= blocktree.MemberTimeout)
}

func (p *peers) unwatch(w watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, w)
}

// tell notes a node's standing and passes a change on. It holds p.mu, so that watchers see one order.
func (p *peers) tell(q *peer, serving bool, as incarnations) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := q.serving
	q.serving, q.missing, q.as = serving, false, as
	if was && !serving {
		q.silentSince = time.Now()
	}
	q.calledDown = !serving && (was || q.calledDown)
	for w := range p.watchers {
		if serving {
			w.nodeUp(q.runtime.Node, as)
		} else if was {
			w.nodeDown(q.runtime.Node)
		}
	}
}

// miss tells watchers that the connection of a node which served has ended, and that it is being looked for.
func (p *peers) miss(q *peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q.missing = true
	for w := range p.watchers {
		w.nodeSilent(q.runtime.Node)
	}
}

// keep dials the node, says hello, waits until the connection ends, and starts again: at once after one that lasted, else after a pause. At any
// time one connection is in use.
func (p *peers) keep(q *peer) {
	pause := redialMin
	var conn *bttp.Conn
	for q.ctx.Err() == nil {
		var err error
		if conn == nil {
			conn, err = p.reach(q)
		}
		if err == nil {
			since := time.Now()
			q.conn.Store(conn)
			q.denied.Store(nil)
			q.reached.Add(1)
			conn = p.attend(q, conn)
			q.conn.Store(nil)
			if lasted := time.Since(since) >= lastedAfter; lasted || conn != nil {
				if lasted {
					pause = redialMin
				}
				continue
			}
		} else {
			kind := blocktree.KindOf(err)
			if q.denied.Store(nil); kind == blocktree.Unauthenticated {
				q.denied.Store(&err)
			}
			q.said.Store(kind != blocktree.Timeout && kind != blocktree.Canceled)
			q.refused.Store(true)
			if p.exhausted(q) {
				p.silent(q, err)
			}
		}
		if !q.lost.IsZero() {
			pause = min(pause, redialMax/4)
		}
		q.sleep(nil, pause/2+rand.N(pause/2)) // peers that lost one another at once do not come back at once
		if pause = pause * 2; pause > redialMax {
			pause = redialMax / 4
		}
	}
	if p.ctx.Err() == nil { // forgotten
		p.tell(q, false, incarnations{})
	}
}

// silent tells watchers that a node which served has not answered for longer than the grace. A node that is up and does
// not serve yet is as silent as one that is down.
func (p *peers) silent(q *peer, err error) {
	if q.lost.IsZero() || time.Since(q.lost) <= lostGrace || p.doubtsOthers() && time.Since(q.lost) < lostMax {
		return
	}
	q.lost = time.Time{}
	p.logger.Warn("node does not answer", "node", q.runtime.Path.Short(), "err", err)
	p.tell(q, false, incarnations{})
}

// doubtsOthers reports whether a node that is counted on has not been heard for a while. Whoever is called down may be voted out, once and for all,
// where enough others live (docs/design/0001-sector-protocol.md, I7): so that is not gone by before it is known.
func (p *peers) doubtsOthers() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes() {
		q := p.peer(n)
		if q == nil || !q.serving || q.missing {
			continue
		}
		if conn := q.conn.Load(); conn != nil && conn.Quiet() > quietMax {
			return true
		}
	}
	return false
}

// sleep returns after d, or when conn, if any, or the peer ends; it reports whether neither has.
func (q *peer) sleep(conn *bttp.Conn, d time.Duration) bool {
	var done <-chan struct{}
	if conn != nil {
		done = conn.Done()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return false
	case <-q.ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// attend greets the node until it serves, then waits for the end of the connection. It returns another one where that is to take its
// place.
func (p *peers) attend(q *peer, conn *bttp.Conn) (next *bttp.Conn) {
	for asked := p.stranger == nil; ; {
		ctx, cancel := context.WithTimeout(q.ctx, p.within(q, blocktree.DeadAfter))
		as, err := hello(ctx, conn, q.runtime.Node)
		cancel()
		if err == nil {
			p.tell(q, true, as)
			if p.greeted != nil {
				p.greeted(conn)
			}
			next = p.attendServing(q, conn)
			q.lost, q.tried = time.Now(), nil
			p.miss(q)
			return next
		}
		// The fault is that of the way, perhaps: others are tried before anybody is told.
		broken := conn.Err() != nil || blocktree.KindOf(err) == blocktree.Timeout
		if broken && conn.Asked() {
			p.leaveAsked(q, conn, err)
			return nil
		}
		if broken && conn.Via() != "" {
			p.leaveGateway(q, conn, err)
			return nil
		}
		if !broken || p.exhausted(q) {
			p.silent(q, err)
		}
		pause := helloPause // it is up, but not ready to serve yet
		if blocktree.KindOf(err) == blocktree.Invalid {
			pause = redialMax
			if asked { // else it was replaced, perhaps, and the records say so
				p.logger.Error("node is not who its record says", "node", q.runtime.Path.Short(), "err", err)
			}
			if p.stranger != nil {
				p.stranger()
				asked = true
			}
		}
		if !q.sleep(conn, pause) {
			if conn.Via() != "" || conn.Asked() { // nobody else knows it
				_ = conn.Close()
			}
			return nil
		}
	}
}

// hello asks the node which store it has and under which incarnations it serves.
func hello(ctx context.Context, conn *bttp.Conn, want blocktree.NodeID) (i incarnations, err error) {
	r, err := conn.CallWait(ctx, codeHello, nil)
	if err != nil {
		return i, err
	}
	defer r.Release()
	d := wire.NewDecoder(r.Header)
	node := blocktree.NodeID(d.U64())
	copy(i.disk[:], d.Raw(len(i.disk)))
	copy(i.volatile[:], d.Raw(len(i.volatile)))
	if err := d.Finish(); err != nil {
		return i, err
	}
	if node != want {
		return i, &blocktree.Error{Op: "cluster.hello", Kind: blocktree.Invalid,
			Hint: "the store id in the config must be that of the node's store"}
	}
	return i, nil
}

// hello answers a greeting.
func (s *Service) hello(req *bttp.Request) {
	s.mu.Lock()
	i := s.serving
	s.mu.Unlock()
	if i == (incarnations{}) {
		req.Fail(blocktree.E("cluster.hello", blocktree.Unavailable, errors.New("the node is starting")))
		return
	}
	var e wire.Encoder
	e.U64(uint64(s.cfg.Node))
	e.Raw(i.disk[:])
	e.Raw(i.volatile[:])
	req.Reply(e.Buf)
}
