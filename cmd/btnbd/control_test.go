package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
	"blocktree/blockdev/nbd"
	"blocktree/internal/config"
)

// leased is a file in memory with a lease that has a term.
type leased struct{ *memfile.File }

func (leased) LeaseTerm() (blocktree.Epoch, time.Duration, bool) { return 7, 3 * time.Second, true }

// controlled is a server of one export with a control socket.
type controlled struct {
	t      *testing.T
	c      *config.NBD
	device *blockdev.Device
	s      *nbd.Server
	served chan error
	k      *control
}

func newControlled(t *testing.T) *controlled {
	t.Helper()
	device, err := blockdev.Open(leased{memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}})}, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	exports := new(blockdev.Exports)
	if err := exports.Add(blockdev.Export{Name: "/vm/disk0", Description: "first", Device: device}); err != nil {
		t.Fatal(err)
	}
	x := &controlled{t: t, device: device, s: nbd.NewServer(nbd.Config{Exports: exports}), served: make(chan error, 1),
		c: &config.NBD{Listen: config.Addresses{"unix:" + filepath.Join(t.TempDir(), "s")}, Exports: []config.Export{{Path: "/vm/disk0"}}}}
	l, err := nbd.Listen(x.c.Listen[0], nbd.SocketMode)
	if err != nil {
		t.Fatal(err)
	}
	go func() { x.served <- x.s.Serve(context.Background(), l) }()
	if x.k, err = startControl(x.c, func() report { return makeReport(x.c, x.s.Uses()) }, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return x
}

// stop ends the server.
func (x *controlled) stop() {
	x.t.Helper()
	if err := x.s.Close(context.Background()); err != nil {
		x.t.Error(err)
	}
	if err := <-x.served; err != nil {
		x.t.Error(err)
	}
	if err := x.device.Close(); err != nil {
		x.t.Error(err)
	}
}

// TestControl: the socket tells who uses what, to as many as ask, and takes nothing; then the rates are between two reports.
func TestControl(t *testing.T) {
	x := newControlled(t)
	defer x.stop()
	socket := x.c.ControlSocket()
	explicit := *x.c
	explicit.Control = socket
	if _, err := startControl(&explicit, nil, slog.New(slog.DiscardHandler)); blocktree.KindOf(err) != blocktree.Busy {
		t.Errorf("a second one: %v", err)
	}
	nc, err := net.Dial("unix", strings.TrimPrefix(x.c.Listen[0], "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	script := "\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x08vm/disk0"
	read := "\x25\x60\x95\x13\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00"
	if _, err := nc.Write([]byte(script + read)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, 18+10+16+4096)); err != nil {
		t.Fatal(err)
	}
	for range 2 * controlsMax {
		mute, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(mute, "remove everything\n")
		defer mute.Close()
	}
	first, err := ask(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Exports) != 1 || first.Exports[0].Connections != 1 || first.Exports[0].Lease.Epoch != 7 || first.Exports[0].Lease.LeftSeconds != 3 ||
		first.Exports[0].Reads != 1 || first.Exports[0].ReadBytes != 4096 || first.Exports[0].Clients[0].Reads != 1 || first.Exports[0].OnDemand ||
		!strings.HasPrefix(first.Exports[0].Clients[0].Address, "pid ") {
		t.Errorf("%+v", first)
	}
	if _, err := nc.Write([]byte(read + read)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, 2*(16+4096))); err != nil {
		t.Fatal(err)
	}
	second, err := ask(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	second.addRates(first, 2*time.Second)
	if e := second.Exports[0]; e.ReadsPerSecond != 1 || e.ReadBytesPerSecond != 4096 || e.Clients[0].ReadsPerSecond != 1 || e.WritesPerSecond != 0 {
		t.Errorf("%+v", e)
	}
	var out bytes.Buffer
	if err := printReport(&out, second); err != nil || !strings.Contains(out.String(), "/vm/disk0  1MiB  write   epoch 7, 3.0 s  1            1/s 0.0 MiB/s") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if text, err := json.Marshal(second); err != nil || !strings.Contains(string(text), `"readsPerSecond":1`) {
		t.Errorf("%v: %s", err, text)
	}
	x.k.close()
	if _, err := ask(t.Context(), socket); blocktree.KindOf(err) != blocktree.NotFound || blocktree.HintOf(err) == "" {
		t.Errorf("without a server: %v", err)
	}
	nc.Close()
}

// TestRatesOfNewcomers: who was not there before, or was counted anew, began with nothing.
func TestRatesOfNewcomers(t *testing.T) {
	before := &report{Exports: []exportReport{{Path: "/a", trafficReport: trafficReport{Reads: 100}}}}
	r := &report{Exports: []exportReport{{Path: "/a", trafficReport: trafficReport{Reads: 10}}, {Path: "/b", trafficReport: trafficReport{Writes: 4}}}}
	r.addRates(before, 2*time.Second)
	if r.Exports[0].ReadsPerSecond != 5 || r.Exports[1].WritesPerSecond != 2 {
		t.Errorf("%+v %+v", r.Exports[0].rates, r.Exports[1].rates)
	}
}

// TestNoControlSocket: one that nobody asked for is missed in the log only.
func TestNoControlSocket(t *testing.T) {
	var out lines
	log := slog.New(slog.NewTextHandler(&out, nil))
	c := &config.NBD{Listen: config.Addresses{"unix:" + filepath.Join(t.TempDir(), "no", "such", "s")}}
	k, err := startControl(c, nil, log)
	if err != nil || !strings.Contains(out.String(), "no control socket") {
		t.Fatalf("%v: %s", err, out.String())
	}
	k.close()
	c.Control = c.ControlSocket()
	if _, err := startControl(c, nil, log); blocktree.KindOf(err) != blocktree.NotFound {
		t.Errorf("one that was asked for: %v", err)
	}
}

// stumbling is a listener that fails in passing first, then has a client, then is closed.
type stumbling struct {
	errs    int
	clients chan net.Conn
}

func (l *stumbling) Accept() (net.Conn, error) {
	if l.errs > 0 {
		l.errs--
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", unix.EMFILE)}
	}
	if nc, ok := <-l.clients; ok {
		return nc, nil
	}
	return nil, net.ErrClosed
}

func (l *stumbling) Close() error { close(l.clients); return nil }

func (*stumbling) Addr() net.Addr { return &net.UnixAddr{Name: "s", Net: "unix"} }

// TestControlOutlivesAShortage: too few descriptors for a moment do not end the control socket.
func TestControlOutlivesAShortage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &stumbling{errs: 3, clients: make(chan net.Conn)}
		k := &control{report: func() report { return report{Version: reportVersion} }, log: slog.New(slog.DiscardHandler), l: l}
		k.ctx, k.cancel = context.WithCancel(t.Context())
		k.wg.Go(k.accept)
		near, far := net.Pipe()
		defer near.Close()
		select {
		case l.clients <- far:
		case <-time.After(time.Minute):
			t.Fatal("nobody accepts any more")
		}
		if text, err := io.ReadAll(near); err != nil || !strings.Contains(string(text), `"version":1`) {
			t.Errorf("%q, %v", text, err)
		}
		k.close()
	})
}
