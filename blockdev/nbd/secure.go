package nbd

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"

	"blocktree"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	optStartTLS    = uint32(5)
	errTypeTLSReqd = uint32(1<<31 | 5)
)

// errInjected ends a connection on which somebody spoke behind STARTTLS in the clear.
var errInjected = errors.New("bytes behind STARTTLS that are not under TLS")

// secured is the TLS of one connection.
type secured struct {
	conn  *tls.Conn
	under *underTLS
}

// needsTLS reports whether the connection may do nothing yet but start TLS.
func (c *conn) needsTLS() bool { return c.tls != nil && c.secured == nil }

// startTLS serves STARTTLS. An error ends the connection. What was negotiated before is forgotten, but for the client's flags.
func (n *negotiation) startTLS(data []byte) error {
	c := n.c
	switch {
	case c.tls == nil:
		n.fail(optStartTLS, protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED, "this listener has no TLS")
		return nil
	case c.secured != nil:
		n.fail(optStartTLS, errTypeInvalid, "TLS has been started")
		return nil
	case len(data) != 0:
		n.fail(optStartTLS, errTypeInvalid, "STARTTLS has no data")
		return nil
	case c.br.Buffered() > 0: // a client waits for the answer; what comes before it could be anybody's
		return blocktree.E("nbd: STARTTLS", blocktree.Invalid, errInjected)
	}
	n.reply(optStartTLS, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
	if err := n.w.Flush(); err != nil {
		return err
	}
	if err := c.handshake(); err != nil {
		return err
	}
	c.move()
	*n = negotiation{c: c, w: bufio.NewWriter(c.secured.conn), noZeroes: n.noZeroes, fixed: n.fixed}
	return nil
}

// handshake makes the connection a TLS one. The deadline of the negotiation holds for it.
func (c *conn) handshake() error {
	under := newUnderTLS(c.nc, c.s.stallTimeout, c.harmful)
	t := tls.Server(under, c.tls.current.Load())
	if err := t.Handshake(); err != nil {
		if k := c.s.handshakesFailed.Add(1); k&(k-1) == 0 { // the first, then ever more rarely: anybody can cause them
			c.log.Warn("TLS handshake failed", "error", err, "failures", k)
		}
		return blocktree.E("nbd: TLS", blocktree.Unauthenticated, err)
	}
	c.secured = &secured{conn: t, under: under}
	c.br.Reset(t)
	c.out.w.secure(c.secured)
	c.who = identityOf(t.ConnectionState())
	if !c.who.IsZero() {
		c.log = c.log.With("certificate", c.who.String())
	}
	return nil
}

// farewell ends TLS in order, where the client may still listen.
func (c *conn) farewell(err error) {
	if c.ctx.Err() == nil && (errors.Is(err, errEnded) || errors.Is(err, errDisconnect)) {
		c.endTLS()
	}
}

// endTLS says that nothing more comes, where there is TLS, so that the client can tell the end from a cut. Nobody else may be writing.
func (c *conn) endTLS() {
	if c.secured != nil {
		c.secured.under.patience(false)
		_ = c.secured.conn.CloseWrite() // it may be gone; it has a deadline of its own
	}
}

// describe says how a connection is secured, for people.
func (s *secured) describe() string {
	if s == nil {
		return ""
	}
	state := s.conn.ConnectionState()
	return fmt.Sprintf("%s %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
}
