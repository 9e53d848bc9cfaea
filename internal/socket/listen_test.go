package socket

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"blocktree"
)

// TestMode makes sockets under an umask that takes everything from the group and others.
func TestMode(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	for _, mode := range []fs.FileMode{0o600, 0o660, 0o666} {
		path := filepath.Join(t.TempDir(), "s")
		l, err := Listen("unix", path, mode)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%v, want %v (%v)", info.Mode().Perm(), mode, err)
		}
		l.Close()
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Error("the socket file is left behind")
		}
	}
}

func TestStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix", path, 0o600); kind(err) != blocktree.Busy {
		t.Errorf("somebody listens there: %v", err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	l, err := Listen("unix", path, 0o600)
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix", path, 0o600); kind(err) != blocktree.Busy {
		t.Errorf("over a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is lost: %v", err)
	}
	if _, err := Listen("unix", filepath.Join(t.TempDir(), "no", "such"), 0o600); kind(err) != blocktree.NotFound {
		t.Errorf("no such directory: %v", err)
	}
}

func kind(err error) blocktree.Kind {
	if err == nil {
		return blocktree.Other
	}
	k, _ := Why(err)
	return k
}
