package bttp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// memoryBytesMax is how much one end of a lane in memory may have sent that the other has not read before it waits: as much as a few flushes
// are, so that both ends work at the same time. What is sent at once comes on top.
const memoryBytesMax = 4 * stageBytesMax

// memoryCarrier is one end of a lane between two endpoints of one runtime in one process: two pipes, and nothing sealed.
type memoryCarrier struct {
	in, out *pipe
	held    []byte // what stage has taken and flush has not sent
	stall   time.Duration
}

// newMemoryCarriers returns both ends of a lane.
func newMemoryCarriers(stall time.Duration) (near, far *memoryCarrier) {
	there, back := newPipe(), newPipe()
	return &memoryCarrier{in: back, out: there, stall: stall}, &memoryCarrier{in: there, out: back, stall: stall}
}

func (c *memoryCarrier) Read(p []byte) (int, error) { return c.in.read(p) }
func (c *memoryCarrier) inputReady() bool           { return c.in.ready() }
func (c *memoryCarrier) onWait(func())              {} // where inputReady says yes a Read never waits
func (c *memoryCarrier) staged() int                { return len(c.held) }

func (c *memoryCarrier) stage(p []byte) error {
	c.held = append(c.held, p...)
	return nil
}

func (c *memoryCarrier) tryFlush() (sent bool, err error) {
	c.held, sent, err = c.out.send(c.held, 0)
	return sent, err
}

func (c *memoryCarrier) flush() error {
	held, sent, err := c.out.send(c.held, c.stall)
	c.held = held
	if err == nil && !sent {
		err = os.ErrDeadlineExceeded
	}
	return err
}

// setDeadline does nothing: the dialer bounds the hello for both ends, as closing one ends the other.
func (c *memoryCarrier) setDeadline(time.Time) error { return nil }

// close has the other end read what was sent, and then the end.
func (c *memoryCarrier) close() {
	c.in.leave()
	c.out.end()
}

// closeWrite ends what is sent only.
func (c *memoryCarrier) closeWrite() { c.out.end() }

// pipe is the bytes of one direction. One goroutine reads, one at a time sends; ending it is for anybody. Nothing is called, and nothing else
// locked, while mu is.
type pipe struct {
	mu     sync.Mutex
	change *sync.Cond // for either end
	sent   []byte     // sent[first:] is not read yet
	first  int
	ended  bool // nothing more is sent
	left   bool // nothing more is read
}

func newPipe() *pipe {
	p := &pipe{}
	p.change = sync.NewCond(&p.mu)
	return p
}

// errLeft: the other end reads no more.
var errLeft = errors.New("the peer closed the connection")

// ready reports whether read would return at once.
func (p *pipe) ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first < len(p.sent) || p.ended || p.left
}

// read blocks until there is something. It fails with io.EOF after the last byte, with net.ErrClosed after leave.
func (p *pipe) read(to []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.first == len(p.sent) && !p.ended && !p.left {
		p.change.Wait()
	}
	switch {
	case p.left:
		return 0, net.ErrClosed
	case p.first == len(p.sent):
		return 0, io.EOF
	}
	n := copy(to, p.sent[p.first:])
	full := p.full()
	if p.first += n; p.first == len(p.sent) {
		p.sent, p.first = p.sent[:0], 0
	}
	if full && !p.full() {
		p.change.Broadcast()
	}
	return n, nil
}

// full reports whether a sender has to wait. mu is held.
func (p *pipe) full() bool { return len(p.sent)-p.first >= memoryBytesMax }

// send sends all of held as soon as the pipe is not full, within patience; then sent is true. It returns what takes held's place: held itself, or memory for what comes
// next. With no patience it does not block.
func (p *pipe) send(held []byte, patience time.Duration) (rest []byte, sent bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if patience > 0 && p.full() && !p.ended && !p.left {
		p.awaitRoom(patience)
	}
	switch {
	case p.left:
		return held, false, errLeft
	case p.ended:
		return held, false, net.ErrClosed
	case p.full():
		return held, false, nil
	case p.first == len(p.sent): // the reader takes the memory itself
		p.sent, held, p.first = held, p.sent[:0], 0
	default:
		if p.first > 0 && len(p.sent)+len(held) > cap(p.sent) {
			p.sent = p.sent[:copy(p.sent, p.sent[p.first:])]
			p.first = 0
		}
		p.sent, held = append(p.sent, held...), held[:0]
	}
	p.change.Broadcast()
	return held, true, nil
}

// awaitRoom blocks until the pipe is not full, has an end, or patience is over. mu is held.
func (p *pipe) awaitRoom(patience time.Duration) {
	over := false
	timer := time.AfterFunc(patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		over = true
		p.change.Broadcast()
	})
	defer timer.Stop()
	for p.full() && !p.ended && !p.left && !over {
		p.change.Wait()
	}
}

// end is the sender's: the reader gets what was sent, and then io.EOF.
func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.change.Broadcast()
}

// leave is the reader's: what was sent is dropped, and sending fails.
func (p *pipe) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = true
	p.sent, p.first = nil, 0
	p.change.Broadcast()
}
