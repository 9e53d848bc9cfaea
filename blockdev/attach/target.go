package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"blocktree"
)

// dialTimeout bounds how long a server may take to accept a connection.
const dialTimeout = 5 * time.Second

// What ends a TCP connection whose other side has gone without a word: not sooner than after settleMax, so that what the server had
// received by then is read, whatever becomes of the connection.
const (
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 15 * time.Second
	silenceMax        = 60 * time.Second
)

// Target is an export of a server.
type Target struct {
	Network string // "unix" or "tcp"
	Address string // a path, or HOST:PORT
	Export  string // as the server is asked for it
}

// backendBytesMax bounds the URI that the kernel keeps: it prints it into a page, without a look at its length.
const backendBytesMax = 4096 - len("\n\x00")

const targetHint = "write unix:PATH, tcp:HOST:PORT, nbd://HOST:PORT or nbd+unix:///?socket=PATH"

// ParseTarget reads where a server is: unix:PATH, tcp:HOST:PORT or an NBD URI. A URI that names an export must name this one.
func ParseTarget(server, export string) (Target, error) {
	bad := func(why string) (Target, error) {
		return Target{}, &blocktree.Error{Op: "server", Path: server, Kind: blocktree.Invalid, Err: errors.New(why), Hint: targetHint}
	}
	if len(export) > blocktree.PathBytesMax || strings.ContainsAny(export, "\x00\n") {
		return Target{}, &blocktree.Error{Op: "path", Kind: blocktree.Invalid, Err: fmt.Errorf("%.40q cannot be the path of a file", export),
			Hint: "a path is absolute inside the domain, for example /vm/disk0"}
	}
	t := Target{Export: export}
	named := ""
	switch scheme, rest, _ := strings.Cut(server, ":"); scheme {
	case "unix", "tcp":
		t.Network, t.Address = scheme, rest
	case "nbd", "nbd+unix":
		u, err := url.Parse(server)
		if err != nil {
			return bad("not a URI")
		}
		named = strings.TrimPrefix(u.Path, "/")
		t.Network, t.Address = "tcp", u.Host
		if u.Port() == "" && u.Host != "" {
			t.Address = net.JoinHostPort(u.Hostname(), "10809")
		}
		if scheme == "nbd+unix" {
			t.Network, t.Address = "unix", u.Query().Get("socket")
		}
	case "nbds", "nbds+unix":
		return Target{}, &blocktree.Error{Op: "server", Path: server, Kind: blocktree.Unsupported, Err: errors.New("TLS"), Hint: hintTLS}
	default:
		return bad("not an address")
	}
	if named != "" && named != strings.TrimPrefix(export, "/") {
		return bad(fmt.Sprintf("it names the export %s, the command %s", named, export))
	}
	if t.Network == "unix" {
		path, err := filepath.Abs(t.Address)
		if t.Address == "" || err != nil || strings.ContainsRune(path, 0) || len(path) > 107 {
			return bad("not the path of a socket")
		}
		t.Address = path
		return t, t.fits()
	}
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil || port == "" {
		return bad("not HOST:PORT")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() { // an address to listen on
		t.Address = net.JoinHostPort("localhost", port)
	}
	return t, t.fits()
}

// fits refuses a target that the kernel could not keep.
func (t Target) fits() error {
	if n := len(t.String()); n > backendBytesMax {
		return &blocktree.Error{Op: "path", Kind: blocktree.TooLarge, Err: fmt.Errorf("the URI of the export has %d bytes, the kernel keeps %d", n, backendBytesMax),
			Hint: "export the file under a shorter path"}
	}
	return nil
}

// String is the URI, always the same for the same target: the kernel keeps it, and compares.
func (t Target) String() string {
	u := url.URL{Scheme: "nbd", Host: t.Address, Path: "/" + strings.TrimPrefix(t.Export, "/")}
	if t.Network == "unix" {
		u = url.URL{Scheme: "nbd+unix", Path: u.Path, RawQuery: "socket=" + url.QueryEscape(t.Address)}
	}
	return u.String()
}

// Dial connects to the server. What it returns is a plain socket, as the kernel needs it.
func (t Target) Dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval,
		Count: int((silenceMax - keepAliveIdle) / keepAliveInterval)}, ControlContext: limitSilence}
	nc, err := d.DialContext(ctx, t.Network, t.Address)
	if err != nil {
		return nil, &blocktree.Error{Op: "connect", Path: t.String(), Kind: blocktree.Unavailable, Err: err,
			Hint: "start `btnbd serve`, or correct the address; a unix socket must be allowed to be opened"}
	}
	return nc, nil
}
