package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// command runs btnode in this process.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.RunContext(context.Background(), newRoot(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func generate(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "p")
	if code, _, stderr := command(t, "playground", "--dir", dir, "--generate"); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	return dir
}

// TestPortInUse: another program has the port, for TCP or for UDP alone.
func TestPortInUse(t *testing.T) {
	dir := generate(t)
	file := filepath.Join(dir, "node1", "btnode.yaml")
	cfg, err := config.LoadNode(config.Source{File: file})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(network string) {
		t.Helper()
		code, _, stderr := command(t, "run", "--config", file)
		if code != cli.ExitFailure || !strings.Contains(stderr, "btnode: error: ") || !strings.Contains(stderr, "busy") ||
			!strings.Contains(stderr, "btnode: hint: stop the process") {
			t.Errorf("%s port in use: exit %d: %s", network, code, stderr)
		}
		if _, err := os.Stat(filepath.Join(dir, "node1", "store")); err == nil {
			t.Errorf("%s port in use: a store was begun", network)
		}
	}
	tcp, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	refused("tcp")
	tcp.Close()
	udp, err := net.ListenPacket("udp", cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	refused("udp")
	udp.Close()
}
