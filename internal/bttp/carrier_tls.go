package bttp

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// rawBufferBytes is how much ciphertext one read from the kernel may bring: several full TLS records.
	rawBufferBytes = 128 << 10
	// recordHeaderBytes is the length of a TLS record's header, whose last two bytes are the length of the rest.
	recordHeaderBytes = 5
	// heldBytesMax is far more than is staged between two flushes.
	heldBytesMax = 8 * stageBytesMax
)

// errHeld: a peer that asks crypto/tls for new keys again and again, where nothing is flushed, has it write answers without end.
var errHeld = errors.New("tls: too much is held")

// tlsCarrier is a lane on a TCP connection of its own.
type tlsCarrier struct {
	raw     *rawConn
	tls     *tls.Conn // nil where records seals and opens in its place
	records *records
}

// newTLSCarrier takes a connection after its handshake over raw.
func newTLSCarrier(raw *rawConn, conn *tls.Conn) *tlsCarrier {
	raw.hold.Lock()
	raw.holding = true
	raw.hold.Unlock()
	return &tlsCarrier{raw: raw, tls: conn}
}

func (c *tlsCarrier) Read(p []byte) (int, error) {
	if c.records != nil {
		return c.records.read(p)
	}
	return c.tls.Read(p)
}

func (c *tlsCarrier) inputReady() bool        { return c.raw.recordReady() }
func (c *tlsCarrier) onWait(f func())         { c.raw.waits = f }
func (c *tlsCarrier) tryFlush() (bool, error) { return c.raw.tryFlush() }
func (c *tlsCarrier) flush() error            { return c.raw.flush() }
func (c *tlsCarrier) staged() int             { return c.raw.staged() }

func (c *tlsCarrier) stage(p []byte) error {
	if c.records != nil {
		return c.records.stage(p)
	}
	_, err := c.tls.Write(p)
	return err
}

func (c *tlsCarrier) setDeadline(t time.Time) error { return c.raw.SetDeadline(t) }

// close drops the connection without a close_notify: a lane never ends well, so a truncation looks like any other.
func (c *tlsCarrier) close() { _ = c.raw.Close() }

// rawConn is a TCP connection below TLS. It reads much at a time, hands out one TLS record at a time so that it
// knows whether another is there, and after the handshake keeps what TLS writes until flush, so that many records go
// out in one system call.
type rawConn struct {
	net.Conn
	stall time.Duration
	fd    syscall.RawConn // nil where the connection has none; then tryFlush sends nothing

	in         []byte // read from the kernel, not yet handed to TLS: in[first:end]
	first, end int
	record     int    // bytes of the current record still to be handed out
	waits      func() // called before the kernel is asked for more; nil for nobody

	hold    sync.Mutex // the reading side may write, too (a key update)
	holding bool
	out     []byte // held by Write, or sealed by records

	sending []byte // owned by the writer: taken from out, sent up to sent
	sent    int
	spare   []byte
	try     func(fd uintptr) bool
	tried   int
	tryErr  error
}

// newRawConn wraps a connected socket whose peer may take nothing for stall.
func newRawConn(conn net.Conn, stall time.Duration) *rawConn {
	c := &rawConn{Conn: conn, stall: stall, in: make([]byte, rawBufferBytes)}
	if s, ok := conn.(syscall.Conn); ok {
		if fd, err := s.SyscallConn(); err == nil {
			c.fd = fd
		}
	}
	c.try = func(fd uintptr) bool {
		c.tried, c.tryErr = syscall.Write(int(fd), c.sending[c.sent:])
		return true // not again: tryFlush must not wait
	}
	return c
}

// Read is called by TLS. It returns no more than the rest of the current record.
func (c *rawConn) Read(p []byte) (int, error) {
	need := 1
	if c.record == 0 {
		need = recordHeaderBytes
	}
	if err := c.fill(need); err != nil {
		return 0, err
	}
	if c.record == 0 {
		c.record = c.recordBytes()
	}
	n := copy(p, c.in[c.first:c.first+min(c.record, c.end-c.first)])
	c.first += n
	c.record -= n
	return n, nil
}

// fill reads until need bytes, a record at most, are there.
func (c *rawConn) fill(need int) error {
	for c.end-c.first < need {
		if c.first > 0 && len(c.in)-c.end < rawBufferBytes/2 {
			c.end = copy(c.in, c.in[c.first:c.end])
			c.first = 0
		}
		if c.first == c.end {
			c.first, c.end = 0, 0
		}
		if c.waits != nil {
			c.waits()
		}
		n, err := c.Conn.Read(c.in[c.end:])
		c.end += n
		if n == 0 && err != nil {
			return err
		}
	}
	return nil
}

// nextRecord returns the next record, header and all, as it came. It is good, and may be written to, until the next call. Nothing of it was handed to Read.
func (c *rawConn) nextRecord() ([]byte, error) {
	if err := c.fill(recordHeaderBytes); err != nil {
		return nil, c.cutError(err)
	}
	n := c.recordBytes()
	if n > recordHeaderBytes+sealedBytesMax {
		return nil, fmt.Errorf("tls: a record of %d bytes", n)
	}
	if err := c.fill(n); err != nil {
		return nil, c.cutError(err)
	}
	record := c.in[c.first : c.first+n : c.first+n]
	c.first += n
	return record, nil
}

// cutError tells an end within a record from one between two.
func (c *rawConn) cutError(err error) error {
	if err == io.EOF && c.end > c.first {
		return io.ErrUnexpectedEOF
	}
	return err
}

// recordBytes is the length of the record whose header starts the input.
func (c *rawConn) recordBytes() int {
	return recordHeaderBytes + int(binary.BigEndian.Uint16(c.in[c.first+3:]))
}

// recordReady reports whether a whole record waits that TLS has seen nothing of.
func (c *rawConn) recordReady() bool {
	n := c.end - c.first
	return c.record == 0 && n >= recordHeaderBytes && n >= c.recordBytes()
}

// Write is called by TLS.
func (c *rawConn) Write(p []byte) (int, error) {
	c.hold.Lock()
	defer c.hold.Unlock()
	if !c.holding {
		return c.Conn.Write(p)
	}
	if len(c.out) > heldBytesMax {
		return 0, errHeld
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// staged is what flush has to send.
func (c *rawConn) staged() int {
	c.hold.Lock()
	defer c.hold.Unlock()
	return len(c.out) + len(c.sending) - c.sent
}

// take makes held bytes the ones to send, once those before are sent. It reports whether there are any.
func (c *rawConn) take() bool {
	if c.sent < len(c.sending) {
		return true
	}
	c.hold.Lock()
	c.spare, c.sending, c.sent = c.sending[:0], c.out, 0
	c.out = c.spare
	c.hold.Unlock()
	return len(c.sending) > 0
}

func (c *rawConn) tryFlush() (bool, error) {
	for c.take() {
		if c.fd == nil {
			return false, nil
		}
		if err := c.fd.Write(c.try); err != nil {
			return false, err
		}
		switch c.tryErr {
		case nil:
			c.sent += c.tried
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false, nil
		default:
			return false, c.tryErr
		}
	}
	return true, nil
}

func (c *rawConn) flush() error {
	defer c.Conn.SetWriteDeadline(time.Time{}) // tryFlush would fail on one that has passed
	for c.take() {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
			return err
		}
		n, err := c.Conn.Write(c.sending[c.sent:])
		c.sent += n
		if err != nil {
			return err
		}
	}
	return nil
}
