package blockdev

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// commands are all that a client can ask of a device, at a place that is cached and at one that is not.
func commands(d *Device) map[string]func() error {
	ctx, p := context.Background(), make([]byte, 4096)
	return map[string]func() error{
		"read":             func() error { return d.ReadAt(ctx, p, 0) },
		"read elsewhere":   func() error { return d.ReadAt(ctx, p, 1<<19) },
		"write":            func() error { return d.WriteAt(ctx, p, 0, false) },
		"unaligned write":  func() error { return d.WriteAt(ctx, p[:100], 50, false) },
		"write with FUA":   func() error { return d.WriteAt(ctx, p, 0, true) },
		"zero":             func() error { return d.Zero(ctx, 0, 8192, false) },
		"trim":             func() error { return d.Trim(ctx, 0, 8192, false) },
		"flush":            func() error { return d.Flush(ctx) },
		"flush of nothing": func() error { return d.WriteAt(ctx, nil, 0, true) },
		"read of nothing":  func() error { return d.ReadAt(ctx, nil, 0) },
		"extents":          func() error { _, err := d.Extents(ctx, 0, 8192, 2); return err },
		"fill the cache":   func() error { return d.Cache(ctx, p, 0, 4096) },
		"cached read": func() error {
			if d.TryReadAt(p, 0) {
				return nil
			}
			return d.ReadAt(ctx, p, 0)
		},
		"started read": func() error {
			if d.StartRead(p, 0, nil) {
				return nil
			}
			return d.ReadAt(ctx, p, 0)
		},
		"started write": func() error {
			if d.StartWrite(p, 0, nil) {
				return nil
			}
			return d.WriteAt(ctx, p, 0, false)
		},
	}
}

// TestLossIsTheEnd (0014, F10): once the file has said Lost, to whatever command, each fails with it, also where the file would answer, or the cache.
func TestLossIsTheEnd(t *testing.T) {
	lost := &blocktree.Error{Op: "test", Kind: blocktree.Lost}
	for _, op := range []memfile.Op{memfile.Read, memfile.Write, memfile.Zero, memfile.Flush} {
		var once atomic.Bool
		var told atomic.Int64
		f := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}, Starts: true, Hook: func(_ context.Context, c memfile.Call) error {
			if c.Op == op && once.CompareAndSwap(true, false) {
				return lost
			}
			return nil
		}})
		cache, err := NewCache(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		var closed error
		d, err := Open(f, Options{Cache: cache, Lost: func(error) { told.Add(1) }, Closed: func(err error) { closed = err }})
		if err != nil {
			t.Fatal(err)
		}
		p := bytes.Repeat([]byte{7}, 4096)
		if err := d.WriteAt(t.Context(), p, 0, false); err != nil {
			t.Fatal(err)
		}
		until(t, "the first sector is cached", func() bool { return d.ReadAt(t.Context(), p, 0) == nil && d.TryReadAt(p, 0) })
		once.Store(true)
		switch op {
		case memfile.Read:
			err = d.ReadAt(t.Context(), p, 1<<18)
		case memfile.Write:
			err = d.WriteAt(t.Context(), p, 4096, false)
		case memfile.Zero:
			err = d.Zero(t.Context(), 4096, 4096, false)
		case memfile.Flush:
			err = d.WriteAt(t.Context(), p, 4096, true)
		}
		if blocktree.KindOf(err) != blocktree.Lost || once.Load() {
			t.Fatalf("op %v: %v", op, err)
		}
		for name, do := range commands(d) {
			if err := do(); blocktree.KindOf(err) != blocktree.Lost {
				t.Errorf("%s after a loss that op %v told: %v", name, op, err)
			}
		}
		if err := d.Close(); blocktree.KindOf(err) != blocktree.Lost || !errors.Is(closed, err) {
			t.Errorf("close: %v, told %v", err, closed)
		}
		if told.Load() != 1 {
			t.Errorf("the loss was told %d times", told.Load())
		}
		cache.Close()
	}
}

// TestRefused: a device that is refused answers every command with the reason, and asks the file nothing; it closes like any other.
func TestRefused(t *testing.T) {
	why := &blocktree.Error{Op: "test", Kind: blocktree.Lost}
	f := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}, Starts: true})
	closed := errors.New("never told")
	d, err := Open(f, Options{Refuse: why, Closed: func(err error) { closed = err }})
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range commands(d) {
		if err := do(); !errors.Is(err, why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := f.Calls(memfile.Read) + f.Calls(memfile.Write) + f.Calls(memfile.Zero) + f.Calls(memfile.Flush); n != 0 {
		t.Errorf("the file was asked %d times", n)
	}
	if err := d.Close(); err != nil || closed != nil {
		t.Errorf("close: %v, told %v", err, closed)
	}
}
