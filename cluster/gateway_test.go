package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
)

// gatewayBed is a few nodes that do no more than greet and pass on, and a client that may be cut off from each of them.
type gatewayBed struct {
	t       *testing.T
	key     cred.Key
	root    blocktree.Principal
	nodes   []*fakeNode
	client  *peers
	told    told
	log     *lockedBuffer
	cut     [4]atomic.Bool // by node: the client's own way does not come up
	dialled [4]atomic.Int64
}

// fakeNode is one of them.
type fakeNode struct {
	service     *Service
	runtime     blocktree.Runtime
	key         cred.Key
	chain       cred.Credentials
	incarnation atomic.Uint32
	mute        atomic.Bool // it says no hello
	slow, hang  atomic.Bool // it says late, or never, whether it reaches another
}

// told is a watcher that keeps what it was told, in order.
type told struct {
	mu     sync.Mutex
	events []string
	onUp   func(node blocktree.NodeID)
}

func (w *told) nodeUp(n blocktree.NodeID, i incarnations) {
	w.add(fmt.Sprintf("up %d %d", n, i.disk[0]), n)
}

func (w *told) nodeSilent(n blocktree.NodeID) { w.add(fmt.Sprintf("silent %d", n), 0) }

func (w *told) nodeDown(n blocktree.NodeID) { w.add(fmt.Sprintf("down %d", n), 0) }

func (w *told) add(event string, up blocktree.NodeID) {
	w.mu.Lock()
	w.events = append(w.events, event)
	f := w.onUp
	w.mu.Unlock()
	if f != nil && up != 0 {
		f(up)
	}
}

// count is how often an event was told.
func (w *told) count(event string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e == event {
			n++
		}
	}
	return n
}

func newGatewayBed(t *testing.T) *gatewayBed {
	b := &gatewayBed{t: t, log: new(lockedBuffer)}
	b.key = testKey(t)
	b.root = b.key.Principal()
	for i := range 3 {
		b.add(i + 1)
	}
	var all []blocktree.Runtime
	for _, n := range b.nodes {
		all = append(all, n.runtime)
	}
	for _, n := range b.nodes {
		n.service.peers.ensure(all)
	}
	key, chain := b.identity("client")
	e, err := bttp.New(bttp.Config{Key: key, Credentials: chain, Root: b.root, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b.client = newPeers(e, slog.New(slog.NewTextHandler(b.log, nil)))
	b.client.detours = true
	b.client.dialOwn = func(ctx context.Context, r blocktree.Runtime) (*bttp.Conn, error) {
		b.dialled[r.Node].Add(1)
		if b.cut[r.Node].Load() {
			return nil, blocktree.E("dial", blocktree.Unavailable, errors.New("cut"))
		}
		return e.Dial(ctx, r)
	}
	b.client.watch(&b.told)
	t.Cleanup(func() {
		b.client.close()
		_ = e.Close()
		for _, n := range b.nodes {
			n.stop()
		}
	})
	return b
}

// begin has the client keep connections to all nodes.
func (b *gatewayBed) begin() {
	var all []blocktree.Runtime
	for _, n := range b.nodes {
		all = append(all, n.runtime)
	}
	b.client.ensure(all)
}

func (b *gatewayBed) identity(name string, services ...string) (cred.Key, cred.Credentials) {
	key := testKey(b.t)
	now := time.Now()
	chain, err := cred.Issue(b.key, nil, b.root, cred.Grant{Subject: key.Public(), Path: blocktree.RootPath(b.root).Join(name),
		Services: services, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	if err != nil {
		b.t.Fatal(err)
	}
	return key, chain
}

// add starts a node.
func (b *gatewayBed) add(i int) {
	n := &fakeNode{}
	n.key, n.chain = b.identity(fmt.Sprintf("node%d", i), blocktree.ServiceSector)
	n.runtime = blocktree.Runtime{Path: blocktree.RootPath(b.root).Join(fmt.Sprintf("node%d", i)), Principal: n.key.Principal(),
		Node: blocktree.NodeID(i), Services: []string{blocktree.ServiceSector}}
	n.incarnation.Store(1)
	b.nodes = append(b.nodes, n)
	b.start(n, "127.0.0.1:0", nil)
	n.runtime.Endpoints = n.service.endpoint.Addrs()
}

// start runs a node that has none yet; peers are those that it keeps connections to.
func (b *gatewayBed) start(n *fakeNode, listen string, peers []blocktree.Runtime) {
	s := &Service{}
	s.cfg.Node = n.runtime.Node
	e, err := bttp.Listen(b.t.Context(), bttp.Config{Key: n.key, Credentials: n.chain, Root: b.root, Addrs: []string{listen}, Relay: s.relayTo,
		Log: slog.New(slog.DiscardHandler), Handler: bttp.HandlerFunc(func(req *bttp.Request) {
			switch req.Code {
			case codeHello:
				if n.mute.Load() {
					break
				}
				s.mu.Lock()
				s.serving.disk = blocktree.Incarnation{byte(n.incarnation.Load())}
				s.mu.Unlock()
				s.hello(req)
			case codeReach:
				if n.slow.Load() {
					time.Sleep(50 * time.Millisecond)
				}
				if !n.hang.Load() {
					s.answerReach(req)
				}
			}
			req.Release()
		})})
	if err != nil {
		b.t.Fatal(err)
	}
	s.endpoint = e
	s.peers = newPeers(e, slog.New(slog.DiscardHandler))
	s.gateway.Store(s.peers)
	s.peers.ensure(peers)
	n.service = s
}

func (n *fakeNode) stop() {
	if n.service != nil {
		n.service.peers.close()
		_ = n.service.endpoint.Close()
		n.service = nil
	}
}

// reached waits until the client has a connection to node n through gateway, 0 for none.
func (b *gatewayBed) reached(n, gateway blocktree.NodeID) *bttp.Conn {
	b.t.Helper()
	want := blocktree.Path("")
	if gateway != 0 {
		want = blocktree.Path(b.nodes[gateway-1].runtime.Path.Short())
	}
	awaitThat(b.t, fmt.Sprintf("node %d is not reached through %q", n, want), func() bool {
		return b.client.isServing(n) && b.client.conn(n) != nil && b.client.conn(n).Err() == nil && b.client.via(n) == want
	})
	return b.client.conn(n)
}

// fullMesh waits until every node has a connection to every other.
func (b *gatewayBed) fullMesh() {
	b.t.Helper()
	for _, n := range b.nodes {
		for _, o := range b.nodes {
			if n != o {
				awaitThat(b.t, "the nodes do not meet", func() bool { return n.service.peers.isServing(o.runtime.Node) })
			}
		}
	}
}

// TestGateway: a node that the client cannot reach is reached through another, as itself; through a third when that one
// ends, which nobody is told of; and by its own way when that is back.
func TestGateway(t *testing.T) {
	b := newGatewayBed(t)
	b.fullMesh()
	b.cut[3].Store(true)
	b.nodes[2].incarnation.Store(7)
	b.begin()
	awaitThat(t, "node 3 is not reached", func() bool { return b.told.count("up 3 7") == 1 })
	first := b.client.conn(3)
	if first.Peer().Principal != b.nodes[2].runtime.Principal || first.Via() == "" {
		t.Fatalf("node 3 is %v via %q", first.Peer().Path, first.Via())
	}
	gateway := blocktree.NodeID(1)
	if first.Via() == b.nodes[1].runtime.Path {
		gateway = 2
	}
	b.nodes[gateway-1].stop()
	b.reached(3, 3-gateway)
	awaitThat(t, "the new way is not told", func() bool { return b.told.count("up 3 7") == 2 })
	if b.told.count("down 3") > 0 {
		t.Error("node 3 was called down when its gateway went")
	}
	second := b.client.conn(3)
	b.told.mu.Lock()
	b.told.onUp = func(n blocktree.NodeID) {
		select {
		case <-second.Done():
		default:
			if n == 3 {
				t.Error("the machine is told of a way while another is in use")
			}
		}
	}
	b.told.mu.Unlock()
	b.cut[3].Store(false)
	b.reached(3, 0)
	awaitThat(t, "the direct way is not told", func() bool { return b.told.count("up 3 7") == 3 })
	if b.told.count("down 3") > 0 {
		t.Error("node 3 was called down when its own way came back")
	}
	q := &peer{runtime: b.nodes[2].runtime}
	for _, n := range b.client.nodes() {
		q.shun(b.client.peer(n))
	}
	if conn, _ := b.client.detour(t.Context(), q); conn == nil {
		t.Error("a gateway that was of no use lately is not tried though there is no other")
	} else {
		_ = conn.Close()
	}
	for _, line := range []string{"node is reached through a gateway", "node is reached directly again"} {
		if !b.log.has(line) {
			t.Errorf("the log does not say %q", line)
		}
	}
}

// TestGatewayRestartedMember: a member that starts anew behind a gateway says so itself, and what was asked of its last life is
// answered by nobody.
func TestGatewayRestartedMember(t *testing.T) {
	b := newGatewayBed(t)
	b.fullMesh()
	b.cut[3].Store(true)
	b.begin()
	awaitThat(t, "node 3 is not reached", func() bool { return b.told.count("up 3 1") == 1 })
	old := b.client.conn(3)
	n := b.nodes[2]
	n.stop()
	<-old.Done()
	awaitThat(t, "a dead node behind living gateways is not called down", func() bool { return b.told.count("down 3") == 1 })
	n.incarnation.Store(2)
	b.start(n, n.runtime.Endpoints[0], nil)
	awaitThat(t, "its new life is not told", func() bool { return b.told.count("up 3 2") == 1 })
	if b.told.count("up 3 1") != 1 || b.told.count("down 1")+b.told.count("down 2") > 0 {
		t.Errorf("told: %v", b.told.events)
	}
}

// TestGatewayNone: a node that no gateway reaches either is called down, once, and a client that reaches nobody asks nobody.
func TestGatewayNone(t *testing.T) {
	b := newGatewayBed(t)
	b.fullMesh()
	b.begin()
	for n := range blocktree.NodeID(3) {
		b.reached(n+1, 0)
	}
	for n := range 2 {
		b.nodes[n].service.gateway.Store(nil) // they do not pass on, whatever they say
	}
	b.cut[3].Store(true)
	_ = b.client.conn(3).Close()
	awaitThat(t, "node 3 is not called down", func() bool { return b.told.count("down 3") == 1 })
	if b.client.conn(3) != nil {
		t.Error("there is a connection all the same")
	}
	for n := range 2 {
		b.nodes[n].service.gateway.Store(b.nodes[n].service.peers)
	}
	awaitThat(t, "gateways that were of no use are not tried again", func() bool { return b.told.count("up 3 1") == 2 })
	for n := blocktree.NodeID(1); n < 3; n++ { // what is behind a gateway is no gateway
		b.cut[n].Store(true)
		_ = b.client.conn(n).Close()
	}
	for n := range blocktree.NodeID(3) {
		awaitThat(t, "a client that reaches no node thinks it does", func() bool { return b.told.count(fmt.Sprintf("down %d", n+1)) > 0 })
	}
	awaitThat(t, "a connection is left", func() bool {
		return b.client.conn(1) == nil && b.client.conn(2) == nil && b.client.conn(3) == nil
	})
}

// TestGatewayOfAStartingNode: a node that had not started when its own way was tried, and has by the time a gateway reaches it, needs none.
func TestGatewayOfAStartingNode(t *testing.T) {
	b := newGatewayBed(t)
	b.fullMesh()
	b.client.ensure([]blocktree.Runtime{b.nodes[0].runtime, b.nodes[1].runtime})
	b.reached(1, 0)
	b.reached(2, 0)
	dial, tries := b.client.dialOwn, 0
	b.client.dialOwn = func(ctx context.Context, r blocktree.Runtime) (*bttp.Conn, error) {
		if r.Node != 3 {
			return dial(ctx, r)
		}
		if tries++; tries == 1 {
			return nil, blocktree.E("dial", blocktree.Unavailable, errors.New("refused"))
		}
		return b.client.endpoint.Dial(t.Context(), r) // however long it takes
	}
	conn, err := b.client.reach(&peer{runtime: b.nodes[2].runtime, ctx: t.Context(), trial: trialMin})
	if err != nil || conn.Via() != "" || tries != 2 {
		t.Fatalf("%d tries: %v, %v", tries, conn, err)
	}
}

// TestGatewayComesLate: while a node's own way is waited for, a gateway that turns up is used.
func TestGatewayComesLate(t *testing.T) {
	b := newGatewayBed(t)
	b.fullMesh()
	b.client.dialTimeout = time.Hour
	dial, late := b.client.dialOwn, make(chan struct{})
	b.client.dialOwn = func(ctx context.Context, r blocktree.Runtime) (*bttp.Conn, error) {
		switch r.Node {
		case 2, 3: // as if packets were dropped
			<-ctx.Done()
			return nil, ctx.Err()
		}
		select {
		case <-late:
		case <-ctx.Done():
		}
		return dial(ctx, r)
	}
	b.begin()
	time.Sleep(3 * detourAfter / 2) // so that there was nobody to ask; if not, this shows less
	close(late)
	b.reached(1, 0)
	b.reached(2, 1)
	b.reached(3, 1)
}

// TestGatewayTrial: a way of a node's own that comes and goes is tried for longer each time, before it is used again.
func TestGatewayTrial(t *testing.T) {
	b := newGatewayBed(t)
	b.fullMesh()
	dial := func() *bttp.Conn {
		conn, err := b.client.endpoint.Dial(t.Context(), b.nodes[2].runtime)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	q := &peer{runtime: b.nodes[2].runtime, ctx: t.Context(), trial: trialMin}
	for want := 2 * trialMin; want <= 2*trialMax; want *= 2 {
		conn := dial()
		_ = conn.Close()
		b.client.attendOwn(q, conn)
		if q.trial != min(want, trialMax) {
			t.Fatalf("a trial of %v, not %v", q.trial, want)
		}
	}
	own, via := dial(), b.nodes[0].service.peers.conn(2) // any connection that lives
	q.trial = trialMin
	ended := make(chan bool, 1)
	go func() { ended <- b.client.proves(q, via, own) }()
	_ = own.Close()
	if <-ended || q.trial != trialMin && q.trial != 2*trialMin { // it may have ended before the first hello
		t.Errorf("a connection that ended is used; trial %v", q.trial)
	}
	own, q.trial = dial(), trialMax
	go func() { ended <- b.client.proves(q, via, own) }()
	_ = via.Close()
	if !<-ended {
		t.Error("a connection under trial is not used though there is no other")
	}
}
