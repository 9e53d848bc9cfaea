package bttp

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// Network is where an endpoint's sockets come from: Machine in production; tests bring one that they can slow down and cut.
// bttest.Network is the suite of all of them. Addresses are "host:port"; a socket's own is a *net.TCPAddr or *net.UDPAddr. All
// methods may be called by many goroutines at once.
type Network interface {
	// Listen opens a listener for streams. Port 0 picks one that is free. An address in use gives syscall.EADDRINUSE.
	Listen(ctx context.Context, addr string) (net.Listener, error)
	// ListenPacket opens a socket for datagrams, likewise. An empty host is any of the machine's.
	ListenPacket(ctx context.Context, addr string) (net.PacketConn, error)
	// Dial connects a stream. It blocks until the peer's host has answered or ctx ends; a host that says no gives
	// syscall.ECONNREFUSED.
	Dial(ctx context.Context, addr string) (net.Conn, error)
	// AwaitRefusal asks the host of addr, again and again, whether nobody has a datagram socket there, and returns syscall.ECONNREFUSED
	// once it says so. Where somebody has, and where the host says nothing, it blocks until ctx ends, and returns why that did.
	AwaitRefusal(ctx context.Context, addr string) error
}

// Machine is the network of the machine that the process runs on.
type Machine struct{}

// Listen implements Network.
func (Machine) Listen(ctx context.Context, addr string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
}

// ListenPacket implements Network.
func (Machine) ListenPacket(ctx context.Context, addr string) (net.PacketConn, error) {
	return (&net.ListenConfig{}).ListenPacket(ctx, "udp", addr)
}

// Dial implements Network.
func (Machine) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr) // TCP_NODELAY is Go's default
}

// refusalMin and refusalMax bound how long a question of AwaitRefusal waits for its answer before it is asked again.
const (
	refusalMin = 100 * time.Millisecond
	refusalMax = time.Second
)

// AwaitRefusal implements Network: the kernel tells a connected socket what the peer's says by ICMP, which is lost where a firewall
// drops it. The question is one zero byte, which is no QUIC packet.
func (Machine) AwaitRefusal(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close()
	for wait := refusalMin; ; wait = min(2*wait, refusalMax) {
		_, err := conn.Write([]byte{0})
		if err == nil {
			err = conn.SetReadDeadline(time.Now().Add(wait))
		}
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, syscall.ECONNREFUSED):
			return err
		case !errors.Is(err, os.ErrDeadlineExceeded): // nothing that it could tell by: a route that is gone, or an answer
			<-ctx.Done()
			return ctx.Err()
		}
	}
}
