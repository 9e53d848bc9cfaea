package nbd

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blocktree"
)

func TestParseListen(t *testing.T) {
	for _, x := range []struct {
		listen, network, address string
		kind                     blocktree.Kind
	}{
		{"unix:/run/btnbd.sock", "unix", "/run/btnbd.sock", 0},
		{"unix:rel:ative", "unix", "rel:ative", 0},
		{"tcp:127.0.0.1:10809", "tcp", "127.0.0.1:10809", 0},
		{"tcp:[::1]:10809", "tcp", "[::1]:10809", 0},
		{"tcp::10809", "tcp", ":10809", 0},
		{"", "", "", blocktree.Invalid},
		{"unix:", "", "", blocktree.Invalid},
		{"unix:@abstract", "", "", blocktree.Invalid},
		{"unix:/a\x00b", "", "", blocktree.Invalid},
		{"unix:/" + strings.Repeat("x", 107), "", "", blocktree.TooLarge},
		{"tcp:127.0.0.1", "", "", blocktree.Invalid},
		{"tcp:127.0.0.1:", "", "", blocktree.Invalid},
		{"udp:127.0.0.1:1", "", "", blocktree.Invalid},
		{"/run/btnbd.sock", "", "", blocktree.Invalid},
	} {
		network, address, err := ParseListen(x.listen)
		if network != x.network || address != x.address || blocktree.KindOf(err) != x.kind {
			t.Errorf("%.30q: %q, %q, %v", x.listen, network, address, err)
		}
		if err != nil && blocktree.HintOf(err) == "" {
			t.Errorf("%q: no hint", x.listen)
		}
	}
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, mode := range []fs.FileMode{0o600, 0o666, 0o660} {
		l, err := Listen("unix:"+path, mode)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%v, %v, want %v", info.Mode(), err, mode)
		}
		if _, err := Listen("unix:"+path, mode); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			t.Errorf("twice: %v", err)
		}
		l.Close()
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Error("the socket file is left behind")
		}
	}
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	l, err := Listen("unix:"+path, SocketMode)
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:"+path, SocketMode); blocktree.KindOf(err) != blocktree.Busy {
		t.Errorf("over a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is lost: %v", err)
	}
	if _, err := Listen("unix:"+path+"/no/such", SocketMode); err == nil {
		t.Error("no such directory")
	}
}

func TestListenTCP(t *testing.T) {
	l, err := Listen("tcp:127.0.0.1:0", SocketMode)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen("tcp:"+l.Addr().String(), SocketMode); blocktree.KindOf(err) != blocktree.Busy {
		t.Errorf("got %v", err)
	}
}

func TestActivatedByNobody(t *testing.T) {
	t.Setenv("LISTEN_PID", "1") // somebody else
	t.Setenv("LISTEN_FDS", "1")
	if all, err := Activated(); err != nil || len(all) != 0 {
		t.Fatalf("%v, %v", all, err)
	}
	if _, set := os.LookupEnv("LISTEN_FDS"); set {
		t.Fatal("a child would take it for its own")
	}
}

func TestURI(t *testing.T) {
	for _, x := range []struct{ listen, name, want string }{
		{"unix:/run/btnbd.sock", "/vm/disk0", "nbd+unix:///vm/disk0?socket=/run/btnbd.sock"},
		{"unix:/run/btnbd.sock", "", "nbd+unix:///?socket=/run/btnbd.sock"},
		{"unix:/a b/c&d=e+f%", "/vm/disk 0?#", "nbd+unix:///vm/disk%200%3F%23?socket=/a%20b/c%26d%3De%2Bf%25"},
		{"tcp:127.0.0.1:10809", "vm/disk0", "nbd://127.0.0.1:10809/vm/disk0"},
		{"tcp:[::1]:10809", "/vm/disk0", "nbd://[::1]:10809/vm/disk0"},
		{"tcp::10809", "/vm/disk0", "nbd://127.0.0.1:10809/vm/disk0"},
		{"tcp:0.0.0.0:10809", "/vm/disk0", "nbd://127.0.0.1:10809/vm/disk0"},
		{"tcp:[::]:10809", "/vm/disk0", "nbd://[::1]:10809/vm/disk0"},
		{"tls+unix:/run/btnbd.sock", "/vm/disk0", "nbds+unix:///vm/disk0?socket=/run/btnbd.sock"},
		{"tls+tcp:0.0.0.0:10809", "/vm/disk0", "nbds://127.0.0.1:10809/vm/disk0"},
		{"tcp:storage.example:10809", "/vm/disk0", "nbd://storage.example:10809/vm/disk0"},
	} {
		if got, err := URI(x.listen, x.name); err != nil || got != x.want {
			t.Errorf("%s %s: %s, %v", x.listen, x.name, got, err)
		}
	}
	if got, err := URI("unix:s", "a"); err != nil || !strings.HasPrefix(got, "nbd+unix:///a?socket=/") {
		t.Errorf("a relative socket: %s, %v", got, err)
	}
	if _, err := URI("carrier:pigeon", "a"); blocktree.KindOf(err) != blocktree.Invalid {
		t.Error(err)
	}
}
