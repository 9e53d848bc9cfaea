package cluster

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/wire"
)

// How a runtime passes an ask for a way on: docs/design/0034-firewalls.md.

// wayTimeout bounds what one runtime does for an ask: more than a target's tries to dial back.
const wayTimeout = 4 * time.Second

// formatWay is the version byte of a wayHeader.
const formatWay = 1

// hostBytesMax bounds an IP address in text, with a zone.
const hostBytesMax = 64

// mirrorBytesMax is one with a port.
const mirrorBytesMax = hostBytesMax + 8

// wayHeader is what runtimes add to an ask. Nobody has signed it: it is the word of who passes it on.
type wayHeader struct {
	hops    uint8  // how many have passed it on
	lateral bool   // the last leg was between members of one cluster
	down    bool   // a leg before led downward
	host    string // at which the first of them sees the asker; "" where that is not to be dialled, and from the asker itself
	mirror  string // address of the last of them before it goes down, which both sides reach
}

func (h *wayHeader) encode() []byte {
	var e wire.Encoder
	e.U8(formatWay)
	e.U8(h.hops)
	e.Bool(h.lateral)
	e.Bool(h.down)
	e.String(h.host)
	e.String(h.mirror)
	return e.Buf
}

func decodeWayHeader(b []byte) (wayHeader, error) {
	var h wayHeader
	d := wire.NewDecoder(b)
	d.Format(formatWay)
	h.hops, h.lateral, h.down, h.host = d.U8(), d.Bool(), d.Bool(), d.String(hostBytesMax)
	h.mirror = d.String(mirrorBytesMax)
	if err := d.Finish(); err != nil {
		return wayHeader{}, &blocktree.Error{Op: "ask", Err: err}
	}
	return h, nil
}

// legKind is where an ask goes next.
type legKind int

const (
	legNone legKind = iota
	legHere         // the target is a member of this cluster
	legDown
	legUp
)

// nextLeg says where an ask for a target in a directory goes from a cluster's: never up after down, so that it ends.
func nextLeg(cluster, target blocktree.Scope, down bool) legKind {
	switch {
	case target == cluster:
		return legHere
	case target.Within(cluster):
		return legDown
	case down:
		return legNone
	}
	return legUp
}

// leg is a connection that an ask may go along.
type leg struct {
	conn    *bttp.Conn
	lateral bool
	down    bool
}

// crossing is what passes asks on in a member. It hangs on seams only: the endpoint that ends and joins ways, and the standing connections.
type crossing struct {
	endpoint *bttp.Endpoint
	uplinks  *uplinks
	mirror   func() string // this runtime's own address, as others reach it, "ip:port"
	now      func() time.Time
	asks     *asks
}

// passed is an ask on its way.
type passed struct {
	header wayHeader
	ask    *bttp.Ask
	body   []byte
	asker  cred.Identity
	from   *bttp.Conn
}

var errNoWay = blocktree.E("ask", blocktree.NotFound, errors.New("this runtime knows no way there"))

// serveWay answers an ask, with what the target answers. It blocks for at most wayTimeout.
func (c *crossing) serveWay(ctx context.Context, from *bttp.Conn, header, body []byte) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, wayTimeout)
	defer cancel()
	h, err := decodeWayHeader(header)
	if err != nil {
		return nil, err
	}
	ask, err := bttp.DecodeAsk(body)
	if err != nil {
		return nil, err
	}
	p := &passed{header: h, ask: ask, body: body, from: from}
	leave, err := c.enter(p)
	if err != nil {
		return nil, err
	}
	defer leave()
	if ask.Target == c.endpoint.Identity().Principal {
		answer, err := c.endpoint.AnswerAsk(ctx, ask, p.asker, from, p.header.host, p.header.mirror)
		return []byte(answer), err
	}
	if p.header.hops >= blocktree.AskHopsMax {
		return nil, errNoWay
	}
	last := error(errNoWay)
	for _, l := range c.lastDoubted(c.legs(p)) {
		if l.conn == from {
			continue
		}
		answer, err := c.along(ctx, p, l)
		if err == nil || ctx.Err() != nil {
			return answer, err
		}
		if kind := blocktree.KindOf(err); kind != blocktree.NotFound && kind != blocktree.Exists { // else it says no more than this runtime knows
			last = err
		}
	}
	return nil, last
}

// enter judges who gives an ask, and who has signed it, counts it, and completes what is known of it.
func (c *crossing) enter(p *passed) (leave func(), err error) {
	peer := p.from.Peer()
	first := p.header.hops == 0
	if first {
		if p.header != (wayHeader{}) {
			return nil, blocktree.E("ask", blocktree.Invalid, errors.New("an asker says what others have to say"))
		}
		host, _, err := net.SplitHostPort(p.from.RemoteAddr())
		if err != nil || p.from.Way() != bttp.Direct { // its address is somebody else's
			host = ""
		}
		p.header.host = host
		if leave, err = c.asks.enter(peer.Principal, p.ask.Token, c.now()); err != nil {
			return nil, err
		}
	} else if err := c.mayPass(p); err != nil {
		return nil, err
	}
	if p.asker, err = c.endpoint.VerifyAsk(p.ask); err == nil && first && p.asker.Principal != peer.Principal {
		err = blocktree.E("ask", blocktree.Unauthenticated, errors.New("somebody else's ask"))
	}
	if err != nil {
		if first {
			leave()
		}
		return nil, err
	}
	if !first {
		return c.asks.enter(p.asker.Principal, p.ask.Token, c.now())
	}
	return leave, nil
}

// mayPass judges a runtime that passes an ask on: a member of this cluster, aside; of one below, upward; or of the one above, on this runtime's uplink.
func (c *crossing) mayPass(p *passed) error {
	ok := false
	switch {
	case p.header.lateral:
		for _, s := range c.uplinks.siblings() {
			ok = ok || s.runtime.Principal == p.from.Peer().Principal
		}
	case p.header.down:
		ok = p.from == c.uplinks.line.Load()
	default:
		ok = c.uplinks.has(p.from)
	}
	if !ok {
		return blocktree.E("ask", blocktree.Unauthenticated, errors.New("no runtime of the way"))
	}
	if !bttp.MayDialBack(p.header.host, p.from.RemoteAddr()) {
		p.header.host = ""
	}
	return c.asks.look(p.from.Peer().Principal, c.now())
}

// legs are the connections that an ask may go along next, the best first.
func (c *crossing) legs(p *passed) (all []leg) {
	u := c.uplinks
	kind, line := nextLeg(u.directory, p.ask.Path.Parent(), p.header.down), u.line.Load()
	switch kind {
	case legHere:
		for _, s := range u.siblings() {
			if s.runtime.Principal == p.ask.Target && s.conn != nil && !p.header.lateral {
				all = append(all, leg{s.conn, true, p.header.down})
			}
		}
		return all
	case legDown:
		for _, conn := range u.down(p.ask.Path.Parent()) {
			all = append(all, leg{conn, false, true})
		}
	case legNone:
		return nil
	}
	if !p.header.lateral {
		for _, s := range u.siblings() {
			if s.conn != nil {
				all = append(all, leg{s.conn, true, p.header.down})
			}
		}
	}
	if up := (leg{line, false, false}); line != nil && kind == legUp {
		all = slices.Insert(all, 0, up)
	} else if line != nil && !p.header.down { // the cluster below may have its line farther up
		all = append(all, up)
	}
	return all
}

// along is pass, for as long as the leg is worth.
func (c *crossing) along(ctx context.Context, p *passed, l leg) ([]byte, error) {
	if c.doubts(l) {
		short, cancel := context.WithTimeout(ctx, lineDoubtedWait)
		defer cancel()
		ctx = short
	}
	return c.pass(ctx, p, l)
}

// pass gives an ask to the next runtime, and for a relay joins the two legs.
func (c *crossing) pass(ctx context.Context, p *passed, l leg) (answer []byte, err error) {
	var legs *bttp.Legs
	if p.ask.Mode == bttp.AskRelay {
		if legs, err = c.endpoint.JoinLegs(p.ask, p.asker, p.from, l.conn); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				legs.Drop()
			}
		}()
	}
	h := wayHeader{hops: p.header.hops + 1, lateral: l.lateral, down: l.down, host: p.header.host, mirror: p.header.mirror}
	if !p.header.down {
		h.mirror = c.mirror()
	}
	r, err := l.conn.CallWait(ctx, codeWay, h.encode(), p.body)
	if !errors.Is(ctx.Err(), context.Canceled) { // else this runtime stops
		c.noteLine(p, l, err)
	}
	answer = bytes.Clone(r.Header[:min(len(r.Header), mirrorBytesMax)])
	r.Release()
	if err == nil && legs != nil {
		if err = legs.OpenFar(ctx); err == nil {
			err = legs.OpenNear(ctx)
		}
	}
	return answer, err
}

// answerWay answers an ask in its own time.
func (s *Service) answerWay(req *bttp.Request) {
	header, body := append([]byte(nil), req.Header...), append([]byte(nil), req.Body...)
	if req.OneWay || len(body) > bttp.AskBytesMax {
		req.Fail(blocktree.E("ask", blocktree.Invalid, nil))
		return
	}
	s.requests.Go(func() {
		answer, err := s.crossing.serveWay(s.ctx, req.Conn, header, body)
		if err != nil {
			if s.crossing.asks.line(s.cfg.Clock.Now()) {
				s.cfg.Logger.Info("no way was found", "for", req.Conn.Peer().Path.Short(), "err", err)
			}
			req.Fail(err)
			return
		}
		req.Reply(answer)
	})
}

// mirror is the address of this member as others reach it, "" where its record has a name instead.
func (s *Service) mirror() string {
	for _, at := range s.peers.runtime(s.cfg.Node).Endpoints {
		if _, err := netip.ParseAddrPort(at); err == nil && len(at) <= mirrorBytesMax {
			return at
		}
	}
	return ""
}
