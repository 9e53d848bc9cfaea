package blockdev

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// growing is a file whose size is told beside it.
type growing struct {
	*memfile.File
	bytes atomic.Uint64
}

func (g *growing) SizeBytes() uint64 { return g.bytes.Load() }

// TestSizeChanges: a device has the size that its file has, from one request to the next, and so has its export.
func TestSizeChanges(t *testing.T) {
	g := &growing{File: memfile.New(sized(64<<10, 4096))}
	g.bytes.Store(16 << 10)
	d, err := Open(g, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	e := Export{Name: "/vm/disk0", Device: d}
	buf := make([]byte, 4096)
	for _, size := range []uint64{16 << 10, 32 << 10, 64 << 10, 8 << 10, 64 << 10} {
		g.bytes.Store(size)
		if d.Size() != size || e.Size() != size || d.Info().SizeBytes != size {
			t.Errorf("the device has %d bytes, its export %d, of %d", d.Size(), e.Size(), size)
		}
		for off, want := range map[uint64]blocktree.Kind{size - 4096: blocktree.Other, size - 4095: blocktree.OutOfRange, size: blocktree.OutOfRange} {
			if err := d.ReadAt(t.Context(), buf, off); blocktree.KindOf(err) != want {
				t.Errorf("a read at %d of %d: %v", off, size, err)
			}
			if err := d.WriteAt(t.Context(), buf, off, false); blocktree.KindOf(err) != want {
				t.Errorf("a write at %d of %d: %v", off, size, err)
			}
			if err := d.Zero(t.Context(), off, 4096, false); blocktree.KindOf(err) != want {
				t.Errorf("zeroes at %d of %d: %v", off, size, err)
			}
		}
	}
}

// TestReadAheadGrows: a stream that meets the end of its device is read ahead for again in what the device has grown by, and never behind its end.
func TestReadAheadGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newAheadBed(t, 16<<20, 4<<20, memfile.Options{})
		defer b.close()
		const was, is = 1000, bedSectors - 1000 // no whole number of pieces
		g := &growing{File: b.file}
		g.bytes.Store(was * 4096)
		b.dev.sizer, b.dev.info.SizeBytes = g, was*4096
		behind := func(end uint64) {
			t.Helper()
			for _, c := range b.asked() {
				if uint64(c.First)+c.Count > end {
					t.Fatalf("%d sectors from %d were asked for, of %d", c.Count, c.First, end)
				}
			}
		}
		b.hook = func(context.Context, memfile.Call) error { time.Sleep(time.Millisecond); return nil }
		for at := uint64(0); at < was; at++ {
			b.read(at, 1)
		}
		synctest.Wait()
		behind(was)
		before := b.cache.Stats().AheadHits
		g.bytes.Store(is * 4096)
		for at := uint64(was); at < is; at++ {
			b.read(at, 1)
		}
		synctest.Wait()
		behind(is)
		if hits := b.cache.Stats().AheadHits - before; hits < (is-was)*9/10 {
			t.Errorf("of %d sectors that are new %d were read ahead", is-was, hits)
		}
	})
}
