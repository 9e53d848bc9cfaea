package cluster

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/internal/bttp"
	"blocktree/internal/wire"
)

// A member whose address has changed says so to its siblings, on each connection that it makes to one of them: docs/design/0043-roaming.md.

const (
	// hereTimeout bounds what follows from what a sibling has said.
	hereTimeout = 3 * time.Second
	// hereSeenMax bounds the addresses of a record that a member has put there itself: the newest stay.
	hereSeenMax = 3
	// formatHere is the version byte of a here.
	formatHere = 1
)

// here is what a member says to a sibling on each connection that it makes to it.
type here struct {
	port uint16 // on which it listens, at the host where the sibling sees it
	at   string // where it has reached the sibling, "ip:port"; "" if nobody is to know
}

func (h *here) encode() []byte {
	var e wire.Encoder
	e.U8(formatHere)
	e.U16(h.port)
	e.String(h.at)
	return e.Buf
}

func decodeHere(b []byte) (h here, err error) {
	d := wire.NewDecoder(b)
	d.Format(formatHere)
	h.port, h.at = d.U16(), d.String(mirrorBytesMax)
	if err := d.Finish(); err != nil {
		return here{}, &blocktree.Error{Op: "here", Err: err}
	}
	if _, err := netip.ParseAddrPort(h.at); h.port == 0 || h.at != "" && err != nil {
		return here{}, blocktree.E("here", blocktree.Invalid, errors.New("no port, or no address"))
	}
	return h, nil
}

// heardAt is where a node is that has said on which port it listens: the host of the connection on which it did, which may move.
type heardAt struct {
	conn *bttp.Conn
	port uint16
}

// addr is that, "" if it is not known.
func (h *heardAt) addr() string {
	if h == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(h.conn.RemoteAddr())
	if err != nil {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(int(h.port)))
}

// ready has the service do for others, and say to them, what it needs all of its parts for.
func (s *Service) ready() {
	s.gateway.Store(s.peers)
	for _, x := range s.siblings() {
		if x.conn != nil {
			s.here(x.conn)
		}
	}
}

// here tells a sibling on which port this member listens, and where it has reached the sibling.
func (s *Service) here(conn *bttp.Conn) {
	port, ok := s.port()
	if !ok || s.gateway.Load() == nil || conn.Peer().Principal == s.cfg.Key.Principal() || conn.Way() != bttp.Direct { // ready says it to those that are there by then
		return
	}
	h := here{port: port, at: conn.RemoteAddr()}
	if len(h.at) > mirrorBytesMax {
		h.at = ""
	}
	_ = conn.Send(codeHere, h.encode()) // on the next connection again
}

// port is the one that this member listens on.
func (s *Service) port() (uint16, bool) {
	for _, a := range s.endpoint.Addrs() {
		if at, err := netip.ParseAddrPort(a); err == nil {
			return at.Port(), true
		}
		if _, p, err := net.SplitHostPort(a); err == nil {
			n, err := strconv.ParseUint(p, 10, 16)
			return uint16(n), err == nil
		}
	}
	return 0, false
}

// record has the cluster's record of this member name an address at which a sibling has reached it, last of all: it may be one of a network that only siblings are in.
func (s *Service) record(ctx context.Context, at string) error {
	if err := s.group.Sync(ctx); err != nil { // what is written is the whole record
		return err
	}
	all, err := s.group.Runtimes()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(r blocktree.Runtime) bool { return r.Path == s.cfg.Path && r.Node == s.cfg.Node })
	if i < 0 || slices.ContainsFunc(all[i].Endpoints, named) {
		return nil // others are told of it by a server of names
	}
	s.noteAbove(at) // first, as the record here follows the one above
	if slices.Contains(all[i].Endpoints, at) {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, hereTimeout)
	defer cancel()
	r := all[i]
	if r.Endpoints = withSeen(r.Endpoints, s.given(), at); r.Endpoints == nil {
		return nil // somebody has given it as many as there can be
	}
	result, err := s.client.propose(ctx, meta.PutRuntime{Runtime: r})
	if err == nil {
		err = result.Err("here")
	}
	if err == nil {
		s.cfg.Logger.Info("this node has another address", "address", at)
	}
	return err
}

// named reports whether an address has a name, which somebody gave it.
func named(address string) bool {
	_, err := netip.ParseAddrPort(address)
	return err != nil
}

// given are the addresses that this member was started with.
func (s *Service) given() []string {
	for _, r := range s.cfg.Members {
		if r.Path == s.cfg.Path {
			return r.Endpoints
		}
	}
	return nil
}

// withSeen puts an address behind those of a record, in the place of the oldest that were put there where they are too many. Those that were given, by who has written the record, stay: without that, who has
// several and is seen somewhere else would lose them one by one. nil: there is no room.
func withSeen(record, given []string, at string) []string {
	first := min(1, len(record))
	if len(given) > 0 && len(record) >= len(given) && slices.Equal(record[:len(given)], given) {
		first = len(given)
	}
	seen := append(slices.Clone(record[first:]), at)
	seen = seen[max(0, len(seen)-hereSeenMax):]
	if first+len(seen) > meta.EndpointsMax {
		return nil
	}
	return slices.Concat(record[:first], seen)
}

// mayNote reports whether an address, "" for none, may be noted on the word of a sibling that is seen at another: nobody is to dial into a kind of network that the sibling is not in.
func mayNote(at, sibling string) bool {
	host, _, err := net.SplitHostPort(at)
	return err == nil && bttp.MayDialBack(host, sibling)
}

// serveHere notes where a sibling is, and where this member is to it. What it is told it believes of siblings only, and nothing but their ports; who lies about where it has reached this member adds an address to
// a record where nobody is, in a network that it is in.
func (s *Service) serveHere(req *bttp.Request) {
	h, err := decodeHere(req.Header)
	node, ok := s.roster.node(req.Conn.Peer().Principal)
	if err != nil || !ok || !req.OneWay || req.Conn.Way() != bttp.Direct || s.gateway.Load() == nil {
		return
	}
	if look := s.peers.heard(node, &heardAt{req.Conn, h.port}); look != nil {
		s.requests.Go(look)
	}
	if !mayNote(h.at, req.Conn.RemoteAddr()) || !s.noting.CompareAndSwap(false, true) {
		return
	}
	s.requests.Go(func() {
		defer s.noting.Store(false)
		ctx, cancel := context.WithTimeout(s.ctx, hereTimeout)
		defer cancel()
		if err := s.record(ctx, h.at); err != nil && s.ctx.Err() == nil {
			s.cfg.Logger.Info("this node's address was not noted", "address", h.at, "err", err)
		}
	})
}

// heard has a node looked for where it is seen, from now on, too. It returns what has it looked for there at once, where it is being looked for; nil: it is not.
func (p *peers) heard(node blocktree.NodeID, at *heardAt) (look func()) {
	q := p.peer(node)
	if q == nil {
		return nil
	}
	q.heard.Store(at)
	if q.conn.Load() != nil || !q.nudged.CompareAndSwap(false, true) {
		return nil
	}
	return func() {
		defer q.nudged.Store(false)
		ctx, cancel := context.WithTimeout(q.ctx, hereTimeout)
		defer cancel()
		_, _ = p.dialOwn(ctx, q.where()) // an attempt that goes on at its old addresses hears of this one; whoever keeps it says how that ended
	}
}
