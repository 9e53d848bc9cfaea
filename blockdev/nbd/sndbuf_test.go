package nbd

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnixSocketHoldsLongReplies: a unix socket is given as much room for replies as was asked for, or as the kernel grants.
func TestUnixSocketHoldsLongReplies(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/core/wmem_max")
	if err != nil {
		t.Fatal(err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
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
	if want := 2 * min(unixBufferBytes, most); got != want { // the kernel doubles it, for its own overhead
		t.Errorf("%d bytes, want %d", got, want)
	}
}
