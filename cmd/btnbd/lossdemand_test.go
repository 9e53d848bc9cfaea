package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
	"blocktree/cluster/stripe"
	"blocktree/internal/config"
	"blocktree/internal/vfs"
)

// lossBed is one server after the other on a state directory, and a file that may lose writes.
type lossBed struct {
	t      *testing.T
	disk   *vfs.Crash
	loss   uint64
	lost   atomic.Bool // the file says so
	accept bool
	s      *server
}

func newLossBed(t *testing.T) *lossBed {
	b := &lossBed{t: t, disk: vfs.NewCrash()}
	b.start()
	return b
}

// start begins a server.
func (b *lossBed) start() {
	b.s = serverOf(0)
	b.s.losses = &losses{fs: b.disk, dir: "/state", boot: "a", clientsHere: true, log: slog.New(slog.DiscardHandler),
		accept: func(blocktree.Path) bool { return b.accept }}
}

// kill ends it in one way, stop in the other, and begins the next.
func (b *lossBed) kill() {
	b.disk = b.disk.Kill()
	b.start()
}

func (b *lossBed) stop() {
	b.t.Helper()
	if err := b.s.losses.close(); err != nil {
		b.t.Fatal(err)
	}
	b.start()
}

// open opens a device as the server does for an export, refused or not.
func (b *lossBed) open(readOnly, refused bool) *blockdev.Device {
	b.t.Helper()
	f := &flushFile{File: memfile.New(memfile.Options{Info: blocktree.FileInfo{Path: exportPath, SizeBytes: 1 << 20, ReadOnly: readOnly},
		Hook: func(context.Context, memfile.Call) error {
			if b.lost.Load() {
				return blocktree.E("test", blocktree.Lost, nil)
			}
			return nil
		}}), durability: stripe.DurabilityFlush, loss: b.loss}
	e := &config.Export{Path: "/vm/disk0", ReadOnly: readOnly}
	d, err := b.s.openDevice(b.t.Context(), e, func(context.Context, *config.Export) (blocktree.File, error) { return f, nil }, blockdev.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	err = d.ReadAt(b.t.Context(), make([]byte, 512), 0)
	if (blocktree.KindOf(err) == blocktree.Lost) != refused || !refused && err != nil {
		b.t.Errorf("loss number %d, read-only %v: %v, refused should be %v", b.loss, readOnly, err, refused)
	}
	return d
}

func (b *lossBed) close(devices ...*blockdev.Device) {
	b.t.Helper()
	for _, d := range devices {
		if err := d.Close(); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestLossRecordOfTwoDevices: on demand one path may be open twice, for writing and for reading only. Neither takes away the record that the other needs.
func TestLossRecordOfTwoDevices(t *testing.T) {
	for _, readerFirst := range []bool{false, true} {
		b := newLossBed(t)
		writer, reader := b.open(false, false), b.open(true, false)
		staying := writer
		if readerFirst {
			b.close(reader)
		} else {
			b.close(writer)
			staying = reader
		}
		b.kill()
		b.loss = 1
		b.close(b.open(staying.ReadOnly(), true))
	}
}

// TestLossRecordOfReader: a client that only reads may have read what was not flushed, by whoever writes the file. That nothing was in flight when
// its device was closed says nothing about it.
func TestLossRecordOfReader(t *testing.T) {
	b := newLossBed(t)
	b.close(b.open(true, false))
	b.stop()
	b.loss = 1
	b.close(b.open(true, true))
	b.close(b.open(false, true))
	b.stop()
	b.accept = true
	b.close(b.open(true, false))
	b.stop()
	b.accept = false
	writer := b.open(false, false) // who took the file over, and flushed, knows that what anybody has read is there
	b.close(writer)
	b.stop()
	b.loss = 2
	b.close(b.open(true, false))
}

// TestAcceptedOncePerServer: on demand a file is opened many times by one server. --accept-loss is about what was lost before that server, not
// about what it lives to see.
func TestAcceptedOncePerServer(t *testing.T) {
	b := newLossBed(t)
	b.open(false, false)
	b.kill()
	b.accept, b.loss = true, 1
	for range 2 {
		b.close(b.open(false, false))
	}
	d := b.open(false, false)
	b.lost.Store(true)
	if err := d.ReadAt(t.Context(), make([]byte, 512), 0); blocktree.KindOf(err) != blocktree.Lost {
		t.Fatal(err)
	}
	if err := d.Close(); blocktree.KindOf(err) != blocktree.Lost {
		t.Fatal(err)
	}
	b.lost.Store(false)
	b.loss = 2
	b.close(b.open(false, true))
	b.close(b.open(false, true))
	b.stop()
	b.close(b.open(false, false))
}

// TestAcceptanceOnDemand: what may be opened on demand may be accepted, too, or it would be refused for ever.
func TestAcceptanceOnDemand(t *testing.T) {
	cfg := serverOf(1).cfg
	cfg.Domain.Root.Principal = blocktree.PrincipalOf([]byte("root"))
	cfg.OnDemand.Below = "/images"
	for _, x := range []struct {
		value string
		want  string // of /vm/disk0, /images/a, /images itself and /vm/disk1
	}{
		{acceptAll, "xx.."}, {"/images/a", ".x.."}, {"/vm/disk0", "x..."}, {"/images", "error"}, {"/vm/disk1", "error"},
	} {
		got := ""
		accept, err := acceptance(cfg, acceptLossFlag, []string{x.value})
		if err != nil {
			got = "error"
		}
		for _, path := range []string{"/vm/disk0", "/images/a", "/images", "/vm/disk1"} {
			p, _ := cfg.Resolve(path)
			if err == nil && accept(p) {
				got += "x"
			} else if err == nil {
				got += "."
			}
		}
		if got != x.want {
			t.Errorf("%s: %s, not %s", x.value, got, x.want)
		}
	}
}

// TestLossRecordOnDemand: an export on demand has its record while it is open, loses it when it has lingered and is closed, and is refused after a loss, however
// often it is opened again.
func TestLossRecordOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLossBed(t)
		refused := false
		d := blockdev.NewDemand(blockdev.DemandOptions{OpenMax: 4, Linger: time.Second, Patience: time.Minute,
			Open: func(_ context.Context, _ string, readOnly bool) (*blockdev.Device, error) {
				return b.open(readOnly, refused), nil
			}})
		use := func(do func(d *blockdev.Device)) {
			t.Helper()
			e, release, err := d.Open(t.Context(), "/vm/disk0", false)
			if err != nil {
				t.Fatal(err)
			}
			do(e.Device)
			release()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if n := len(d.List()); n != 0 {
				t.Fatalf("%d exports have not been closed", n)
			}
		}
		records := func(want int) {
			t.Helper()
			names, err := b.disk.List("/state")
			if err != nil || len(names) != want {
				t.Errorf("%v, %v; %d records wanted", names, err, want)
			}
		}
		write := func(d *blockdev.Device) {
			if err := d.WriteAt(t.Context(), make([]byte, 512), 0, false); err != nil {
				t.Error(err)
			}
			records(1)
		}
		use(write)
		records(0)
		use(func(d *blockdev.Device) {
			write(d)
			b.lost.Store(true)
			if err := d.Flush(t.Context()); blocktree.KindOf(err) != blocktree.Lost {
				t.Error(err)
			}
		})
		records(1)
		b.lost.Store(false)
		b.loss, refused = 1, true
		for range 2 {
			use(func(*blockdev.Device) {})
			records(1)
		}
		b.s.losses.mu.Lock()
		if n := len(b.s.losses.kept); n != 0 {
			t.Errorf("%d paths are still kept", n)
		}
		b.s.losses.mu.Unlock()
		if err := d.Close(); blocktree.KindOf(err) != blocktree.Lost {
			t.Error(err)
		}
	})
}
