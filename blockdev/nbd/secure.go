package nbd

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"blocktree"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	optStartTLS       = uint32(5)
	errTypeTLSReqd    = uint32(1<<31 | 5)
	tlsRecordBytesMax = 16 << 10 // of plain text
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
	under := &underTLS{Conn: c.nc, stall: c.s.stallTimeout, harmful: c.harmful}
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

// underTLS is the socket beneath a TLS connection. A TLS connection is of no use after a write that timed out, so who is slow
// is judged here: a write goes on after a timeout, unless the client took less than its share (stallShare) while others wait for
// memory. Reads may time out and go on.
type underTLS struct {
	net.Conn
	stall   time.Duration
	harmful func() bool

	mu      sync.Mutex // held during a write: a key update is written by the reader
	patient bool       // transmission has begun: there is no other deadline
	batch   bool       // begin was called: the deadline is set
	share   int
	wrote   int // since the deadline was set
}

// patience says whether the deadlines of writes are those of this type, or the caller's.
func (u *underTLS) patience(patient bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.patient = patient
}

// begin is called before a batch of bytes is written, end after it.
func (u *underTLS) begin(bytes int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.batch, u.share = true, stallShare(bytes)
	return u.renew()
}

func (u *underTLS) end() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.batch = false
	return u.Conn.SetWriteDeadline(time.Time{})
}

// renew sets the next deadline. u.mu is held.
func (u *underTLS) renew() error {
	u.wrote = 0
	return u.Conn.SetWriteDeadline(time.Now().Add(u.stall))
}

// Write writes all of b, or fails for good.
func (u *underTLS) Write(b []byte) (done int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.patient && !u.batch {
		u.share = 1
		if err := u.renew(); err != nil {
			return 0, err
		}
	}
	for {
		n, err := u.Conn.Write(b[done:])
		done += n
		u.wrote += n
		if err == nil || !u.patient || !errors.Is(err, os.ErrDeadlineExceeded) || u.wrote < u.share && u.harmful() {
			return done, err
		}
		if err := u.renew(); err != nil {
			return done, err
		}
	}
}

// recordWriter puts what is small together, because every write to a TLS connection is a record and a system call. It belongs to the
// outbox's writer.
type recordWriter struct {
	*secured
	record []byte // has room for one
}

// write writes the slices, one after the other.
func (w *recordWriter) write(slices [][]byte) error {
	total := 0
	for _, b := range slices {
		total += len(b)
	}
	if err := w.under.begin(total); err != nil {
		return err
	}
	w.record = w.record[:0]
	for _, b := range slices {
		if len(w.record)+len(b) > tlsRecordBytesMax {
			if err := w.flush(); err != nil {
				return err
			}
		}
		if len(b) > tlsRecordBytesMax {
			if _, err := w.conn.Write(b); err != nil {
				return err
			}
			continue
		}
		w.record = append(w.record, b...)
	}
	if err := w.flush(); err != nil {
		return err
	}
	return w.under.end()
}

func (w *recordWriter) flush() error {
	if len(w.record) == 0 {
		return nil
	}
	_, err := w.conn.Write(w.record)
	w.record = w.record[:0]
	return err
}

// describe says how a connection is secured, for people.
func (s *secured) describe() string {
	if s == nil {
		return ""
	}
	state := s.conn.ConnectionState()
	return fmt.Sprintf("%s %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
}
