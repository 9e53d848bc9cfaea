package simnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	// streamBytesMax is how much of a stream may be under way or unread before its writer waits: a kernel's buffers.
	streamBytesMax = 4 << 20
	// segmentBytes is what is lost, and sent again, at a time.
	segmentBytes = 64 << 10
	// retransmission is how much later a lost segment comes: the kernel's shortest time-out.
	retransmission = 200 * time.Millisecond
	// backlogMax bounds the streams that wait to be accepted.
	backlogMax = 128
)

// listener is a net.Listener; the Net's mu guards it.
type listener struct {
	net     *Net
	at      netip.AddrPort
	backlog []*stream
	bell    bell
	closed  bool
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		l.net.mu.Lock()
		if l.closed {
			l.net.mu.Unlock()
			return nil, opError("accept", "tcp", l.at, net.ErrClosed)
		}
		if len(l.backlog) > 0 {
			s := l.backlog[0]
			l.backlog = l.backlog[1:]
			l.net.mu.Unlock()
			return s, nil
		}
		ring := l.bell.wait()
		l.net.mu.Unlock()
		<-ring
	}
}

// Close implements net.Listener; streams that nobody accepted end.
func (l *listener) Close() error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if l.closed {
		return opError("close", "tcp", l.at, net.ErrClosed)
	}
	l.closed = true
	delete(l.net.listeners, l.at)
	for _, s := range l.backlog {
		s.end()
	}
	l.bell.ring()
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	return net.TCPAddrFromAddrPort(l.at)
}

// pipe is one direction of a stream; the Net's mu guards it.
type pipe struct {
	net      *Net
	from, to netip.Addr
	segments []segment
	bytes    int  // of segments
	ended    bool // nothing will be written any more
	deaf     bool // nothing will be read any more
	lost     bool // the writer lost its power: nothing that it still writes goes anywhere
	bell     bell // anything of these, or the link
}

// segment is a piece of a stream under way; without data it is the end.
type segment struct {
	data []byte
	due  time.Time
}

// newPipe makes a pipe that a cut or mended link wakes; mu is held.
func newPipe(n *Net, from, to netip.Addr) *pipe {
	p := &pipe{net: n, from: from, to: to}
	n.pipes[p] = struct{}{}
	return p
}

// put sends a segment.
func (p *pipe) put(data []byte) {
	if p.lost {
		return
	}
	link := p.net.link(p.from, p.to)
	due := time.Now().Add(link.Delay)
	for link.Loss > 0 && p.net.rng.Float64() < link.Loss {
		due = due.Add(retransmission)
	}
	if n := len(p.segments); n > 0 && due.Before(p.segments[n-1].due) {
		due = p.segments[n-1].due
	}
	p.segments = append(p.segments, segment{data, due})
	p.bytes += len(data)
	p.bell.ring()
}

// take moves what has arrived to b; ok is false if nothing has, and then is when something may, if that is known.
func (p *pipe) take(b []byte) (n int, then time.Time, ok bool, err error) {
	if len(p.segments) == 0 || p.net.link(p.from, p.to).Cut {
		return 0, time.Time{}, false, nil
	}
	for n < len(b) && len(p.segments) > 0 && !p.segments[0].due.After(time.Now()) {
		s := &p.segments[0]
		if s.data == nil { // stays, for the next Read
			if n == 0 {
				return 0, time.Time{}, true, io.EOF
			}
			break
		}
		got := copy(b[n:], s.data)
		n += got
		if s.data = s.data[got:]; len(s.data) == 0 {
			p.segments = p.segments[1:]
		}
	}
	if n == 0 {
		return 0, p.segments[0].due, false, nil
	}
	p.bytes -= n
	p.bell.ring() // there is room
	return n, time.Time{}, true, nil
}

// stream is a net.Conn; the Net's mu guards it.
type stream struct {
	net             *Net
	local, remote   netip.AddrPort
	in, out         *pipe
	closed          bool
	readBy, writeBy time.Time
}

// Read implements net.Conn.
func (s *stream) Read(b []byte) (int, error) {
	for {
		s.net.mu.Lock()
		switch {
		case s.closed:
			s.net.mu.Unlock()
			return 0, opError("read", "tcp", s.remote, net.ErrClosed)
		case passed(s.readBy):
			s.net.mu.Unlock()
			return 0, opError("read", "tcp", s.remote, os.ErrDeadlineExceeded)
		}
		n, then, ok, err := s.in.take(b)
		ring := s.in.bell.wait()
		then = sooner(then, s.readBy)
		s.net.mu.Unlock()
		if ok || len(b) == 0 {
			return n, err
		}
		await(ring, then)
	}
}

// Write implements net.Conn. It waits while too much is under way.
func (s *stream) Write(b []byte) (n int, err error) {
	for {
		s.net.mu.Lock()
		switch {
		case s.closed:
			err = net.ErrClosed
		case passed(s.writeBy):
			err = os.ErrDeadlineExceeded
		case s.out.deaf && !s.net.link(s.out.to, s.out.from).Cut:
			err = os.NewSyscallError("write", syscall.ECONNRESET)
		}
		for err == nil && n < len(b) && s.out.bytes < streamBytesMax {
			piece := b[n:min(n+segmentBytes, len(b))]
			s.out.put(slices.Clone(piece))
			n += len(piece)
		}
		ring := s.out.bell.wait()
		s.net.mu.Unlock()
		if err != nil {
			return n, opError("write", "tcp", s.remote, err)
		}
		if n == len(b) {
			return n, nil
		}
		await(ring, s.writeBy)
	}
}

// Close implements net.Conn: what was written still arrives, and then the end.
func (s *stream) Close() error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if s.closed {
		return opError("close", "tcp", s.remote, net.ErrClosed)
	}
	s.end()
	return nil
}

// end closes the stream; mu is held.
func (s *stream) end() {
	s.closed = true
	s.out.put(nil)
	s.out.ended = true
	s.in.deaf, s.in.segments, s.in.bytes = true, nil, 0
	s.in.bell.ring()
	for _, p := range []*pipe{s.in, s.out} {
		if p.ended && p.deaf {
			delete(s.net.pipes, p)
		}
	}
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(s.local) }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.remote) }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t) // never fails
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.readBy = t
	s.in.bell.ring()
	return nil
}

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.writeBy = t
	s.out.bell.ring()
	return nil
}
