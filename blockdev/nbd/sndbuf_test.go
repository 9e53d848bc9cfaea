package nbd

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnixSocketHoldsLongReplies: a unix socket is given as much room for replies as a socket gets that asks for it.
func TestUnixSocketHoldsLongReplies(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUF, unixBufferBytes); err != nil {
		t.Fatal(err)
	}
	want, err := unix.GetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		t.Fatal(err)
	}
	b := newBed(t, setup{})
	b.attach()
	raw, err := b.onlyConn().nc.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	if e := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	if got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}
