package metrics

import (
	"io/fs"
	"net"
	"strings"

	"blocktree"
	"blocktree/internal/socket"
)

// socketMode lets the group of the program read what it counts; there is nothing to write.
const socketMode fs.FileMode = 0o660

// Listen opens HOST:PORT or unix:PATH, as package socket does. Kinds: Busy, Permission, NotFound, Invalid, IO, each with a hint.
func Listen(address string) (net.Listener, error) {
	network, where := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, where = "unix", path
	}
	l, err := socket.Listen(network, where, socketMode)
	if err == nil {
		return l, nil
	}
	kind, hint := socket.Why(err)
	if hint == "" {
		hint = "choose another address"
	}
	return nil, &blocktree.Error{Op: "metrics: listen", Path: address, Kind: kind, Err: err,
		Hint: hint + "; metrics.listen (--metrics) is the address, or off"}
}
