package simnet

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestWall: what is behind a firewall reaches everybody, and is reached by answers only.
func TestWall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		at, bt := hosts()
		out, in := n.Host(at), n.Host(bt)
		n.Wall(bt)
		var sockets [3]net.PacketConn
		var err error
		for i, h := range []*Host{out, in, out} {
			if sockets[i], err = h.ListenPacket(t.Context(), ":0"); err != nil {
				t.Fatal(err)
			}
			defer sockets[i].Close()
		}
		arrives := func(from, to int) bool {
			_, _ = sockets[from].WriteTo([]byte{1}, sockets[to].LocalAddr())
			_ = sockets[to].SetReadDeadline(time.Now().Add(time.Second))
			_, _, err := sockets[to].ReadFrom(make([]byte, 1))
			return err == nil
		}
		if arrives(0, 1) || !arrives(1, 0) || !arrives(0, 1) || arrives(2, 1) {
			t.Error("a datagram that nobody has sent for comes in, or one that is sent for does not")
		}
		for _, h := range []*Host{out, in} {
			l, err := h.Listen(t.Context(), ":80")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
		}
		dial := func(from *Host, to string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			c, err := from.Dial(ctx, to)
			if err == nil {
				_ = c.Close()
			}
			return err
		}
		if err := dial(in, at.String()+":80"); err != nil {
			t.Error(err)
		}
		if err := dial(out, bt.String()+":80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a stream comes in: %v", err)
		}
		n.Open(bt)
		if err := dial(out, bt.String()+":80"); err != nil {
			t.Error(err)
		}
	})
}
