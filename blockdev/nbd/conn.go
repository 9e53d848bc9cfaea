package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/blockdev"

	"golang.org/x/sys/unix"
)

const (
	// readBufferBytes holds sixteen writes of 4 KiB; longer payloads pass it by.
	readBufferBytes = 64 << 10

	// unixBufferBytes is what a unix socket is asked to hold of replies; the kernel grants twice net.core.wmem_max at most. With its default the
	// writer is woken nine times for a reply of 1 MiB. A TCP socket finds its size by itself.
	unixBufferBytes = 1 << 20
)

// conn is one client. Its reader is the goroutine that runs serve; it owns everything that is not guarded.
type conn struct {
	s   *Server
	nc  net.Conn
	br  *bufio.Reader
	out outbox
	log *slog.Logger

	name     string // for people
	began    time.Time
	tls      *TLS         // required; nil: not offered
	secured  *secured     // nil: no TLS yet
	who      Identity     // what TLS has proved
	moved    atomic.Int64 // nanoseconds after began: when the negotiation last moved; 0: nothing came yet
	awaits   atomic.Bool  // the server, for an export that is being opened
	decideBy time.Time    // the end of the negotiation

	came   time.Duration // when what the reader has in its buffer was received, since the server began
	timely bool          // that is so; else it is to be found out

	export   blockdev.Export
	dev      *blockdev.Device
	agreed   agreed
	release  func() // of an export on demand; nil for others
	attached bool   // guarded by s.mu

	ctx     context.Context // of reads: ends when the client is known to be gone
	cancel  context.CancelFunc
	workers sync.WaitGroup
	started started

	deadlineMu sync.Mutex
	kicked     bool // the reader is to end: no deadline but past any more
	leaving    bool // hangUp has begun: its deadline is the last one

	corked      bool      // the device holds back what it sends
	corkedSince time.Time // when that began

	starving atomic.Bool // the reader waits for memory
	failures atomic.Uint64
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc, began: time.Now(), br: bufio.NewReaderSize(nc, readBufferBytes),
		name: clientName(nc)}
	c.log = s.log.With("client", c.name)
	c.ctx, c.cancel = context.WithCancel(s.hard)
	c.out.init(c)
	if u, ok := nc.(*net.UnixConn); ok {
		u.SetWriteBuffer(unixBufferBytes) // what the kernel grants: any is enough
	}
	return c
}

// clientName is for people: an address, or the process behind a unix socket.
func clientName(nc net.Conn) string {
	u, ok := nc.(*net.UnixConn)
	if !ok {
		return nc.RemoteAddr().String()
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return "unix"
	}
	name := "unix"
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			name = fmt.Sprintf("pid %d of uid %d", cred.Pid, cred.Uid)
		}
	})
	if err != nil {
		return "unix"
	}
	return name
}

// serve is the whole life of the connection. negotiated gives back the place among those that have not chosen yet.
func (c *conn) serve(negotiated func()) {
	defer c.cut()
	err := c.negotiate()
	defer func() { c.farewell(err) }()
	negotiated()
	if err != nil {
		if !errors.Is(err, errEnded) {
			c.log.Debug("negotiation failed", "error", err)
		}
		c.s.detach(c)
		return
	}
	c.log.Debug("client attached", "export", c.export.Name)
	for err == nil {
		err = c.next()
	}
	c.uncork()
	c.out.drain()
	c.workers.Wait()
	if c.s.stopping.Load() {
		c.hangUp()
	}
	c.s.detach(c)
	c.log.Debug("client left", "export", c.export.Name, "reason", err)
}

// attach chooses the export. It fails with Busy when the export has all the connections it may have, with Closed when
// the server stops.
func (c *conn) attach(e blockdev.Export) error {
	c.export, c.dev = e, e.Device // before others see that it is attached
	return c.s.attach(c, e)
}

// kick makes the reader fail as soon as it would wait for the client.
func (c *conn) kick() {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	c.kicked = true
	if !c.leaving {
		c.nc.SetReadDeadline(past()) // fails only on a closed connection, whose reader ends anyway
	}
}

// cut ends the connection at once: reads are given up, replies dropped. Writes that have begun still finish.
func (c *conn) cut() {
	c.nc.Close() // what it may say is of no use any more; first, or it could yet say that what is given up failed
	c.cancel()
	c.started.giveUp()
}

// hangUp ends a connection of which all is answered so that the client gets the answers: closing a TCP connection with requests
// unread resets it, and what is still under way would be lost.
func (c *conn) hangUp() {
	c.endTLS()
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.deadlineMu.Lock()
	c.leaving = true
	c.nc.SetReadDeadline(time.Now().Add(hangUpTimeout)) // fails only on a closed connection
	c.deadlineMu.Unlock()
	io.Copy(io.Discard, c.nc) // its end is the client's, or the deadline's
}

// uncorkAfter is how long the reader starts requests before it lets out what they send, even if more are there: those beneath, and the
// other processor, have something to do meanwhile.
const uncorkAfter = 100 * time.Microsecond

// cork has the device hold back what it sends if behind the request that is being read, with so many bytes of payload, another one is there.
func (c *conn) cork(payload uint64) {
	if c.corked && time.Since(c.corkedSince) > uncorkAfter {
		c.uncork()
	}
	more := uint64(c.br.Buffered()) >= payload+uint64(c.agreed.style.requestBytes())
	if more && !c.corked && c.dev.Cork() {
		c.corked, c.corkedSince = true, time.Now()
	}
}

// uncork lets it out. The reader calls it before it waits for anything.
func (c *conn) uncork() {
	if c.corked {
		c.corked = false
		c.dev.Uncork()
	}
}

func (c *conn) readDeadline(t time.Time) {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if !c.kicked {
		c.nc.SetReadDeadline(t)
	}
}

func (c *conn) deadlineNegotiation(t time.Time) {
	c.readDeadline(t)
	c.nc.SetWriteDeadline(t)
}

// readPayload fills p, which is more than the buffer holds. A client that sends less than its share of it (stallShare) in
// a stall timeout is cut off if others wait for memory.
func (c *conn) readPayload(p []byte) error {
	c.uncork()
	c.out.flush(false)
	if len(p) <= readBufferBytes { // too little to harm anybody
		_, err := io.ReadFull(c.br, p)
		return err
	}
	defer c.readDeadline(time.Time{})
	share := stallShare(len(p))
	if n := len(p) - lowWaterTailBytes; n > 0 && c.lowWater(lowWaterBytes) {
		c.readDeadline(time.Now().Add(c.s.stallTimeout))
		n, err := io.ReadFull(c.br, p[:n])
		c.lowWater(1)
		if err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || c.isKicked()) {
			return err
		}
		p = p[n:]
		if err != nil { // what is there now was not looked at: who is slow is judged from here on, in one timeout less
			share = len(p)/(stallsMax-1) + 1
		}
	}
	for {
		c.readDeadline(time.Now().Add(c.s.stallTimeout))
		n, err := io.ReadFull(c.br, p)
		p = p[n:]
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.isKicked() || n < share && c.harmful() {
			return err
		}
	}
}

// stallShare is how many of n bytes a client has to move in each stall timeout while others wait for memory: so much that
// all of them take no more than stallsMax timeouts. A byte now and then is no progress.
func stallShare(n int) int { return n/stallsMax + 1 }

func (c *conn) isKicked() bool {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	return c.kicked
}

// buffer takes n bytes, and extra ones for the device's scratch, from the shared budget. Before it waits it lets go of
// all that this connection holds back itself.
func (c *conn) buffer(n int, extra int64) (*blockdev.Buffer, error) {
	if b := c.s.memory.TryGet(n, extra); b != nil {
		return b, nil
	}
	c.uncork()
	c.out.flush(false)
	c.starving.Store(true)
	defer c.starving.Store(false)
	return c.s.memory.Get(c.ctx, n, extra)
}

// harmful reports whether others wait for memory, of which this connection holds some.
func (c *conn) harmful() bool {
	others := c.s.memory.Waiting()
	if c.starving.Load() {
		others--
	}
	return others > 0
}

// note reports a failed request: the first of a connection, then ever more rarely.
func (c *conn) note(r *request, err error) {
	if c.ctx.Err() != nil && blocktree.KindOf(err) == blocktree.Canceled {
		return // nobody is there any more to whom it failed
	}
	if n := c.failures.Add(1); n&(n-1) == 0 {
		c.log.Warn("request failed", "export", c.export.Name, "command", r.command, "offsetBytes", r.offset,
			"lengthBytes", r.length, "kind", blocktree.KindOf(err).String(), "error", err, "failures", n)
	}
}
