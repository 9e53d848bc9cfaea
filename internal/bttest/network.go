package bttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"blocktree/internal/bttp"
)

// Network runs the suite of bttp.Network. bed calls run with a network and the address of the host that it is: within a bubble, if the
// network needs one.
func Network(t *testing.T, bed func(t *testing.T, run func(t *testing.T, n bttp.Network, host string))) {
	for _, x := range []struct {
		name string
		run  func(*testing.T, bttp.Network, string)
	}{
		{"datagrams", datagrams},
		{"datagram socket ends", datagramEnds},
		{"streams", streams},
		{"stream ends", streamEnds},
		{"deadlines", deadlines},
		{"addresses", addresses},
		{"refusals", datagramRefusals},
	} {
		t.Run(x.name, func(t *testing.T) { bed(t, x.run) })
	}
}

func socket(t *testing.T, n bttp.Network, addr string) net.PacketConn {
	t.Helper()
	s, err := n.ListenPacket(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// streamPair returns both ends of a stream.
func streamPair(t *testing.T, n bttp.Network, host string) (near, far net.Conn) {
	t.Helper()
	l, err := n.Listen(t.Context(), host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = n.Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	if near.LocalAddr().String() != far.RemoteAddr().String() || near.RemoteAddr().String() != far.LocalAddr().String() {
		t.Errorf("%v to %v, %v to %v", near.LocalAddr(), near.RemoteAddr(), far.LocalAddr(), far.RemoteAddr())
	}
	return near, far
}

func datagrams(t *testing.T, n bttp.Network, host string) {
	a, b := socket(t, n, host+":0"), socket(t, n, host+":0")
	if _, ok := a.LocalAddr().(*net.UDPAddr); !ok || a.LocalAddr().String() == b.LocalAddr().String() {
		t.Fatalf("%v and %v", a.LocalAddr(), b.LocalAddr())
	}
	for i := range 10 {
		p := bytes.Repeat([]byte{byte(i)}, 100*i)
		if k, err := a.WriteTo(p, b.LocalAddr()); k != len(p) || err != nil {
			t.Fatal(k, err)
		}
		got := make([]byte, 2000)
		k, from, err := b.ReadFrom(got)
		if err != nil || !bytes.Equal(got[:k], p) || from.String() != a.LocalAddr().String() {
			t.Fatalf("%d bytes from %v, %v", k, from, err)
		}
	}
}

func datagramEnds(t *testing.T, n bttp.Network, host string) {
	s := socket(t, n, host+":0")
	ended := make(chan error, 1)
	go func() {
		_, _, err := s.ReadFrom(make([]byte, 1))
		ended <- err
	}()
	time.Sleep(time.Millisecond)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read that waited: %v", err)
	}
	if _, err := s.WriteTo([]byte{1}, s.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write: %v", err)
	}
	again := socket(t, n, s.LocalAddr().String())
	if again.LocalAddr().String() != s.LocalAddr().String() {
		t.Errorf("the address is not free again")
	}
}

func streams(t *testing.T, n bttp.Network, host string) {
	near, far := streamPair(t, n, host)
	want := make([]byte, 10<<20) // more than any buffer
	for i := range want {
		want[i] = byte(i * i >> 8)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := near.Write(want)
		sent <- errors.Join(err, near.Close())
	}()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func streamEnds(t *testing.T, n bttp.Network, host string) {
	near, far := streamPair(t, n, host)
	ended := make(chan error, 1)
	go func() {
		_, err := near.Read(make([]byte, 1))
		ended <- err
	}()
	time.Sleep(time.Millisecond)
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read that waited: %v", err)
	}
	if k, err := far.Read(make([]byte, 1)); k != 0 || err != io.EOF {
		t.Errorf("the peer reads %d, %v", k, err)
	}
	var err error
	for range 100 { // the first may come before the peer's word
		if _, err = far.Write([]byte{1}); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the peer writes: %v", err)
	}
}

func deadlines(t *testing.T, n bttp.Network, host string) {
	s := socket(t, n, host+":0")
	near, far := streamPair(t, n, host)
	const soon = 10 * time.Millisecond
	for name, wait := range map[string]func() error{
		"datagram": func() error {
			_ = s.SetReadDeadline(time.Now().Add(soon))
			_, _, err := s.ReadFrom(make([]byte, 1))
			return err
		},
		"read": func() error {
			_ = near.SetReadDeadline(time.Now().Add(soon))
			_, err := near.Read(make([]byte, 1))
			return err
		},
		"write": func() error {
			_ = near.SetWriteDeadline(time.Now().Add(soon))
			_, err := near.Write(make([]byte, 64<<20))
			return err
		},
		"moved while it waits": func() error {
			_ = far.SetReadDeadline(time.Time{})
			time.AfterFunc(soon, func() { _ = far.SetReadDeadline(time.Now()) })
			for {
				if _, err := far.Read(make([]byte, 1<<20)); err != nil {
					return err
				}
			}
		},
	} {
		begun := time.Now()
		err := wait()
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) < soon-time.Millisecond {
			t.Errorf("%s: %v after %v", name, err, time.Since(begun))
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%s: %v is no timeout", name, err)
		}
	}
}

func addresses(t *testing.T, n bttp.Network, host string) {
	l, err := n.Listen(t.Context(), host+":0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen(t.Context(), l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second listener: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Dial(t.Context(), l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a dial to nobody: %v", err)
	}
	s := socket(t, n, host+":0")
	if _, err := n.ListenPacket(t.Context(), s.LocalAddr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second socket: %v", err)
	}
	socket(t, n, ":0")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Dial(ctx, l.Addr().String()); err == nil {
		t.Error("a dial that was canceled")
	}
}

// datagramRefusals: a host says that nobody has a socket, and where somebody has one nothing is said; what is asked disturbs nobody.
func datagramRefusals(t *testing.T, n bttp.Network, host string) {
	s := socket(t, n, host+":0")
	ctx, cancel := context.WithCancel(t.Context())
	said := make(chan error, 1)
	go func() { said <- n.AwaitRefusal(ctx, s.LocalAddr().String()) }()
	time.Sleep(50 * time.Millisecond)
	cancel()
	if err := <-said; err == nil || errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("of a socket that is there: %v", err)
	}
	addr := s.LocalAddr().String()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.AwaitRefusal(t.Context(), addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("of one that is gone: %v", err)
	}
}
