package nbd

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

// shrinkable is a file in memory with an end that moves.
type shrinkable struct {
	*memfile.File
	bytes atomic.Uint64
	ask   func(ctx context.Context, bytes uint64) error
}

func (s *shrinkable) SizeBytes() uint64 { return s.bytes.Load() }

func (s *shrinkable) FollowShrink(do func(ctx context.Context, bytes uint64) error) func() {
	s.ask = do
	return func() {}
}

func (s *shrinkable) Shrink(ctx context.Context, bytes uint64) error {
	was := s.bytes.Swap(bytes)
	return s.ZeroSectors(ctx, blocktree.SectorIndex(bytes/4096), (was-bytes)/4096)
}

// TestShrinksUnderItsClients: a device that gets smaller refuses what is behind its end as it ever did, on connections that are there, in every style; block status ends with it, new negotiations have its size, and what it grows by is a hole.
func TestShrinksUnderItsClients(t *testing.T) {
	const small, large = 256 << 10, 1 << 20
	for _, style := range []style{compact, structured, extended} {
		var file *shrinkable
		b := newBed(t, setup{cacheBytes: 1 << 20, over: func(f *memfile.File) blocktree.File {
			file = &shrinkable{File: f}
			file.bytes.Store(large)
			return file
		}})
		c := b.attachAs(style)
		data := make([]byte, 64<<10)
		for i := range data {
			data[i] = 0xa5
		}
		want := func(kind uint16, off, length uint64, errno uint32) {
			t.Helper()
			payload := []byte(nil)
			if kind == cmdWrite {
				payload = data[:length]
			}
			if a := c.exchange(kind, 0, off, length, payload); a.errno != errno {
				t.Errorf("style %v, command %d at %d: error %d, not %d", style, kind, off, a.errno, errno)
			}
			c.inSync()
		}
		for off := uint64(0); off < large; off += 64 << 10 {
			want(cmdWrite, off, 64<<10, 0)
		}
		if err := file.ask(t.Context(), small); err != nil {
			t.Fatal(err)
		}
		for _, off := range []uint64{small, small - 2048, large - 4096} {
			want(cmdWrite, off, 4096, nbdENOSPC)
			want(cmdWriteZeroes, off, 4096, nbdENOSPC)
			want(cmdRead, off, 4096, nbdEINVAL)
			want(cmdTrim, off, 4096, nbdEINVAL)
			want(cmdCache, off, 4096, nbdEINVAL)
		}
		want(cmdWrite, small-4096, 4096, 0)
		checkInfo(t, b.dial().hello(clientFlags).ask(optInfo, infoRequest{name: "/vm/disk0"}.encode()), small, writableFlags, false)
		if style != compact {
			want(cmdBlockStatus, small-2048, 4096, nbdEINVAL)
			if a := c.exchange(cmdBlockStatus, 0, 0, small, nil); !slices.Equal(a.extents, []blockdev.Extent{{Bytes: small}}) {
				t.Errorf("style %v: %v", style, a.extents)
			}
		}
		file.bytes.Store(large)
		if style != compact {
			if a := c.exchange(cmdBlockStatus, 0, 0, large, nil); !slices.Equal(a.extents, []blockdev.Extent{{Bytes: small}, {Bytes: large - small, Zero: true}}) {
				t.Errorf("style %v, grown: %v", style, a.extents)
			}
		}
		if a := c.exchange(cmdRead, 0, small, 4096, nil); a.errno != 0 || slices.Max(a.data) != 0 {
			t.Errorf("style %v: what was cut is not zeros: %d", style, a.errno)
		}
	}
}
