package nbd

import (
	"net"

	"golang.org/x/sys/unix"
)

const (
	// lowWaterBytes is what has to have come of a long payload over TCP before the reader is woken for it: else it is woken for each record that the
	// client seals, which costs more than what is in it.
	lowWaterBytes = 96 << 10

	// lowWaterTailBytes is the end of a payload, for which the reader is woken by any byte: no less than lowWaterBytes, and what TLS may have of it in its
	// own memory already, part of a record. So never more is waited for than will come.
	lowWaterTailBytes = 128 << 10
)

// lowWater has the kernel wake the reader only when so many bytes are there, or the client has ended its side. It reports false, and nothing has
// changed, where the connection is not TCP.
func (c *conn) lowWater(bytes int) bool {
	t, ok := c.nc.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return false
	}
	failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes) })
	return failed == nil && err == nil
}
