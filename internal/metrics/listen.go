package metrics

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
)

const (
	// socketMode lets the group of the program read what it counts; there is nothing to write.
	socketMode fs.FileMode = 0o660

	// probeTimeout bounds the look whether somebody listens on a socket that is in the way.
	probeTimeout = time.Second
)

// Listen opens HOST:PORT or unix:PATH. A socket's file that is in the way is removed if nobody listens on it, and goes away when the listener is
// closed. Kinds: Busy, Permission, NotFound, Invalid, IO, each with a hint.
func Listen(address string) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix:")
	network := "tcp"
	var cfg net.ListenConfig
	if ok {
		// Linux makes the file with the mode of the unbound socket, less the umask.
		network, cfg.Control = "unix", func(_, _ string, raw syscall.RawConn) error {
			var modeErr error
			err := raw.Control(func(fd uintptr) { modeErr = unix.Fchmod(int(fd), uint32(socketMode)) })
			return errors.Join(err, modeErr)
		}
	}
	l, err := cfg.Listen(context.Background(), network, path)
	if ok && errors.Is(err, unix.EADDRINUSE) && removeStale(path) {
		l, err = cfg.Listen(context.Background(), network, path)
	}
	if err != nil {
		return nil, listenError(address, err)
	}
	return l, nil
}

// removeStale removes a socket that nobody listens on.
func removeStale(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	nc, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		nc.Close() // only asked
		return false
	}
	return errors.Is(err, unix.ECONNREFUSED) && os.Remove(path) == nil
}

func listenError(address string, err error) error {
	e := &blocktree.Error{Op: "metrics: listen", Path: address, Kind: blocktree.IO, Err: err,
		Hint: "give metrics.listen (--metrics) another address, or off"}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		e.Kind, e.Hint = blocktree.Busy, "stop the process that listens there, or give metrics.listen (--metrics) another address: each program needs its own"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Hint = blocktree.Permission, "give metrics.listen (--metrics) an address that this user may use, for example a port above 1023"
	case errors.Is(err, fs.ErrNotExist):
		e.Kind, e.Hint = blocktree.NotFound, "make the directory of the socket first"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		e.Kind, e.Hint = blocktree.Invalid, "use an address of this machine"
	}
	return e
}
