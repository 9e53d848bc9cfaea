package nbdclient

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
	"blocktree/blockdev/nbd"
)

// serve runs the production server over a memory file; stop ends it.
func serve(t *testing.T) (socket string, stop func()) {
	t.Helper()
	file := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}})
	dev, err := blockdev.Open(file, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	exports := new(blockdev.Exports)
	if err := exports.Add(blockdev.Export{Name: "/a", Device: dev}); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "s")
	l, err := nbd.Listen("unix:"+socket, nbd.SocketMode)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = nbd.NewServer(nbd.Config{Exports: exports}).Serve(ctx, l) // how it ends is not the matter here
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended; dev.Close() })
	t.Cleanup(stop)
	return socket, stop
}

func TestOperations(t *testing.T) {
	socket, _ := serve(t)
	ctx := t.Context()
	if _, err := Dial(ctx, socket, "/b"); err == nil {
		t.Fatal("an export that is not there was found")
	}
	c, err := Dial(ctx, socket, "/a")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Size() != 1<<20 || c.Flags()&1 == 0 {
		t.Errorf("%d bytes, flags %#x", c.Size(), c.Flags())
	}
	var all sync.WaitGroup
	for i := range 50 { // many in flight
		all.Go(func() {
			p := bytes.Repeat([]byte{byte(i + 1)}, 5000)
			at := uint64(i * 5000)
			got := make([]byte, len(p))
			if err := errors.Join(c.Write(ctx, p, at, FUA), c.Read(ctx, got, at)); err != nil || !bytes.Equal(got, p) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	all.Wait()
	got := make([]byte, 8192)
	err = errors.Join(c.Zeroes(ctx, 0, 4096, NoHole), c.Trim(ctx, 4096, 4096, 0), c.Flush(ctx), c.Read(ctx, got, 0))
	if err != nil || !bytes.Equal(got, make([]byte, 8192)) {
		t.Errorf("%v, %x…", err, got[:8])
	}
	var errno Errno
	if err := c.Read(ctx, got, 1<<20); !errors.As(err, &errno) || syscall.Errno(errno) != syscall.EINVAL {
		t.Errorf("beyond the end: %v", err)
	}
}

// What was not answered is ErrLost, never an answer: when the server goes, and when the caller has no time left.
func TestLost(t *testing.T) {
	socket, stop := serve(t)
	c, err := Dial(t.Context(), socket, "/a")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	late, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if err := c.Flush(late); err != nil && !errors.Is(err, ErrLost) {
		t.Errorf("no time left: %v", err)
	}
	c.Close()
	if err := c.Flush(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("closed: %v", err)
	}
	d, err := Dial(t.Context(), socket, "/a")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	stop()
	var errno Errno
	if err := d.Flush(t.Context()); !errors.Is(err, ErrLost) && !errors.As(err, &errno) {
		t.Errorf("the server is gone: %v", err)
	}
}
