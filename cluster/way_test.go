package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/simnet"
)

// wayBed is a tree of clusters on a network in memory, of members that do no more than greet and pass asks on.
type wayBed struct {
	t       *testing.T
	net     *simnet.Net
	key     cred.Key
	root    blocktree.Principal
	members map[string]*wayMember // by short path
	hosts   byte
	carrier bttp.Transport
	above   []*wayMember // whom members that are made from now on may ask for ways to their parents
	client  *peers
	told    told
	liar    string                  // short path of a member that has no parent; "": nobody lies
	lies    func(req *bttp.Request) // answers in its place whether it has the uplink
	slow    atomic.Int64            // how long a runtime above takes for its word
	old     atomic.Bool             // runtimes above are of the version before, and give none
}

// wayMember is one of them.
type wayMember struct {
	b        *wayBed
	service  *Service
	config   bttp.Config
	addr     netip.Addr
	runtime  blocktree.Runtime
	cluster  []*wayMember
	parents  []blocktree.Runtime
	above    []blocktree.Runtime // whom it may ask for a way to these
	asked    atomic.Int64        // asks that came
	released chan struct{}
	hold     atomic.Bool             // calls of code 7 are not answered before released is closed
	drops    func(req *bttp.Request) // what it does with asks for others; nil: as it should
}

func newWayBed(t *testing.T) *wayBed {
	b := &wayBed{t: t, net: simnet.New(1), key: testKey(t), members: map[string]*wayMember{}, carrier: bttp.TCP}
	b.root = b.key.Principal()
	t.Cleanup(func() {
		if b.client != nil {
			b.client.close()
			_ = b.client.endpoint.Close()
		}
		for _, m := range b.members {
			m.stop()
		}
	})
	return b
}

// config is that of a runtime at a path, on a host of its own.
func (b *wayBed) config(short string, services ...string) (bttp.Config, netip.Addr) {
	b.hosts++
	addr := netip.AddrFrom4([4]byte{10, 0, 0, b.hosts})
	key := testKey(b.t)
	path, err := blocktree.ParsePath(short, b.root)
	if err != nil {
		b.t.Fatal(err)
	}
	chain, err := cred.Issue(b.key, nil, b.root, cred.Grant{Subject: key.Public(), Path: path, Services: services,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)})
	if err != nil {
		b.t.Fatal(err)
	}
	return bttp.Config{Key: key, Credentials: chain, Root: b.root, Transport: b.carrier, Network: b.net.Host(addr), Log: slog.New(slog.DiscardHandler)}, addr
}

// cluster starts n members of a directory.
func (b *wayBed) cluster(dir string, n int, parents ...*wayMember) (all []*wayMember) {
	for i := range n {
		m := &wayMember{b: b, released: make(chan struct{})}
		short := fmt.Sprintf("%s/n%d", strings.TrimSuffix(dir, "/"), i+1)
		m.config, m.addr = b.config(short, blocktree.ServiceSector)
		m.config.Addrs = []string{m.addr.String() + ":7000"}
		path, _ := blocktree.ParsePath(short, b.root)
		m.runtime = blocktree.Runtime{Path: path, Principal: m.config.Key.Principal(), Node: blocktree.NodeID(int(b.hosts)), Endpoints: m.config.Addrs,
			Services: []string{blocktree.ServiceSector}}
		for _, p := range parents {
			m.parents = append(m.parents, p.runtime)
		}
		for _, a := range b.above {
			m.above = append(m.above, a.runtime)
		}
		all = append(all, m)
		b.members[short] = m
	}
	for _, m := range all {
		m.cluster = all
		m.start()
	}
	return all
}

func (m *wayMember) start() {
	dir := m.runtime.Path.Parent()
	s := &Service{serving: incarnations{blocktree.Incarnation{1}, blocktree.Incarnation{1}}}
	s.cfg = ServiceConfig{Node: m.runtime.Node, Directory: dir, Logger: m.config.Log, Clock: wayClock{}, Key: m.config.Key, Root: m.config.Root}
	s.cfg.Parents = func() []blocktree.Runtime { return m.parents }
	if m.liar() {
		s.cfg.Parents = nil
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	e, err := bttp.Listen(m.b.t.Context(), m.config)
	if err != nil {
		m.b.t.Fatal(err)
	}
	s.endpoint, s.peers = e, newPeers(e, m.config.Log)
	s.uplinks = s.newUplinks()
	s.uplinks.above = func(blocktree.Scope) []blocktree.Runtime { return m.above }
	s.crossing = &crossing{endpoint: e, uplinks: s.uplinks, mirror: s.mirror, now: time.Now, asks: newAsks()}
	e.SetHandler(bttp.HandlerFunc(func(req *bttp.Request) {
		switch req.Code {
		case codeHello:
			s.hello(req)
		case codeUplink:
			s.serveUplink(req)
		case codeUplinkHeld:
			if m.liar() {
				m.b.lies(req)
			} else {
				s.serveUplinkHeld(req)
			}
		case codeUplinkWord:
			switch slow := time.Duration(m.b.slow.Load()); {
			case m.b.old.Load():
				req.Fail(blocktree.E("cluster", blocktree.Unsupported, nil))
			case slow > 0:
				time.AfterFunc(slow, func() { s.serveUplinkWord(req); req.Release() })
				return
			default:
				s.serveUplinkWord(req)
			}
		case codeWay:
			m.asked.Add(1)
			if ask, err := bttp.DecodeAsk(req.Body); err == nil && m.drops != nil && ask.Target != m.runtime.Principal {
				m.drops(req)
				break
			}
			s.answerWay(req)
		case 7:
			body := bytes.Clone(req.Body)
			s.requests.Go(func() {
				if m.hold.Load() {
					<-m.released
				}
				req.Reply(nil, body)
			})
		default:
			req.Fail(blocktree.E("test", blocktree.Unsupported, nil))
		}
		req.Release()
	}))
	var all []blocktree.Runtime
	for _, o := range m.cluster {
		all = append(all, o.runtime)
	}
	s.peers.ensure(all)
	s.wg.Go(func() { s.uplinks.run(s.ctx) })
	m.service = s
}

func (m *wayMember) liar() bool { return m.runtime.Path.Short() == m.b.liar }

func (m *wayMember) stop() {
	if s := m.service; s != nil {
		s.cancel()
		s.wg.Wait()
		s.peers.close()
		_ = s.endpoint.Close()
		s.requests.Wait()
		m.service = nil
	}
}

// uplinkHolders are the members of a cluster that have an uplink.
func uplinkHolders(all []*wayMember) (names []string) {
	for _, m := range all {
		if m.service != nil && m.service.Uplink() != nil {
			names = append(names, m.runtime.Path.Base())
		}
	}
	return names
}

// await waits, in the time of the bubble.
func (b *wayBed) await(what string, within time.Duration, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// dials makes a client of a cluster at a path, which asks parents.
func (b *wayBed) dials(short string, of []*wayMember, parents ...*wayMember) netip.Addr {
	c, addr := b.config(short)
	e, err := bttp.New(c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.client = newPeers(e, c.Log)
	b.client.detours = true
	var ask []blocktree.Runtime
	for _, p := range parents {
		ask = append(ask, p.runtime)
	}
	newWays(b.client, func(blocktree.Scope) []blocktree.Runtime { return ask })
	b.client.watch(&b.told)
	var all []blocktree.Runtime
	for _, m := range of {
		all = append(all, m.runtime)
	}
	b.client.ensure(all)
	return addr
}

// ways are how the client's nodes are reached: "" for one that is not.
func (b *wayBed) ways(of []*wayMember) (all []string) {
	for _, m := range of {
		way := ""
		if c := b.client.conn(m.runtime.Node); c != nil && b.client.isServing(m.runtime.Node) {
			way = string(c.Way())
		}
		all = append(all, way)
	}
	return all
}

func (b *wayBed) awaitWays(of []*wayMember, within time.Duration, want ...bttp.Way) {
	b.t.Helper()
	b.await(fmt.Sprint("ways ", want, " but ", b.ways(of)), within, func() bool {
		for i, w := range b.ways(of) {
			if w != string(want[i]) {
				return false
			}
		}
		return true
	})
}

// addrs are the hosts of members.
func addrs(all []*wayMember) (a []netip.Addr) {
	for _, m := range all {
		a = append(a, m.addr)
	}
	return a
}

// threeLevels is a root cluster, a child's behind a firewall, and a grandchild's behind another within that, with uplinks.
func threeLevels(t *testing.T) (b *wayBed, root, child, grand []*wayMember) {
	return threeLevelsBy(t, bttp.TCP)
}

func threeLevelsBy(t *testing.T, carrier bttp.Transport) (b *wayBed, root, child, grand []*wayMember) {
	b = newWayBed(t)
	b.carrier = carrier
	root = b.cluster("/", 3)
	child = b.cluster("/lab", 3, root...)
	grand = b.cluster("/lab/deep", 3, child...)
	b.net.Wall(append(addrs(child), addrs(grand)...)...)
	b.await("uplinks", 20*time.Second, func() bool { return len(uplinkHolders(child)) == 1 && len(uplinkHolders(grand)) == 1 })
	b.net.Wall(addrs(grand)...)
	return b, root, child, grand
}

// TestUplink: one member has it; it comes back wherever it was lost, at another member or parent where need be; nobody else is a child.
func TestUplink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWayBed(t)
		root := b.cluster("/", 2)
		child := b.cluster("/lab", 3, root...)
		b.net.Wall(addrs(child)...)
		one := func(within time.Duration, want string) {
			t.Helper()
			b.await("the uplink of "+want, within, func() bool { h := uplinkHolders(child); return len(h) == 1 && h[0] == want })
			b.await("the parent's end", time.Second, func() bool {
				return len(root[0].service.Children())+len(root[1].service.Children()) == 1
			})
			time.Sleep(10 * time.Second)
			if h := uplinkHolders(child); len(h) != 1 || h[0] != want {
				t.Errorf("%v have it, not %s", h, want)
			}
		}
		one(5*time.Second, "n1")
		child[0].stop()
		one(10*time.Second, "n2")
		child[0].start()
		one(10*time.Second, "n2") // nobody takes it away
		// The parent that has it ends.
		at := 0
		if len(root[1].service.Children()) > 0 {
			at = 1
		}
		root[at].stop()
		time.Sleep(30 * time.Second) // who lost it may not be who has it next
		if h := uplinkHolders(child); len(h) != 1 || len(root[1-at].service.Children()) != 1 {
			t.Errorf("%v have an uplink to the other parent", h)
		}
		root[at].start()
		for _, m := range child { // all lines are cut for a while
			for _, r := range root {
				b.net.Set(m.addr, r.addr, simnet.Link{Cut: true})
			}
		}
		b.await("no uplink", 10*time.Second, func() bool { return len(uplinkHolders(child)) == 0 })
		time.Sleep(5 * time.Minute)
		for _, m := range child {
			for _, r := range root {
				b.net.Set(m.addr, r.addr, simnet.Link{})
			}
		}
		b.await("an uplink", uplinkMax+5*time.Second, func() bool { return len(uplinkHolders(child)) == 1 })
		for short, services := range map[string][]string{"/stranger": {blocktree.ServiceSector}, "/lab/guest": nil} {
			c, _ := b.config(short, services...)
			e, err := bttp.New(c)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := e.Dial(t.Context(), root[0].runtime)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.CallWait(t.Context(), codeUplink, []byte{1}); blocktree.KindOf(err) != blocktree.Permission {
				t.Errorf("%s has an uplink: %v", short, err)
			}
			_ = e.Close()
		}
	})
}

// TestDialBack: a client that everybody can dial reaches a cluster behind two firewalls, by way of whatever root member it asks; so does one above the child but
// beside the root. Nodes that restart are reached again.
func TestDialBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, root, _, grand := threeLevels(t)
		b.dials("/client", grand, root[2])
		b.awaitWays(grand, 10*time.Second, bttp.DialedBack, bttp.DialedBack, bttp.DialedBack)
		grand[1].stop()
		b.await("node 2 away", 10*time.Second, func() bool { return !b.client.isServing(grand[1].runtime.Node) })
		grand[1].start()
		b.awaitWays(grand, 20*time.Second, bttp.DialedBack, bttp.DialedBack, bttp.DialedBack)
		b.net.Open(addrs(grand)...)
		b.client.conn(grand[0].runtime.Node).Close()
		b.awaitWays(grand, 10*time.Second, bttp.Direct, bttp.DialedBack, bttp.DialedBack)
	})
}

// TestDialBackPastAStranger: somebody else has the node's address in the client's network.
func TestDialBackPastAStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, root, _, grand := threeLevels(t)
		grand[0].runtime.Endpoints = []string{root[2].runtime.Endpoints[0]}
		b.dials("/client", grand[:1], root[0])
		b.awaitWays(grand[:1], 10*time.Second, bttp.DialedBack)
	})
}

// TestRelayThroughTheTree: a client behind a firewall of its own reaches the same cluster by legs, at once.
func TestRelayThroughTheTree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, root, child, grand := threeLevels(t)
		b.net.Wall(b.dials("/client", grand, root[1]))
		b.awaitWays(grand, 5*time.Second, bttp.Relayed, bttp.Relayed, bttp.Relayed)
		for _, m := range grand {
			body := bytes.Repeat([]byte{7}, 100<<10)
			r, err := b.client.conn(m.runtime.Node).CallWait(t.Context(), 7, nil, body)
			if err != nil || !bytes.Equal(r.Body, body) {
				t.Errorf("%s: %v", m.runtime.Path.Short(), err)
			}
			r.Release()
		}
		// Whoever has the child's uplink ends: the way is found anew.
		for _, m := range child {
			if m.service.Uplink() != nil {
				m.stop()
				break
			}
		}
		b.awaitWays(grand, time.Minute, bttp.Relayed, bttp.Relayed, bttp.Relayed)
	})
}

// TestBetterWay: W7. A relay is left for a dial-back once that is possible; calls in flight end on the old way, and no watcher hears of a loss.
func TestBetterWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, root, _, grand := threeLevels(t)
		target := grand[:1]
		addr := b.dials("/client", target, root[0])
		b.net.Wall(addr)
		b.awaitWays(target, 5*time.Second, bttp.Relayed)
		target[0].hold.Store(true)
		old := b.client.conn(target[0].runtime.Node)
		answered := make(chan error, 1)
		if err := old.Call(7, nil, [][]byte{{1}}, func(r bttp.Reply, err error) { r.Release(); answered <- err }); err != nil {
			t.Fatal(err)
		}
		b.net.Open(addr)
		b.await("a better way", time.Minute, func() bool { return b.client.conn(target[0].runtime.Node).Way() == bttp.DialedBack })
		if old.Err() != nil {
			t.Error("the old way has ended under a call")
		}
		target[0].hold.Store(false)
		close(target[0].released)
		if err := <-answered; err != nil {
			t.Errorf("a call in flight: %v", err)
		}
		b.await("the old way's end", 2*time.Second, func() bool { return old.Err() != nil })
		node := target[0].runtime.Node
		if s, d := b.told.count(fmt.Sprintf("silent %d", node)), b.told.count(fmt.Sprintf("down %d", node)); s+d > 0 {
			t.Errorf("told of %d silences and %d losses", s, d)
		}
	})
}

// TestPunch: both sides are behind firewalls: relayed at once, then punched, which no call and no watcher notices.
func TestPunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, root, _, grand := threeLevelsBy(t, bttp.Auto)
		b.net.Wall(b.dials("/client", grand, root[1]))
		b.awaitWays(grand, 10*time.Second, bttp.Relayed, bttp.Relayed, bttp.Relayed)
		stop, calls := make(chan struct{}), make(chan error, 1)
		go func() {
			for {
				select {
				case <-stop:
					calls <- nil
					return
				case <-time.After(time.Millisecond):
				}
				r, err := b.client.conn(grand[0].runtime.Node).CallWait(t.Context(), 7, nil, []byte{1})
				r.Release()
				if err != nil {
					calls <- err
					return
				}
			}
		}()
		b.awaitWays(grand, time.Minute, bttp.Punched, bttp.Punched, bttp.Punched)
		time.Sleep(time.Second)
		close(stop)
		if err := <-calls; err != nil {
			t.Error(err)
		}
		for _, m := range grand {
			if s, d := b.told.count(fmt.Sprintf("silent %d", m.runtime.Node)), b.told.count(fmt.Sprintf("down %d", m.runtime.Node)); s+d > 0 {
				t.Errorf("told of %d silences and %d losses", s, d)
			}
			if c := b.client.conn(m.runtime.Node); c.Transport() != bttp.QUIC || c.Via() != "" {
				t.Errorf("by %s, via %q", c.Transport(), c.Via())
			}
		}
	})
}

// wayAsker gives asks to runtimes as it likes.
type wayAsker struct {
	t     *testing.T
	e     *bttp.Endpoint
	first *bttp.Conn
	mu    sync.Mutex
	kept  []byte // the newest ask
}

func (b *wayBed) asker(short string, first *wayMember) *wayAsker {
	c, _ := b.config(short)
	e, err := bttp.New(c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = e.Close() })
	conn, err := e.Dial(b.t.Context(), first.runtime)
	if err != nil {
		b.t.Fatal(err)
	}
	return &wayAsker{t: b.t, e: e, first: conn}
}

// give gives an ask to the peer of a connection.
func (a *wayAsker) give(conn *bttp.Conn, h wayHeader, ask []byte) blocktree.Kind {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := conn.CallWait(ctx, codeWay, h.encode(), ask)
	r.Release()
	return blocktree.KindOf(err)
}

// ask makes a new one.
func (a *wayAsker) ask(path blocktree.Path, target blocktree.Principal, h wayHeader, through *bttp.Conn) (kind blocktree.Kind) {
	ctx, cancel := context.WithTimeout(a.t.Context(), 10*time.Second)
	defer cancel()
	conn, err := a.e.AskWay(ctx, bttp.AskRelay, a.first, blocktree.Runtime{Path: path, Principal: target}, func(_ context.Context, ask []byte) ([]byte, error) {
		a.mu.Lock()
		a.kept = ask
		a.mu.Unlock()
		kind = a.give(through, h, ask)
		return nil, errors.New("no more")
	})
	if err == nil {
		_ = conn.Close()
	}
	return kind
}

// TestWayRefuses: W3, at the runtimes between.
func TestWayRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, root, child, grand := threeLevels(t)
		a, other := b.asker("/client", root[0]), b.asker("/other", root[1])
		path, target := grand[0].runtime.Path, grand[0].runtime.Principal
		for name, x := range map[string]struct{ got, want blocktree.Kind }{
			"somebody else's":        {a.ask(path, target, wayHeader{}, other.first), blocktree.Unauthenticated},
			"as a child":             {a.ask(path, target, wayHeader{hops: 1}, a.first), blocktree.Unauthenticated},
			"as a sibling":           {a.ask(path, target, wayHeader{hops: 1, lateral: true}, a.first), blocktree.Unauthenticated},
			"as the parent":          {a.ask(path, target, wayHeader{hops: 1, down: true}, a.first), blocktree.Unauthenticated},
			"with a host of its own": {a.ask(path, target, wayHeader{host: "10.0.0.9"}, a.first), blocktree.Invalid},
			"nowhere":                {a.ask(blocktree.RootPath(b.root).Join("none").Join("x"), b.root, wayHeader{}, a.first), blocktree.NotFound},
			"no such node":           {a.ask(path.Parent().Join("x"), b.root, wayHeader{}, a.first), blocktree.NotFound},
		} {
			if x.got != x.want {
				t.Errorf("%s: %v, not %v", name, x.got, x.want)
			}
		}
		if got := a.ask(path, target, wayHeader{}, a.first); got != blocktree.Other {
			t.Errorf("a good one: %v", got)
		}
		if got := a.give(a.first, wayHeader{}, a.kept); got != blocktree.Exists {
			t.Errorf("the same again: %v", got)
		}
		if got := a.give(a.first, wayHeader{}, append(bytes.Clone(a.kept), 0)); got != blocktree.Invalid {
			t.Errorf("with more behind it: %v", got)
		}
		for _, m := range append(child, grand...) {
			if m.asked.Load() > 40 {
				t.Errorf("%s was asked %d times", m.runtime.Path.Short(), m.asked.Load())
			}
		}
	})
}

// TestWayFlood: W5. A flood of one asker's ends at the first runtime, which keeps nothing of it.
func TestWayFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, root, _, grand := threeLevels(t)
		a := b.asker("/client", root[0])
		var busy atomic.Int64
		var wg sync.WaitGroup
		for range 4 * blocktree.AsksBurst {
			wg.Go(func() {
				if a.ask(grand[0].runtime.Path, grand[0].runtime.Principal, wayHeader{}, a.first) == blocktree.Busy {
					busy.Add(1)
				}
			})
		}
		wg.Wait()
		if n := grand[0].asked.Load(); busy.Load() < 2*blocktree.AsksBurst || n > 2*blocktree.AsksBurst {
			t.Errorf("of a flood %d were refused, %d came to the target", busy.Load(), n)
		}
		for _, m := range root {
			m.service.crossing.asks.mu.Lock()
			if n := m.service.crossing.asks.active; n != 0 {
				t.Errorf("%d asks are active", n)
			}
			m.service.crossing.asks.mu.Unlock()
		}
	})
}

// wayClock is the time of the bubble.
type wayClock struct{}

func (wayClock) Now() time.Time      { return time.Now() }
func (wayClock) Boot() time.Duration { return time.Duration(time.Now().UnixNano()) }
