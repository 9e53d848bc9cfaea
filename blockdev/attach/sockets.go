package attach

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
)

// Link is one connection that was handed to the kernel, or is about to be.
type Link interface {
	// FD is the socket, for the kernel.
	FD() int
	// Dead reports whether the connection can carry nothing any more: the server ended it, or the kernel did.
	Dead() bool
	// Settled reports whether the server can take nothing more from a dead connection.
	Settled() bool
	// Taken reports whether the kernel has taken the socket with a timeout, and forgets the timeout.
	Taken() bool
	// Close gives up this process's hold. The kernel keeps its own.
	Close() error
}

// socket is a Link of unix or TCP: a copy of the descriptor, which the runtime's poller knows nothing of.
type socket struct {
	fd  int
	tcp bool
}

// newSocket takes a connection over; nc is closed.
func newSocket(nc net.Conn) (Link, error) {
	defer nc.Close() // the copy below stays
	_, tcp := nc.(*net.TCPConn)
	_, local := nc.(*net.UnixConn)
	s, ok := nc.(syscall.Conn)
	if !tcp && !local || !ok {
		return nil, &blocktree.Error{Op: "attach", Kind: blocktree.Unsupported, Err: errors.New("not a connection that the kernel could take over"), Hint: hintTLS}
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, blocktree.E("attach", blocktree.Closed, err)
	}
	fd, dupErr := -1, error(nil)
	err = raw.Control(func(from uintptr) { fd, dupErr = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 3) })
	if err = errors.Join(err, dupErr); err != nil {
		return nil, blocktree.E("attach", blocktree.IO, err)
	}
	return &socket{fd: fd, tcp: tcp}, nil
}

// limitSilence makes the kernel give up a TCP connection whose other side acknowledges nothing for silenceMax.
func limitSilence(_ context.Context, network, _ string, raw syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return nil
	}
	var set error
	err := raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silenceMax/time.Millisecond))
	})
	return errors.Join(err, set)
}

func (s *socket) FD() int { return s.fd }

// Dead looks for a hang-up of either side. Data that waits is the kernel's to read.
func (s *socket) Dead() bool {
	p := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

// Settled: of TCP, both sides have closed, or the connection was given up, by a reset or after silenceMax without a word. Of unix, the
// server has left nothing unread.
func (s *socket) Settled() bool {
	if s.tcp {
		info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err == nil && info.State == tcpClosed
	}
	unread, err := unix.IoctlGetInt(s.fd, unix.SIOCOUTQ)
	return err == nil && unread == 0
}

// tcpClosed is TCP_CLOSE of net/tcp_states.h. A socket in TIME_WAIT says it of itself too.
const tcpClosed = 7

// Taken: the kernel gives each socket that it takes the device's timeout for sending.
func (s *socket) Taken() bool {
	t, err := unix.GetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO)
	if err != nil || t.Sec == 0 && t.Usec == 0 {
		return false
	}
	unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{}) // cannot fail where the other did not
	return true
}

func (s *socket) Close() error { return unix.Close(s.fd) }
