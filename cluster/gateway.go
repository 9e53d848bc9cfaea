package cluster

import (
	"context"
	"errors"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/internal/wire"
)

// A node that a client cannot reach by itself it reaches through another one, its gateway, which passes on the bytes of a connection that
// it cannot read: docs/design/0015-gateway.md. Nodes use no gateways among themselves.

const (
	// detourAfter is how long a node's own way may take to come up before a gateway is looked for: longer than a handshake, and
	// than the head start that TCP has.
	detourAfter = 300 * time.Millisecond
	// detourAgain is how long after gateways were of no use they are asked again, as others may be there by then.
	detourAgain = 100 * time.Millisecond
	// directMin and directMax bound the pauses between two tries of a node's own way while a gateway is used.
	directMin = 1 * time.Second
	directMax = 5 * time.Second
	// trialMin is how long a connection of a node's own must live before it replaces one through a gateway. Each that ends within
	// steadyAfter of its beginning doubles that, up to trialMax.
	trialMin    = 2 * time.Second
	trialMax    = 64 * time.Second
	steadyAfter = time.Minute
	// shunFor is how long a gateway is tried last after a relay of its ended though it lives itself.
	shunFor = 10 * time.Second
)

// attempt is what dialling came to.
type attempt struct {
	conn *bttp.Conn
	err  error
}

// dialSoon dials the node's own way in the background, and calls up where it comes up. What comes of it after ctx has ended is the
// endpoint's to keep: the next try finds it.
func (p *peers) dialSoon(ctx context.Context, q *peer, dial func(context.Context, blocktree.Runtime) (*bttp.Conn, error), up func()) <-chan attempt {
	result := make(chan attempt, 1)
	p.wg.Go(func() {
		conn, err := dial(ctx, q.where())
		result <- attempt{conn, err}
		if err != nil {
			return
		}
		up()
		if conn.Asked() { // nobody else knows it
			<-ctx.Done()
			select {
			case <-result:
				_ = conn.Close()
			default:
			}
		}
	})
	return result
}

// reach makes a connection to the node: by its own way, else through a gateway. It fails when its own way has, or has not come up in time,
// and no gateway was of use until then: dialTimeout, what is left of lostMax, or a little more than detourAfter where its own way failed before, too,
// and there are gateways. A node whose own way comes and goes it reaches through a gateway if it can.
func (p *peers) reach(q *peer) (*bttp.Conn, error) {
	ctx, cancel := context.WithTimeout(q.ctx, p.within(q, p.dialTimeout))
	defer cancel()
	search, found := context.WithCancel(ctx) // for a gateway, while there is need of one
	defer found()
	up, flaps := found, q.trial > trialMin
	if flaps { // a gateway is better, if there is one
		up = func() { time.AfterFunc(detourAfter, found) }
	}
	own := p.dialSoon(ctx, q, p.dialOwn, up)
	if !p.detours {
		a := <-own
		return a.conn, a.err
	}
	next := time.NewTimer(detourAfter)
	defer next.Stop()
	if flaps {
		next.Reset(0)
	}
	asked, failed := 0, error(blocktree.E("dial", blocktree.Timeout, errors.New("neither it nor any gateway to it answers")))
	over := false
	itsOwn := func(a attempt) bool {
		if q.far = a.err != nil; q.far {
			own, over, failed = nil, true, a.err
		}
		return !q.far
	}
	for {
		select {
		case a := <-own:
			if itsOwn(a) {
				return a.conn, nil
			}
		case <-ctx.Done():
			q.far = true
		case <-next.C:
		}
		conn, gateways := p.detour(search, q)
		if conn != nil && flaps {
			q.far = true
			return conn, nil
		}
		select {
		case a := <-own: // meanwhile
			if itsOwn(a) {
				if conn != nil {
					_ = conn.Close()
				}
				return a.conn, nil
			}
		default:
		}
		if conn == nil && ctx.Err() != nil {
			return nil, failed
		}
		if conn != nil && own == nil {
			conn = p.ownAgain(q, conn)
		}
		if conn != nil {
			q.far = conn.Via() != ""
			return conn, nil
		}
		if over {
			return nil, failed
		}
		asked += gateways
		over = q.far && asked > 0 // one more chance for both
		next.Reset(detourAgain)
	}
}

// ownAgain tries the node's own way, which has failed, once more where a gateway reaches the node: it may have been starting. It returns
// the better connection, and ends the other.
func (p *peers) ownAgain(q *peer, via *bttp.Conn) *bttp.Conn {
	ctx, cancel := context.WithTimeout(q.ctx, detourAfter)
	defer cancel()
	own, err := p.dialBetter(ctx, q.where())
	if err != nil {
		return via
	}
	_ = via.Close()
	return own
}

// detour connects to the node through the first gateway that says it reaches it and does. Those that were of no use lately are
// asked last. nil if there is none; it also returns how many it could ask.
func (p *peers) detour(ctx context.Context, q *peer) (*bttp.Conn, int) {
	if ctx.Err() != nil {
		return nil, 0
	}
	var fresh, shunned []*peer
	for _, g := range p.gateways(q) {
		if time.Since(q.shunned[g.runtime.Node]) < shunFor {
			shunned = append(shunned, g)
		} else {
			fresh = append(fresh, g)
		}
	}
	conn := p.detourBy(ctx, q, fresh, len(shunned) > 0)
	if conn == nil {
		conn = p.detourBy(ctx, q, shunned, false)
	}
	return conn, len(fresh) + len(shunned)
}

// gateways are the nodes that there is a direct connection to, but for q.
func (p *peers) gateways(q *peer) (all []*peer) {
	for _, n := range p.nodes() {
		g := p.peer(n)
		if g == nil || g == q || !p.isServing(n) {
			continue
		}
		if conn := g.conn.Load(); conn != nil && conn.Way() == bttp.Direct {
			all = append(all, g)
		}
	}
	return all
}

// exhausted reports whether each gateway has been tried since the node was lost; or that was lostMax ago, as gateways that say nothing
// must not keep a dead node from being told.
func (p *peers) exhausted(q *peer) bool {
	if !p.detours || time.Since(q.lost) >= lostMax {
		return true
	}
	for _, g := range p.gateways(q) {
		if !q.tried[g.runtime.Node] {
			return false
		}
	}
	return true
}

// within is d, or what is left until a node that was lost is called down.
func (p *peers) within(q *peer, d time.Duration) time.Duration {
	if !p.detours || q.lost.IsZero() {
		return d
	}
	return min(d, max(lostMax-time.Since(q.lost), detourAfter))
}

// gate is a gateway that reaches a node, and the connection to it.
type gate struct {
	peer *peer
	conn *bttp.Conn
}

// detourBy asks the gateways at once and takes them in the order in which they say yes. Where there are more than these it does not wait long
// for one that says nothing.
func (p *peers) detourBy(ctx context.Context, q *peer, gateways []*peer, more bool) *bttp.Conn {
	var e wire.Encoder
	e.U64(uint64(q.runtime.Node))
	answers := make(chan gate, len(gateways)) // without a connection it is a no
	var patience <-chan time.Time
	if more {
		patience = time.After(detourAfter)
	}
	asked := 0
	for _, g := range gateways {
		conn := g.conn.Load()
		if conn != nil && conn.Call(codeReach, e.Buf, nil, func(r bttp.Reply, err error) {
			r.Release()
			if err != nil {
				answers <- gate{peer: g}
				return
			}
			answers <- gate{g, conn}
		}) == nil {
			asked++
		}
	}
	for i := range asked {
		select {
		case <-ctx.Done():
			return nil
		case <-patience:
			return nil
		case g := <-answers:
			if g.conn != nil {
				if conn := p.detourOver(ctx, q, g, more || i < asked-1); conn != nil || errors.Is(ctx.Err(), context.Canceled) {
					return conn
				}
			}
			q.markTried(g.peer)
		}
	}
	return nil
}

// detourOver connects to the node through the gateway, which is tried last from then on where that fails. Where others are left it
// takes half of the time.
func (p *peers) detourOver(ctx context.Context, q *peer, g gate, others bool) *bttp.Conn {
	if end, ok := ctx.Deadline(); ok && others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	conn, err := p.dialVia(ctx, g.conn, q.runtime)
	switch {
	case err == nil:
		q.gate = g
		return conn
	case !errors.Is(ctx.Err(), context.Canceled): // else its own way has come up
		q.shun(g.peer)
	}
	return nil
}

// markTried notes that the gateway has been of no use since the node was lost.
func (q *peer) markTried(g *peer) {
	if q.tried == nil {
		q.tried = map[blocktree.NodeID]bool{}
	}
	q.tried[g.runtime.Node] = true
}

// shun has the gateway tried last for a while.
func (q *peer) shun(g *peer) {
	if q.shunned == nil {
		q.shunned = map[blocktree.NodeID]time.Time{}
	}
	q.shunned[g.runtime.Node] = time.Now()
}

// leaveGateway ends a connection through a gateway on which the node said no hello: others are tried next.
func (p *peers) leaveGateway(q *peer, conn *bttp.Conn, err error) {
	q.markTried(q.gate.peer)
	if q.gate.conn.Err() == nil {
		q.shun(q.gate.peer)
	}
	_ = conn.Close()
	if p.exhausted(q) {
		p.silent(q, err)
	}
	q.sleep(nil, redialMin)
}

// attendOwn waits for the end of a connection that is the node's own.
func (p *peers) attendOwn(q *peer, conn *bttp.Conn) {
	since := time.Now()
	select {
	case <-conn.Done():
	case <-q.ctx.Done():
		return
	}
	if q.trial = min(2*q.trial, trialMax); time.Since(since) >= steadyAfter {
		q.trial = trialMin
	}
}

// attendVia waits for the end of a connection through a gateway, or until the node's own way is to be used instead: then it
// ends this one, with all its calls, and returns the other.
func (p *peers) attendVia(q *peer, via *bttp.Conn) *bttp.Conn {
	p.logger.Info("node is reached through a gateway", "node", q.runtime.Path.Short(), "gateway", via.Via().Short())
	defer via.Close()
	own := p.awaitOwn(q, via)
	switch {
	case own != nil:
		p.logger.Info("node is reached directly again", "node", q.runtime.Path.Short(), "gateway", via.Via().Short())
	case q.ctx.Err() == nil && q.gate.conn.Err() == nil:
		q.shun(q.gate.peer)
	}
	return own
}

// awaitOwn tries the node's own way until a connection has proven itself, and returns it, or nil when the one through the gateway
// has ended before.
func (p *peers) awaitOwn(q *peer, via *bttp.Conn) *bttp.Conn {
	for pause := directMin; q.sleep(via, pause); pause = min(2*pause, directMax) {
		ctx, cancel := context.WithTimeout(q.ctx, p.dialTimeout)
		own := p.dialSoon(ctx, q, p.dialBetter, func() {})
		select {
		case a := <-own:
			cancel()
			if a.err == nil && p.proves(q, via, a.conn) {
				q.far = false
				return a.conn
			}
		case <-via.Done():
			cancel()
			return nil
		}
	}
	return nil
}

// proves reports whether a connection of the node's own is as good as the one through a gateway: the node serves on it, at the
// beginning and at the end of the trial; or is better, since that has ended.
func (p *peers) proves(q *peer, via, own *bttp.Conn) bool {
	greet := func() bool {
		ctx, cancel := context.WithTimeout(q.ctx, blocktree.DeadAfter)
		defer cancel()
		_, err := hello(ctx, own, q.runtime.Node)
		return err == nil
	}
	if !greet() {
		return false
	}
	trial := time.NewTimer(q.trial)
	defer trial.Stop()
	select {
	case <-trial.C:
		return greet()
	case <-via.Done():
		return own.Err() == nil
	case <-own.Done():
		q.trial = min(2*q.trial, trialMax)
	case <-q.ctx.Done():
	}
	return false
}

// via is the gateway, in its short form, through which a node is reached now, "" if there is none.
func (p *peers) via(node blocktree.NodeID) blocktree.Path {
	if conn := p.conn(node); conn != nil && conn.Via() != "" {
		return blocktree.Path(conn.Via().Short())
	}
	return ""
}

// answerReach says whether this node would be a gateway to another one.
func (s *Service) answerReach(req *bttp.Request) {
	d := wire.NewDecoder(req.Header)
	node := blocktree.NodeID(d.U64())
	if err := d.Finish(); err != nil {
		req.Fail(err)
		return
	}
	if conn := s.peers.conn(node); conn == nil || conn.Way() != bttp.Direct {
		req.Fail(blocktree.E("cluster", blocktree.Unavailable, errors.New("no connection to the node")))
		return
	}
	req.Reply(nil)
}

// relayTo is bttp.Config.Relay: bytes are passed on to the other sector hosts of the cluster.
func (s *Service) relayTo(target blocktree.Principal) *bttp.Conn {
	p := s.gateway.Load()
	if p == nil { // it is starting
		return nil
	}
	for _, n := range p.nodes() {
		if q := p.peer(n); q != nil && q.runtime.Principal == target {
			return q.conn.Load()
		}
	}
	return nil
}
