package blockdev

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// TestExtents compares what a device says of any range with a flat slice: extents follow one another, end within the range, are as
// many as were wanted, and zero only where there are zeros; a whole sector of zeros is never missed.
func TestExtents(t *testing.T) {
	const sector, sectors = 512, 700
	dev, _ := openMem(t, sized(sector*sectors, sector), Options{})
	model := make([]byte, sector*sectors)
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		from := r.IntN(len(model))
		to := from + 1 + r.IntN(min(len(model)-from, 9000))
		for i := from; i < to; i++ {
			model[i] = 1
		}
		if err := dev.WriteAt(t.Context(), model[from:to], uint64(from), false); err != nil {
			t.Fatal(err)
		}
		if from = r.IntN(len(model)); r.IntN(2) == 0 {
			to = from + r.IntN(len(model)-from)
			clear(model[from:to])
			if err := dev.Zero(t.Context(), uint64(from), uint64(to-from), false); err != nil {
				t.Fatal(err)
			}
		}
		from = r.IntN(len(model))
		length, most := 1+r.IntN(len(model)-from), 1+r.IntN(40)
		got, err := dev.Extents(t.Context(), uint64(from), uint64(length), most)
		if err != nil || len(got) == 0 || len(got) > most {
			t.Fatalf("%d extents, %v", len(got), err)
		}
		at := from
		for i, x := range got {
			end := at + int(x.Bytes)
			if x.Bytes == 0 || end > from+length || i > 0 && x.Zero == got[i-1].Zero {
				t.Fatalf("extent %d of %v", i, got)
			}
			for ; at < end; at = min(end, at/sector*sector+sector) {
				whole := model[at/sector*sector : at/sector*sector+sector]
				if x.Zero != !slices.Contains(whole, 1) {
					t.Fatalf("byte %d is said to be zero: %v", at, x.Zero)
				}
			}
		}
		if at < from+length && len(got) < most {
			t.Fatalf("%d bytes of %d are told of in %d extents of at most %d", at-from, length, len(got), most)
		}
	}
}

// mute is a file that cannot tell where its holes are.
type mute struct{ blocktree.File }

func TestExtentsOfFiles(t *testing.T) {
	f := memfile.New(sized(1<<20, 4096))
	dev, err := Open(mute{f}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := dev.Extents(t.Context(), 5, 70000, 1)
	if err != nil || !slices.Equal(got, []Extent{{Bytes: 70000}}) {
		t.Fatalf("%v, %v", got, err)
	}
	for _, x := range []struct {
		off, length uint64
		most        int
		kind        blocktree.Kind
	}{{0, 0, 1, blocktree.Invalid}, {0, 1, 0, blocktree.Invalid}, {1, 1 << 20, 1, blocktree.OutOfRange}, {1 << 63, 1, 1, blocktree.OutOfRange}} {
		if _, err := dev.Extents(t.Context(), x.off, x.length, x.most); blocktree.KindOf(err) != x.kind {
			t.Errorf("%+v: %v", x, err)
		}
	}
	dev.Close()
	if _, err := dev.Extents(t.Context(), 0, 1, 1); blocktree.KindOf(err) != blocktree.Closed {
		t.Error(err)
	}
	failing, _ := openMem(t, memfile.Options{Info: f.Info(), Hook: func(context.Context, memfile.Call) error {
		return blocktree.E("test", blocktree.Unavailable, nil)
	}}, Options{})
	if _, err := failing.Extents(t.Context(), 0, 1, 1); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Error(err)
	}
}

// TestCacheFill: what Cache read is served without the file, as far as the cache keeps it.
func TestCacheFill(t *testing.T) {
	b := newCacheBed(t, memfile.Options{})
	data := bytes.Repeat([]byte{7}, 1<<20)
	if err := b.dev.WriteAt(t.Context(), data, 0, false); err != nil {
		t.Fatal(err)
	}
	fill := func(off, length uint64) error {
		return b.dev.Cache(t.Context(), make([]byte, b.dev.CacheScratchBytes(off, length)), off, length)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		if err := fill(4097, 300_000); err != nil {
			t.Fatal(err)
		}
		b.cache.entries.Wait()
		if p := make([]byte, 8192); b.dev.TryReadAt(p, 4096) && b.dev.TryReadAt(p, 4097+300_000-8192) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is never there")
		}
	}
	if err := fill(1<<20, 1); blocktree.KindOf(err) != blocktree.OutOfRange {
		t.Error(err)
	}
}

// TestCacheFillIsBounded: by a quarter of the cache, by the lease, by there being a cache at all; and a failure is told.
func TestCacheFillIsBounded(t *testing.T) {
	valid, calls := true, int64(0)
	o := memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 40}, Lease: func() (blocktree.Epoch, bool) { return 1, valid }}
	b := newCacheBed(t, o) // 8 MiB
	reads := func(what string, d *Device, length uint64) int64 {
		t.Helper()
		n := d.CacheScratchBytes(0, length)
		if n > cacheReadSectorsMax*4096 {
			t.Fatalf("%s: %d bytes of scratch", what, n)
		}
		before := b.file.Calls(memfile.Read)
		if err := d.Cache(t.Context(), make([]byte, n), 0, length); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		calls = b.file.Calls(memfile.Read) - before
		return calls
	}
	if n := reads("all", b.dev, 1<<40); n == 0 || n > 2<<20/(cacheReadSectorsMax*4096) {
		t.Errorf("%d reads to fill a quarter of 8 MiB", n)
	}
	valid = false
	if n := reads("no lease", b.dev, 1<<20); n != 0 {
		t.Errorf("%d reads without a lease", n)
	}
	none, err := Open(b.file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := reads("no cache", none, 1<<40); n != 0 {
		t.Errorf("%d reads without a cache", n)
	}
	failing := newCacheBed(t, memfile.Options{Hook: func(context.Context, memfile.Call) error { return blocktree.E("test", blocktree.Corrupt, nil) }})
	if err := failing.dev.Cache(t.Context(), make([]byte, 4096), 0, 1); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Error(err)
	}
}
