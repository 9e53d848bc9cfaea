package bttp

import (
	"context"
	"net"
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
