package simnet

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
)

// socketPacketsMax is how many datagrams wait for a reader; further ones are dropped, as the kernel does.
const socketPacketsMax = 4096

// packet is a datagram on its way.
type packet struct {
	from netip.AddrPort
	data []byte
	due  time.Time
}

// socket is a net.PacketConn; the Net's mu guards it.
type socket struct {
	net      *Net
	at       netip.AddrPort
	queue    []packet // by due
	bell     bell     // the queue, the deadline, the end
	closed   bool
	deadline time.Time
}

// ReadFrom implements net.PacketConn. The rest of a datagram longer than p is lost.
func (s *socket) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		s.net.mu.Lock()
		switch {
		case s.closed:
			s.net.mu.Unlock()
			return 0, nil, opError("read", "udp", s.at, net.ErrClosed)
		case passed(s.deadline):
			s.net.mu.Unlock()
			return 0, nil, opError("read", "udp", s.at, os.ErrDeadlineExceeded)
		case len(s.queue) > 0 && !s.queue[0].due.After(time.Now()):
			first := s.queue[0]
			s.queue[0] = packet{}
			s.queue = s.queue[1:]
			s.net.mu.Unlock()
			return copy(p, first.data), net.UDPAddrFromAddrPort(first.from), nil
		}
		then := s.deadline
		if len(s.queue) > 0 {
			then = sooner(s.queue[0].due, then)
		}
		ring := s.bell.wait()
		s.net.mu.Unlock()
		await(ring, then)
	}
}

// WriteTo implements net.PacketConn. It never blocks, and does not say what becomes of the datagram.
func (s *socket) WriteTo(p []byte, to net.Addr) (int, error) {
	addr, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, opError("write", "udp", s.at, errNoHost)
	}
	at := netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), addr.AddrPort().Port())
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if s.closed {
		return 0, opError("write", "udp", s.at, net.ErrClosed)
	}
	if !s.net.passes(s.at, at) {
		return len(p), nil
	}
	link, there := s.net.link(s.at.Addr(), at.Addr()), s.net.sockets[at]
	if link.Cut || link.Loss > 0 && s.net.rng.Float64() < link.Loss || there == nil || len(there.queue) >= socketPacketsMax {
		return len(p), nil
	}
	there.put(packet{s.at, slices.Clone(p), time.Now().Add(link.Delay)})
	return len(p), nil
}

// put queues a datagram behind all that are due no later.
func (s *socket) put(p packet) {
	i := len(s.queue)
	for i > 0 && s.queue[i-1].due.After(p.due) {
		i--
	}
	s.queue = slices.Insert(s.queue, i, p)
	if i == 0 {
		s.bell.ring()
	}
}

// Close implements net.PacketConn.
func (s *socket) Close() error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if s.closed {
		return opError("close", "udp", s.at, net.ErrClosed)
	}
	s.closed = true
	delete(s.net.sockets, s.at)
	s.bell.ring()
	return nil
}

// LocalAddr implements net.PacketConn.
func (s *socket) LocalAddr() net.Addr {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	return net.UDPAddrFromAddrPort(s.at)
}

// SetReadDeadline implements net.PacketConn.
func (s *socket) SetReadDeadline(t time.Time) error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.deadline = t
	s.bell.ring()
	return nil
}

// SetWriteDeadline implements net.PacketConn: no write waits.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.PacketConn.
func (s *socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadBuffer and SetWriteBuffer are there for quic-go, which asks for them and prints a warning otherwise.
func (s *socket) SetReadBuffer(int) error { return nil }

// SetWriteBuffer see SetReadBuffer.
func (s *socket) SetWriteBuffer(int) error { return nil }
