package bttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/wire"
)

// A relay is a lane of a connection that runs through a third runtime, the gateway, which copies its bytes and can read none of
// them: docs/design/0015-gateway.md. This file has the side that asks, relayserve.go the side that copies.

// formatRelay is the version byte of a relay frame.
const formatRelay = 1

// relayBytes is the length of the body of a relay frame.
const relayBytes = 1 + 16 + len(blocktree.Principal{})

// relayFrame is the first frame of a lane that is to be passed on to another runtime, or, at that runtime, taken for a new
// carrier. The same frame without a body says that the way is open.
type relayFrame struct {
	conn   connID // the asker's connection to who reads this, over which the same key was proven
	target blocktree.Principal
}

func (f *relayFrame) encode() []byte {
	var e wire.Encoder
	e.U8(formatRelay)
	e.Raw(f.conn[:])
	e.Raw(f.target[:])
	return e.Buf
}

// decodeRelay reads the body of a relay frame. It keeps nothing of b.
func decodeRelay(b []byte) (relayFrame, error) {
	var f relayFrame
	d := wire.NewDecoder(b)
	d.Format(formatRelay)
	copy(f.conn[:], d.Raw(len(f.conn)))
	copy(f.target[:], d.Raw(len(f.target)))
	if err := d.Finish(); err != nil {
		return relayFrame{}, &blocktree.Error{Op: "relay", Err: err}
	}
	return f, nil
}

// DialVia makes a connection to the runtime through the peer of gateway, a connection that Dial has given. It is one like any other, and
// as secret: identities are proven, and bytes sealed, between the two ends. It is the caller's alone, no other Dial returns it, and it
// ends with gateway. It blocks until the runtime has proven who it is, or until ctx ends.
//
// It fails as Dial does, and with Unavailable where the gateway does not reach the runtime, with Busy where it relays too
// much already, with Unsupported where it relays nothing.
func (e *Endpoint) DialVia(ctx context.Context, gateway *Conn, r blocktree.Runtime) (*Conn, error) {
	const op = "bttp.DialVia"
	if r.Principal.IsZero() || r.Principal == gateway.peer.Principal || gateway.Via() != "" {
		return nil, &blocktree.Error{Op: op, Runtime: string(r.Path), Kind: blocktree.Invalid,
			Err: errors.New("no principal, or the gateway's own, or a gateway behind another")}
	}
	if err := e.otherWay(r); err != nil {
		return nil, &blocktree.Error{Op: op, Runtime: string(r.Path), Err: err}
	}
	config, err := cred.NewTLSConfig(cred.TLSOptions{Key: e.config.Key, Expect: r.Principal, ALPN: []string{alpn}})
	if err != nil {
		return nil, &blocktree.Error{Op: op, Runtime: string(r.Path), Err: err}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(gateway.ended, cancel)
	defer stop()
	conn, err := e.dialWith(ctx, r, gateway.openVia(r.Principal, config))
	if err == nil && !e.task(func() { conn.endWith(gateway) }) {
		conn.fail(blocktree.E("bttp", blocktree.Closed, errors.New("endpoint closed")))
	}
	if err != nil {
		return nil, &blocktree.Error{Op: op, Runtime: string(r.Path), Err: err}
	}
	return conn, nil
}

// Via returns the path of the runtime that passes the connection's bytes on, "" where none does.
func (c *Conn) Via() blocktree.Path { return c.opener.via }

// endWith ends the connection when its gateway's has ended.
func (c *Conn) endWith(gateway *Conn) {
	select {
	case <-c.dying:
	case <-gateway.dying:
		c.fail(&blocktree.Error{Op: "bttp", Runtime: string(c.peer.Path), Kind: blocktree.Unavailable, Err: gateway.cause})
	}
}

// openVia opens lanes through the peer of c: TLS to the target within what the peer passes on.
func (c *Conn) openVia(target blocktree.Principal, config *tls.Config) opener {
	return opener{transport: c.transport, via: c.peer.Path, way: Relayed, open: func(ctx context.Context) (carrier, blocktree.Principal, string, error) {
		s, err := c.openRelay(ctx, target)
		if err != nil {
			return nil, blocktree.Principal{}, "", err
		}
		return c.secured(ctx, s, config)
	}}
}

// secured proves identities to, and seals bytes for, who is at the other end of what the peer of c passes on.
func (c *Conn) secured(ctx context.Context, s *relayed, config *tls.Config) (carrier, blocktree.Principal, string, error) {
	secure, proven, err := newRawConn(s, c.endpoint.config.stall).handshake(ctx, config, false)
	if err != nil {
		_ = s.Close()
		return nil, blocktree.Principal{}, "", lostError("", err)
	}
	return secure, proven, c.remote, nil
}

// openRelay opens one more carrier to the peer of c and has the peer pass it on to target. c was dialed. A QUIC connection has one window for all of
// its streams, and one relay that nobody reads would stop them all, so that each relay has a connection of its own.
func (c *Conn) openRelay(ctx context.Context, target blocktree.Principal) (*relayed, error) {
	s, stop, err := c.openBeside(ctx)
	if err != nil {
		return nil, err
	}
	err = s.ask(&relayFrame{conn: c.id, target: target})
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.carrier.close()
		return nil, lostError(string(c.peer.Path), err)
	}
	return s, nil
}

// openBeside opens one more carrier to the peer of c, which was dialed, with a connection of its own. It ends with ctx until stop is called.
func (c *Conn) openBeside(ctx context.Context) (s *relayed, stop func() bool, err error) {
	if c.opener.open == nil || c.opener.asked {
		return nil, nil, blocktree.E("relay", blocktree.Unsupported, errors.New("the connection was opened by the peer, or others"))
	}
	o := c.opener
	if o.fresh != nil {
		o = o.fresh()
	}
	under, _, _, err := o.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	s = &relayed{carrier: under, in: c.endpoint.newReader(under), remote: c.remote}
	return s, context.AfterFunc(ctx, under.close), nil
}

// ask sends the relay frame and waits for the answer.
func (s *relayed) ask(f *relayFrame) error {
	body := f.encode()
	if err := s.put(frame{kind: frameRelay, bodyBytes: len(body)}, body); err != nil {
		return err
	}
	return s.await(frameRelay)
}

// await waits until the other end has taken a carrier, with an empty frame of this type.
func (s *relayed) await(kind frameType) error {
	answer, b, err := s.in.readFrame()
	if err != nil {
		return err
	}
	defer b.release()
	switch {
	case answer.kind == frameFailure && b != nil:
		return refusedError(answer.errorKind, string(b.data[:answer.bodyBytes]))
	case answer.kind != kind || answer.bodyBytes > 0:
		return blocktree.E("relay", blocktree.Invalid, errors.New("another frame came first"))
	}
	return nil
}

// put sends one frame.
func (s *relayed) put(f frame, body []byte) error {
	if err := s.carrier.stage(append(f.append(nil), body...)); err != nil {
		return err
	}
	return s.carrier.flush()
}

// relayed is a carrier whose frames are over, as a connection: what follows the relay frame is the bytes of another. Reading belongs to
// one goroutine, writing to one at a time.
type relayed struct {
	carrier carrier
	in      *reader // has read the first frame, and perhaps more
	remote  string
	once    sync.Once
	onClose func() // called once; may be nil
}

func (s *relayed) Read(p []byte) (int, error) {
	if s.in.buffered() > 0 {
		n := copy(p, s.in.buf[s.in.first:s.in.end])
		s.in.first += n
		return n, nil
	}
	return s.carrier.Read(p)
}

func (s *relayed) Write(p []byte) (int, error) {
	if err := s.carrier.stage(p); err != nil {
		return 0, err
	}
	if err := s.carrier.flush(); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *relayed) Close() error {
	s.carrier.close()
	s.leave()
	return nil
}

// CloseWrite says that nothing more is written, and lets what was written arrive. Nobody else writes.
func (s *relayed) CloseWrite() error {
	switch c := s.carrier.(type) {
	case *quicCarrier:
		return c.stream.Close()
	case *memoryCarrier:
		c.closeWrite()
		return nil
	case *tlsCarrier:
		if w, ok := c.raw.Conn.(closeWriter); ok {
			return w.CloseWrite()
		}
	}
	return s.Close()
}

// closeWriter is a connection that can be closed in one direction.
type closeWriter interface{ CloseWrite() error }

// lastWords lets what was written to a relayed connection arrive, and closes it soon after. It reports false where conn is another one.
// Nobody else writes.
func lastWords(conn net.Conn) bool {
	s, ok := conn.(*relayed)
	if ok {
		_ = s.CloseWrite()
		time.AfterFunc(closeGrace, func() { _ = s.Close() })
	}
	return ok
}

// leave has the relay counted no more.
func (s *relayed) leave() {
	s.once.Do(func() {
		if s.onClose != nil {
			s.onClose()
		}
	})
}

func (s *relayed) LocalAddr() net.Addr           { return relayedAddr("") }
func (s *relayed) RemoteAddr() net.Addr          { return relayedAddr(s.remote) }
func (s *relayed) SetDeadline(t time.Time) error { return s.carrier.setDeadline(t) }

// SetReadDeadline and SetWriteDeadline do nothing: a write gives up when the peer takes nothing for as long as any other lane's may.
func (s *relayed) SetReadDeadline(time.Time) error  { return nil }
func (s *relayed) SetWriteDeadline(time.Time) error { return nil }

// relayedAddr is the address of who passes the bytes on.
type relayedAddr string

func (relayedAddr) Network() string  { return "relay" }
func (a relayedAddr) String() string { return string(a) }

// passOn copies in both directions and closes both in the end: when one of them fails; or at most closeGrace after one of them ends well,
// so that its last bytes, a refusal perhaps, arrive. took is called with the number of bytes before they are written on, and may wait; nil: nobody counts.
func passOn(a, b net.Conn, took func(n int)) {
	var both sync.WaitGroup
	end := func() { _, _ = a.Close(), b.Close() }
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			// Only Read and Write: an io.ReaderFrom would choose buffers of its own.
			_, err := io.CopyBuffer(struct{ io.Writer }{way[0]}, pacedReader{way[1], took}, make([]byte, relayBufferBytes))
			if to, ok := way[0].(closeWriter); err != nil || !ok || to.CloseWrite() != nil {
				end()
				return
			}
			time.AfterFunc(closeGrace, end)
		})
	}
	both.Wait()
	end()
}

// pacedReader tells of what was read.
type pacedReader struct {
	from io.Reader
	took func(n int)
}

func (r pacedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if n > 0 && r.took != nil {
		r.took(n)
	}
	return n, err
}

// relayBufferBytes is how much is read in one direction before it is written on.
const relayBufferBytes = 32 << 10

// tooMany is the refusal of a relay over a bound.
func tooMany(n int) error {
	return blocktree.E("relay", blocktree.Busy, fmt.Errorf("%d relays already", n))
}
