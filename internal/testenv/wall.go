package testenv

import (
	"context"
	"net"
	"slices"
	"syscall"

	"blocktree/internal/bttp"
)

// wall is the machine's network without the addresses behind it, whoever tells of them: streams are refused, datagrams to them are lost.
type wall struct {
	bttp.Machine
	behind []string
}

// Dial implements bttp.Network.
func (w wall) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if slices.Contains(w.behind, addr) {
		return nil, syscall.ECONNREFUSED
	}
	return w.Machine.Dial(ctx, addr)
}

// AwaitRefusal implements bttp.Network.
func (w wall) AwaitRefusal(ctx context.Context, addr string) error {
	if slices.Contains(w.behind, addr) {
		return syscall.ECONNREFUSED
	}
	return w.Machine.AwaitRefusal(ctx, addr)
}

// ListenPacket implements bttp.Network.
func (w wall) ListenPacket(ctx context.Context, addr string) (net.PacketConn, error) {
	c, err := w.Machine.ListenPacket(ctx, addr)
	if err != nil {
		return nil, err
	}
	return walledConn{c, w.behind}, nil
}

type walledConn struct {
	net.PacketConn
	behind []string
}

// WriteTo implements net.PacketConn.
func (c walledConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if slices.Contains(c.behind, to.String()) {
		return len(p), nil
	}
	return c.PacketConn.WriteTo(p, to)
}
