package bttp

import (
	"errors"
	"time"

	"github.com/quic-go/quic-go"
)

// carrier is one lane's ordered bytes, over TLS on TCP or on a QUIC stream. Reading belongs to one goroutine, writing
// (stage, flush) to one at a time, close to anybody.
type carrier interface {
	// Read blocks until there is something.
	Read(p []byte) (int, error)
	// inputReady reports that something is there to read; what it turns out to be may still leave Read waiting for more.
	// False promises nothing.
	inputReady() bool
	// onWait has f called, by the goroutine that reads, each time before a Read waits although inputReady said yes.
	onWait(f func())
	// stage takes p, sealed or copied, into the output; p is free afterwards. It does not block.
	stage(p []byte) error
	// staged is how many bytes stage has taken and flush has not sent.
	staged() int
	// tryFlush sends what is staged without blocking; false if some of it is left.
	tryFlush() (bool, error)
	// flush sends what is staged; it fails when the peer takes nothing for the stall timeout.
	flush() error
	// setDeadline bounds the hello; the zero time removes the bound.
	setDeadline(t time.Time) error
	// close ends the lane and unblocks everybody.
	close()
}

// quicTryBytesMax is how much goes to quic-go in one piece without blocking: it copies the rest of such a piece for
// each packet it fills.
const quicTryBytesMax = 4 << 10

// quicCarrier is a lane on a QUIC stream.
type quicCarrier struct {
	conn   *quic.Conn
	stream *quic.Stream
	stall  time.Duration
	out    []byte
}

func (c *quicCarrier) Read(p []byte) (int, error) { return c.stream.Read(p) }
func (c *quicCarrier) inputReady() bool           { return false }
func (c *quicCarrier) onWait(func())              {} // inputReady never says yes
func (c *quicCarrier) staged() int                { return len(c.out) }

func (c *quicCarrier) stage(p []byte) error {
	c.out = append(c.out, p...)
	return nil
}

func (c *quicCarrier) tryFlush() (bool, error) {
	if len(c.out) > quicTryBytesMax {
		return false, nil
	}
	err := c.stream.TryWriteAll(c.out)
	if errors.Is(err, quic.ErrWouldBlock) {
		return false, nil
	}
	c.out = c.out[:0]
	return err == nil, err
}

func (c *quicCarrier) flush() error {
	if err := c.stream.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
		return err
	}
	_, err := c.stream.Write(c.out)
	c.out = c.out[:0]
	return err
}

func (c *quicCarrier) setDeadline(t time.Time) error { return c.stream.SetDeadline(t) }

// close ends the whole QUIC connection: lanes of one connection live and die together, and a relay has one of its own.
func (c *quicCarrier) close() { _ = c.conn.CloseWithError(0, "") }
