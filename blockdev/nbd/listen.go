package nbd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"blocktree"
	"blocktree/internal/socket"

	"github.com/coreos/go-systemd/v22/activation"
)

const (
	// SocketMode is the default permission of a unix socket: who may connect may read and write every export.
	SocketMode fs.FileMode = 0o600

	// TLSPrefix is what URI takes before the address of a listener that requires TLS.
	TLSPrefix = "tls+"

	// unixPathBytesMax is the length of sun_path, less its zero byte.
	unixPathBytesMax = 107
)

// ParseListen splits "unix:PATH" or "tcp:HOST:PORT" into a network and an address of package net. It returns Invalid
// for anything else, and TooLarge for a path that no socket can have.
func ParseListen(listen string) (network, address string, err error) {
	bad := func(kind blocktree.Kind, why string) (string, string, error) {
		return "", "", &blocktree.Error{Op: "listen", Path: listen, Kind: kind, Err: errors.New(why),
			Hint: "use unix:PATH or tcp:HOST:PORT, for example unix:/run/btnbd.sock"}
	}
	network, address, _ = strings.Cut(listen, ":")
	switch {
	case network == "unix" && address == "":
		return bad(blocktree.Invalid, "no path")
	case network == "unix" && strings.ContainsRune(address, 0), network == "unix" && address[0] == '@':
		return bad(blocktree.Invalid, "not the path of a file")
	case network == "unix" && len(address) > unixPathBytesMax:
		return bad(blocktree.TooLarge, fmt.Sprintf("a socket's path has at most %d bytes", unixPathBytesMax))
	case network == "unix":
		return network, address, nil
	case network != "tcp":
		return bad(blocktree.Invalid, "neither unix:PATH nor tcp:HOST:PORT")
	}
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return bad(blocktree.Invalid, "not HOST:PORT")
	}
	return network, address, nil
}

// Listen opens "unix:PATH" or "tcp:HOST:PORT". A unix socket gets the permissions mode from its first moment; a socket
// file that is in the way is removed if nobody listens on it. Busy means that somebody does, or has the port. The socket
// file goes away when the listener is closed.
func Listen(listen string, mode fs.FileMode) (net.Listener, error) {
	network, address, err := ParseListen(listen)
	if err != nil {
		return nil, err
	}
	l, err := socket.Listen(network, address, mode)
	if err != nil {
		return nil, listenError(listen, err)
	}
	return l, nil
}

func listenError(listen string, err error) error {
	kind, hint := socket.Why(err)
	return &blocktree.Error{Op: "listen", Path: listen, Kind: kind, Err: err, Hint: hint}
}

// Activated returns the listeners that systemd, or a client such as `nbdinfo [ btnbd … ]`, passed to this process
// (LISTEN_PID, LISTEN_FDS), and none when there are none. It clears those variables, so that a child does not take them
// for its own; call it once.
func Activated() ([]net.Listener, error) {
	var all []net.Listener
	var first error
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		f.Close() // FileListener has its own copy
		if err != nil {
			first = errors.Join(first, err)
			continue
		}
		all = append(all, l)
	}
	if first != nil {
		for _, l := range all {
			l.Close()
		}
		return nil, blocktree.E("nbd.Activated", blocktree.Invalid, first)
	}
	return all, nil
}

// URI returns what libnbd, qemu and nbdcopy take to reach an export on a listener: nbd+unix:///vm/disk0?socket=PATH or
// nbd://HOST:PORT/vm/disk0; nbds+unix and nbds for an address that starts with TLSPrefix. An address that means all of this
// machine becomes its loopback.
func URI(listen, exportName string) (string, error) {
	listen, secure := strings.CutPrefix(listen, TLSPrefix)
	scheme := "nbd"
	if secure {
		scheme = "nbds"
	}
	network, address, err := ParseListen(listen)
	if err != nil {
		return "", err
	}
	name := escape(strings.TrimPrefix(exportName, "/"))
	if network == "unix" {
		path, err := filepath.Abs(address)
		if err != nil {
			return "", &blocktree.Error{Op: "nbd.URI", Path: listen, Kind: blocktree.Invalid, Err: err}
		}
		return scheme + "+unix:///" + name + "?socket=" + escape(path), nil
	}
	host, port, _ := net.SplitHostPort(address)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return scheme + "://" + net.JoinHostPort(host, port) + "/" + name, nil
}

// escape percent-encodes all but what every reader of a URI takes as it is, and slashes.
func escape(s string) string {
	parts := strings.Split(s, "/")
	for i := range parts {
		parts[i] = strings.ReplaceAll(url.QueryEscape(parts[i]), "+", "%20")
	}
	return strings.Join(parts, "/")
}
