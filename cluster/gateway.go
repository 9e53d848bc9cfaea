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

// dialSoon dials the node's own way in the background. What comes of it after ctx has ended is the endpoint's to keep: the
// next try finds it.
func (p *peers) dialSoon(ctx context.Context, q *peer) <-chan attempt {
	result := make(chan attempt, 1)
	p.wg.Go(func() {
		conn, err := p.dialOwn(ctx, q.runtime)
		result <- attempt{conn, err}
	})
	return result
}

// reach makes a connection to the node: by its own way, else through a gateway. It fails when its own way has, or has not come up in time,
// and no gateway was of use until then: dialTimeout, or a little more than detourAfter where its own way failed before, too, and there are gateways.
func (p *peers) reach(q *peer) (*bttp.Conn, error) {
	ctx, cancel := context.WithTimeout(q.ctx, p.dialTimeout)
	defer cancel()
	own := p.dialSoon(ctx, q)
	if !p.detours {
		a := <-own
		return a.conn, a.err
	}
	next := time.NewTimer(detourAfter)
	defer next.Stop()
	if q.trial > trialMin { // it comes and goes
		next.Reset(0)
	}
	asked, failed := 0, error(blocktree.E("dial", blocktree.Timeout, errors.New("neither it nor any gateway to it answers")))
	for over := false; ; {
		select {
		case a := <-own:
			if q.far = a.err != nil; !q.far {
				return a.conn, nil
			}
			own, over, failed = nil, true, a.err
		case <-ctx.Done():
			q.far = true
			return nil, failed
		case <-next.C:
		}
		conn, gateways := p.detour(ctx, q)
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
	own, err := p.dialOwn(ctx, q.runtime)
	if err != nil {
		return via
	}
	_ = via.Close()
	return own
}

// detour connects to the node through the first gateway that says it reaches it and does. Those that were of no use lately are
// asked last. nil if there is none; it also returns how many it could ask.
func (p *peers) detour(ctx context.Context, q *peer) (*bttp.Conn, int) {
	var fresh, shunned []*peer
	for _, n := range p.nodes() {
		g := p.peer(n)
		if g == nil || g == q || !p.isServing(n) {
			continue
		}
		switch conn := g.conn.Load(); {
		case conn == nil || conn.Via() != "":
		case time.Since(q.shunned[n]) < shunFor:
			shunned = append(shunned, g)
		default:
			fresh = append(fresh, g)
		}
	}
	conn := p.detourBy(ctx, q, fresh)
	if conn == nil {
		conn = p.detourBy(ctx, q, shunned)
	}
	return conn, len(fresh) + len(shunned)
}

// gate is a gateway that reaches a node, and the connection to it.
type gate struct {
	peer *peer
	conn *bttp.Conn
}

// detourBy asks the gateways at once and takes them in the order in which they say yes.
func (p *peers) detourBy(ctx context.Context, q *peer, gateways []*peer) *bttp.Conn {
	var e wire.Encoder
	e.U64(uint64(q.runtime.Node))
	answers := make(chan gate, len(gateways)) // the zero gate is a no
	asked := 0
	for _, g := range gateways {
		conn := g.conn.Load()
		if conn != nil && conn.Call(codeReach, e.Buf, nil, func(r bttp.Reply, err error) {
			r.Release()
			if err != nil {
				answers <- gate{}
				return
			}
			answers <- gate{g, conn}
		}) == nil {
			asked++
		}
	}
	for range asked {
		select {
		case <-ctx.Done():
			return nil
		case g := <-answers:
			if g.conn == nil {
				continue
			}
			if conn, err := p.dialVia(ctx, g.conn, q.runtime); err == nil {
				q.gate = g
				return conn
			}
			q.shun(g.peer)
		}
	}
	return nil
}

// shun has the gateway tried last for a while.
func (q *peer) shun(g *peer) {
	if q.shunned == nil {
		q.shunned = map[blocktree.NodeID]time.Time{}
	}
	q.shunned[g.runtime.Node] = time.Now()
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
		own := p.dialSoon(ctx, q)
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
	if conn := s.peers.conn(node); conn == nil || conn.Via() != "" {
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
