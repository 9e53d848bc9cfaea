package bttp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"blocktree"
	"blocktree/crypto/cred"
)

// accept starts the accepting goroutines of an address's sockets; either may be nil. It owns them.
func (e *Endpoint) accept(addr string, tcp net.Listener, udp net.PacketConn) error {
	e.mu.Lock()
	e.addrs = append(e.addrs, addr)
	e.mu.Unlock()
	if tcp != nil {
		e.onClose(func() { _ = tcp.Close() })
		e.task(func() { e.acceptTCP(tcp) })
	}
	if udp == nil {
		return nil
	}
	transport := &quic.Transport{Conn: udp, ConnContext: e.admitQUIC, VerifySourceAddress: e.mustProveAddress}
	listener, err := transport.Listen(e.serverTLS, quicConfig())
	if err != nil {
		_ = udp.Close()
		return blocktree.E("listen", blocktree.IO, err)
	}
	e.onClose(func() {
		_ = listener.Close()
		_ = transport.Close()
		_ = udp.Close()
	})
	e.task(func() { e.acceptQUIC(listener, false) })
	e.task(func() { e.others(transport, true) })
	return nil
}

// onClose registers what Close has to close.
func (e *Endpoint) onClose(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closers = append(e.closers, f)
}

// acceptTCP accepts until the listener closes. Failures to accept (no descriptors) pass: it tries again, slowly.
func (e *Endpoint) acceptTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			e.config.Log.Warn("accepting failed", "carrier", TCP, "err", err)
			select {
			case <-e.ctx.Done():
				return
			case <-time.After(closeGrace):
			}
			continue
		}
		leave := e.enter(conn.RemoteAddr())
		if leave == nil { // too many strangers
			_ = conn.Close()
			continue
		}
		if !e.task(func() {
			defer leave()
			e.serveTCP(conn, Direct)
		}) {
			leave()
			_ = conn.Close()
		}
	}
}

// enter takes a token for a stranger's handshake and returns what gives it back, nil when there is none left for the
// stranger's network. One network cannot have all of them, so that it cannot keep everybody else out. (Addresses that were
// not proven yet can be made up over UDP; VerifySourceAddress asks for a proof before that comes near the bound.)
func (e *Endpoint) enter(remote net.Addr) (leave func()) {
	network := networkOf(remote)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.strangers[network] >= handshakesPerNetworkMax {
		return nil
	}
	select {
	case e.admission <- struct{}{}:
	default:
		return nil
	}
	e.strangers[network]++
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.strangers[network]--; e.strangers[network] == 0 {
			delete(e.strangers, network)
		}
		<-e.admission
	}
}

// mustProveAddress is quic.Transport.VerifySourceAddress, of each socket that takes connections: all of them draw on the same tokens.
func (e *Endpoint) mustProveAddress(net.Addr) bool { return len(e.admission) > handshakesMax/2 }

// networkOf is the IPv4 address or the IPv6 network of 64 bits that a peer is in, whose addresses cost it nothing.
func networkOf(remote net.Addr) netip.Prefix { return networkOfAddress(remote.String()) }

// networkOfAddress is networkOf of an address as it is printed.
func networkOfAddress(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr := at.Addr().Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	network, _ := addr.Prefix(bits) // fails only for too many bits
	return network
}

// serveTCP makes an accepted TCP connection a lane.
func (e *Endpoint) serveTCP(conn net.Conn, way Way) {
	stop := context.AfterFunc(e.ctx, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(blocktree.HandshakeTimeout))
	c, proven, err := newRawConn(conn, e.config.stall).handshake(e.ctx, e.serverTLS, true)
	if err != nil {
		_ = conn.Close()
		e.sayRefused("handshake refused", TCP, conn.RemoteAddr().String(), "", err)
		return
	}
	e.serveHello(c, e.newReader(c), accepted{proven, TCP, conn.RemoteAddr().String(), way, e.asksOnly})
}

// acceptQUIC accepts until the listener closes; with asksOnly nothing but carriers of this runtime's own asks.
func (e *Endpoint) acceptQUIC(l *quic.Listener, asksOnly bool) {
	for {
		conn, err := l.Accept(e.ctx)
		if err != nil {
			return
		}
		if !e.task(func() { e.serveQUIC(conn, asksOnly) }) {
			_ = conn.CloseWithError(0, "")
		}
	}
}

// admittedKey finds in a QUIC connection's context the function that gives its token back.
type admittedKey struct{}

// admitQUIC takes a token for a connection that begins, or refuses it. The token comes back when the peer has proven who
// it is, or the connection ends.
func (e *Endpoint) admitQUIC(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	leave := e.enter(info.RemoteAddr)
	if leave == nil {
		return nil, blocktree.E("bttp", blocktree.Unavailable, errors.New("too many handshakes"))
	}
	admitted := sync.OnceFunc(leave)
	context.AfterFunc(ctx, admitted)
	return context.WithValue(ctx, admittedKey{}, admitted), nil
}

// serveQUIC makes the streams of an accepted QUIC connection lanes, until it ends.
func (e *Endpoint) serveQUIC(conn *quic.Conn, asksOnly bool) {
	stop := context.AfterFunc(e.ctx, func() { _ = conn.CloseWithError(0, "") })
	defer stop()
	ctx, cancel := context.WithTimeout(e.ctx, blocktree.HandshakeTimeout)
	stream, err := conn.AcceptStream(ctx)
	cancel()
	ok := false
	if err == nil {
		ok = e.serveStream(conn, stream, asksOnly)
	}
	if admitted, held := conn.Context().Value(admittedKey{}).(func()); held {
		admitted()
	}
	if !ok {
		_ = conn.CloseWithError(quicRefused+quic.ApplicationErrorCode(blocktree.Unauthenticated), "no hello")
		return
	}
	for {
		stream, err := conn.AcceptStream(e.ctx)
		if err != nil {
			return
		}
		if !e.serveStream(conn, stream, asksOnly) {
			_ = conn.CloseWithError(quicRefused+quic.ApplicationErrorCode(blocktree.Invalid), "bad lane")
			return
		}
	}
}

// serveStream makes one stream a lane.
func (e *Endpoint) serveStream(conn *quic.Conn, stream *quic.Stream, asksOnly bool) bool {
	proven, err := cred.PeerPrincipal(conn.ConnectionState().TLS)
	if err != nil {
		return false
	}
	c := &quicCarrier{conn: conn, stream: stream, stall: e.config.stall}
	_ = c.setDeadline(time.Now().Add(blocktree.HandshakeTimeout))
	return e.serveHello(c, e.newReader(c), accepted{proven, QUIC, conn.RemoteAddr().String(), Direct, asksOnly})
}

// accepted is what is known of a lane before its first frame.
type accepted struct {
	proven    blocktree.Principal // whose key it is
	transport Transport
	remote    string
	way       Way
	asksOnly  bool // who listens there serves nobody
}

// serveHello reads the hello of an accepted lane, answers it and starts the lane; on failure it tells the peer why
// and closes the carrier.
func (e *Endpoint) serveHello(c carrier, r *reader, a accepted) bool {
	err := e.openAccepted(c, r, a)
	if err == nil {
		return true
	}
	e.sayRefused("connection refused", a.transport, a.remote, a.proven.String(), err) // by its key; its credentials may be why
	refuse(c, err)
	return false
}

// openAccepted is serveHello's way that can fail.
func (e *Endpoint) openAccepted(c carrier, r *reader, a accepted) error {
	proven := a.proven
	first, err := r.peekFrame()
	if err != nil {
		return err
	}
	switch {
	case first.kind == frameMeet && a.way == Direct:
		return e.serveMeet(c, r, arrival{proven: proven, transport: a.transport}, a.remote)
	case a.asksOnly && a.way == Direct:
		return blocktree.E("hello", blocktree.Unauthenticated, errors.New("a runtime that serves nobody"))
	case first.kind == frameRelay && a.way == Direct:
		return e.serveRelay(c, r, proven, a.remote)
	}
	h, err := readHello(r)
	if err != nil {
		return err
	}
	answer := hello{conn: h.conn, lane: h.lane, lanes: h.lanes}
	if h.lane > 0 {
		e.mu.Lock()
		conn := e.accepted[h.conn]
		e.mu.Unlock()
		if conn == nil || conn.proven != proven || conn.transport != a.transport || conn.way != a.way || len(h.chain) > 0 {
			return blocktree.E("hello", blocktree.Unauthenticated, errors.New("a lane of no connection of this peer"))
		}
		if err := conn.claimLane(h.lane); err != nil {
			return err
		}
		if err := writeHello(c, &answer); err != nil {
			return err
		}
		return conn.addLane(h.lane, c, r)
	}
	peer, err := e.identify(h.chain, proven)
	if err != nil {
		return err
	}
	if err := e.judge(peer); err != nil {
		return err
	}
	if peer.Anonymous() && h.lanes > blocktree.AnonymousLanesMax {
		return blocktree.E("hello", blocktree.TooLarge, fmt.Errorf("%d lanes, an anonymous caller may have %d", h.lanes, blocktree.AnonymousLanesMax))
	}
	own := e.own.Load()
	conn := newConn(e, h.conn, peer, proven, h.lanes)
	conn.transport, conn.remote, conn.told, conn.way = a.transport, a.remote, own, a.way
	if err := e.add(conn); err != nil { // before the answer: further lanes may follow that at once
		return err
	}
	answer.chain = own.chain
	if err = writeHello(c, &answer); err == nil {
		err = conn.addLane(0, c, r)
	}
	if err != nil {
		conn.fail(lostError(string(peer.Path), err))
	}
	return err
}

// identify verifies a chain against the key that TLS proved. An empty chain is an anonymous caller's.
func (e *Endpoint) identify(chain cred.Credentials, proven blocktree.Principal) (cred.Identity, error) {
	if len(chain) == 0 {
		return cred.Identity{}, nil
	}
	id, err := cred.Verify(chain, e.config.Root, e.now())
	if err != nil {
		return cred.Identity{}, err
	}
	if id.Principal != proven {
		return cred.Identity{}, blocktree.E("hello", blocktree.Unauthenticated, errors.New("credentials of another key"))
	}
	return id, nil
}

// judge asks the policy.
func (e *Endpoint) judge(peer cred.Identity) error {
	if e.config.Admit != nil {
		return e.config.Admit(peer)
	}
	if peer.Anonymous() {
		return blocktree.E("hello", blocktree.Unauthenticated, errors.New("anonymous callers are not admitted here"))
	}
	return nil
}

// readHello reads the first frame of a lane. No body of another type is waited for, or given memory: nobody has said yet
// who the peer is.
func readHello(r *reader) (hello, error) {
	f, err := r.peekFrame()
	if err != nil {
		return hello{}, err
	}
	if f.kind != frameHello && f.kind != frameFailure {
		return hello{}, blocktree.E("hello", blocktree.Invalid, errors.New("another frame came first"))
	}
	f, b, err := r.readFrame()
	if err != nil {
		return hello{}, err
	}
	defer b.release()
	switch {
	case b == nil:
		return hello{}, blocktree.E("hello", blocktree.Invalid, errors.New("an empty hello"))
	case f.kind == frameFailure:
		return hello{}, refusedError(f.errorKind, string(b.data[:f.bodyBytes]))
	}
	return decodeHello(b.data[:f.bodyBytes])
}

// refusedError is a peer's refusal of a hello.
func refusedError(kind blocktree.Kind, text string) error {
	if !kind.Valid() {
		kind = blocktree.Other
	}
	return blocktree.E("refused by the peer", kind, errors.New(text))
}

// writeHello sends a hello and lifts the handshake's deadline.
func writeHello(c carrier, h *hello) error {
	body := h.encode()
	if err := c.stage(append(frame{kind: frameHello, bodyBytes: len(body)}.append(nil), body...)); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	return c.setDeadline(time.Time{})
}

// quicRefused is added to the kind of the error that a QUIC connection is refused with.
const quicRefused = 0x100

// refuse tells the peer why and ends the lane. What the peer sees is the kind and a text.
func refuse(c carrier, err error) {
	kind := blocktree.KindOf(err)
	text := err.Error()
	text = strings.ToValidUTF8(text[:min(len(text), failureBytesMax)], "")
	if q, ok := c.(*quicCarrier); ok {
		_ = q.conn.CloseWithError(quicRefused+quic.ApplicationErrorCode(kind), text)
		return
	}
	f := frame{kind: frameFailure, errorKind: kind, bodyBytes: len(text)}
	if c.stage(append(f.append(nil), text...)) == nil {
		_ = c.flush() // the peer may be gone
	}
	if t, ok := c.(*tlsCarrier); ok && lastWords(t.raw.Conn) {
		return
	}
	c.close()
}

// newConnID draws a connection's id.
func newConnID() (id connID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// socketError gives a failure to open a socket its kind.
func socketError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &blocktree.Error{Op: "listen", Kind: blocktree.Busy, Err: err, Hint: "another process uses this port; stop it or choose another address"}
	case errors.Is(err, syscall.EACCES):
		return blocktree.E("listen", blocktree.Permission, err)
	}
	return blocktree.E("listen", blocktree.Unavailable, err)
}
