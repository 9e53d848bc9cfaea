package socket

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
)

// probeTimeout bounds the look whether somebody listens on a socket that is in the way.
const probeTimeout = time.Second

// Listen opens a unix or tcp address of package net; mode is for a unix socket's file, which goes away when the listener is closed. Why says what
// an error of it means.
func Listen(network, address string, mode fs.FileMode) (net.Listener, error) {
	var cfg net.ListenConfig
	if network == "unix" {
		// Linux makes the file with the mode of the unbound socket, less the umask; chmod later adds what that took.
		cfg.Control = func(_, _ string, raw syscall.RawConn) error {
			var modeErr error
			err := raw.Control(func(fd uintptr) { modeErr = unix.Fchmod(int(fd), uint32(mode.Perm())) })
			return errors.Join(err, modeErr)
		}
	}
	l, err := cfg.Listen(context.Background(), network, address)
	if errors.Is(err, unix.EADDRINUSE) && network == "unix" && removeStale(address) {
		l, err = cfg.Listen(context.Background(), network, address)
	}
	if err == nil && network == "unix" {
		if err = os.Chmod(address, mode.Perm()); err != nil {
			l.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// removeStale removes a socket that nobody listens on. Two processes that do this at once with the same path may both
// end up believing that they listen there; the later one does.
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

// Why returns the kind of an error of Listen, and what to do about it ("" if nothing in particular).
func Why(err error) (blocktree.Kind, string) {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return blocktree.Busy, "stop the process that listens there, or choose another address"
	case errors.Is(err, fs.ErrPermission):
		return blocktree.Permission, "choose an address that this user may use"
	case errors.Is(err, fs.ErrNotExist):
		return blocktree.NotFound, "make the directory first"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return blocktree.Invalid, "use an address of this machine"
	}
	return blocktree.IO, ""
}
