package blockdev

import (
	"sync/atomic"
	"testing"

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
