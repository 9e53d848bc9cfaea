package nbd

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

// TestReadInChunks: what is zeros comes as holes where that is worth it, the rest as data, and together they are what was asked for.
// How much comes as holes is told by hand here.
func TestReadInChunks(t *testing.T) {
	const kib = 1 << 10
	for _, x := range []struct {
		name           string
		data           [][2]int // from, to
		offset, length uint64
		holes, chunks  int
	}{
		{"all zeros", nil, 0, 256 * kib, 256 * kib, 1},
		{"one zero", nil, 777, 1, 1, 1},
		{"all data", [][2]int{{0, 256 * kib}}, 0, 256 * kib, 0, 1},
		{"one byte of data", [][2]int{{100, 101}}, 100, 1, 0, 1},
		{"one byte within", [][2]int{{100 * kib, 100*kib + 1}}, 0, 256 * kib, 252 * kib, 3},
		{"hole in front", [][2]int{{64 * kib, 128 * kib}}, 0, 128 * kib, 64 * kib, 2},
		{"hole behind", [][2]int{{0, 64 * kib}}, 0, 128 * kib, 64 * kib, 2},
		{"hole between", [][2]int{{0, 64 * kib}, {96 * kib, 128 * kib}}, 0, 128 * kib, 32 * kib, 3},
		{"just long enough", [][2]int{{0, 64 * kib}, {80 * kib, 128 * kib}}, 0, 128 * kib, 16 * kib, 3},
		{"too short", [][2]int{{0, 64 * kib}, {79 * kib, 128 * kib}}, 0, 128 * kib, 0, 1},
		{"ragged", [][2]int{{100*kib + 5, 101 * kib}}, 3, 200*kib + 1, 196*kib + 1, 3},
		{"a short end of zeros", [][2]int{{0, 64 * kib}}, 0, 72 * kib, 0, 1},
		{"more than are worth it", stripes(20, 16*kib), 0, 640 * kib, 7 * 16 * kib, 15},
	} {
		b := newBed(t, setup{})
		image := make([]byte, size)
		for _, d := range x.data {
			for i := d[0]; i < d[1]; i++ {
				image[i] = byte(i*31>>3) | 1
			}
		}
		if err := b.dev.WriteAt(t.Context(), image, 0, false); err != nil {
			t.Fatal(err)
		}
		for _, s := range styles {
			c := b.attachAs(s)
			want := image[x.offset : x.offset+x.length]
			a := c.exchange(cmdRead, 0, x.offset, x.length, nil)
			if !bytes.Equal(a.data, want) || a.errno != 0 {
				t.Errorf("%v, %s: error %d or other bytes", s, x.name, a.errno)
			}
			if s != compact && (a.holes != x.holes || len(a.chunks) != x.chunks) {
				t.Errorf("%v, %s: %d bytes of holes in %d chunks, want %d in %d", s, x.name, a.holes, len(a.chunks), x.holes, x.chunks)
			}
			if s == compact {
				continue
			}
			a = c.exchange(cmdRead, cmdFlagDF, x.offset, x.length, nil)
			if !bytes.Equal(a.data, want) || a.holes != 0 || len(a.chunks) != 1 {
				t.Errorf("%v, %s with DF: %d bytes of holes in %d chunks, or other bytes", s, x.name, a.holes, len(a.chunks))
			}
		}
	}
}

// stripes are n ranges of data with holes as long between them.
func stripes(n, bytes int) (out [][2]int) {
	for i := range n {
		out = append(out, [2]int{2 * i * bytes, (2*i + 1) * bytes})
	}
	return out
}

// TestReadInChunksAtRandom: any pattern of zeros comes back as it is, in a bounded number of slices.
func TestReadInChunksAtRandom(t *testing.T) {
	b := newBed(t, setup{file: memfile.Options{Prompt: true}})
	var all []*client
	for _, s := range styles[1:] {
		all = append(all, b.attachAs(s))
	}
	r := rand.New(rand.NewPCG(5, 6))
	const most = 400 << 10
	image := make([]byte, most)
	chunks := 0
	for range 20 {
		clear(image)
		for range r.IntN(30) {
			from := r.IntN(most)
			to := min(most, from+1+r.IntN(1<<r.IntN(17)))
			for i := from; i < to; i++ {
				image[i] = byte(r.Uint32())
			}
		}
		if err := b.dev.WriteAt(t.Context(), image, 0, false); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			from := r.IntN(most)
			to := from + 1 + r.IntN(most-from)
			for _, c := range all {
				a := c.exchange(cmdRead, 0, uint64(from), uint64(to-from), nil)
				if !bytes.Equal(a.data, image[from:to]) {
					t.Fatalf("%v: %d bytes at %d are others", c.style, to-from, from)
				}
				chunks = max(chunks, len(a.chunks))
			}
		}
	}
	if chunks < partsMax || chunks > 2*partsMax {
		t.Errorf("at most %d chunks", chunks)
	}
}

// TestHolesByStatus: what was never written, trimmed or zeroed is a hole, and nothing that reads otherwise.
func TestHolesByStatus(t *testing.T) {
	const kib = 1 << 10
	b := newBed(t, setup{cacheBytes: 1 << 20})
	for _, s := range styles[1:] {
		c := b.attachAs(s)
		whole := func(want ...blockdev.Extent) {
			t.Helper()
			a := c.exchange(cmdBlockStatus, 0, 0, size, nil)
			if !slices.Equal(a.extents, want) {
				t.Fatalf("%v: %v, want %v", s, a.extents, want)
			}
		}
		data, hole := func(n uint64) blockdev.Extent { return blockdev.Extent{Bytes: n} }, func(n uint64) blockdev.Extent { return blockdev.Extent{Bytes: n, Zero: true} }
		whole(hole(size))
		c.do(cmdWrite, 0, 100*kib, 200*kib, bytes.Repeat([]byte{7}, 200*kib))
		whole(hole(100*kib), data(200*kib), hole(size-300*kib))
		c.do(cmdTrim, 0, 110*kib+1, 20*kib, nil) // of the sectors within
		whole(hole(100*kib), data(12*kib), hole(16*kib), data(172*kib), hole(size-300*kib))
		c.do(cmdWriteZeroes, cmdFlagNoHole, 200*kib, 40*kib, nil)
		whole(hole(100*kib), data(12*kib), hole(16*kib), data(72*kib), hole(40*kib), data(60*kib), hole(size-300*kib))
		for _, x := range []struct {
			offset, length uint64
			want           blockdev.Extent
		}{{0, 1, hole(1)}, {100*kib - 1, 2, hole(1)}, {100 * kib, 5000, data(5000)}, {113*kib + 5, size / 2, hole(15*kib - 5)}} {
			if a := c.exchange(cmdBlockStatus, cmdFlagReqOne, x.offset, x.length, nil); !slices.Equal(a.extents, []blockdev.Extent{x.want}) {
				t.Errorf("%v: %d at %d: %v, want %v", s, x.length, x.offset, a.extents, x.want)
			}
		}
		c.do(cmdWriteZeroes, 0, 0, size, nil)
		whole(hole(size))
	}
}

// TestManyExtents: an answer ends after so many extents, and the rest is asked for again.
func TestManyExtents(t *testing.T) {
	const sectors = 6000
	b := newBed(t, setup{file: memfile.Options{Info: blocktree.FileInfo{SizeBytes: sectors * 512, SectorBytes: 512}}})
	image := make([]byte, sectors*512)
	for i := 0; i < sectors; i += 2 {
		image[i*512+9] = 1
	}
	if err := b.dev.WriteAt(t.Context(), image, 0, false); err != nil {
		t.Fatal(err)
	}
	for _, s := range styles[1:] {
		c := b.attachAs(s)
		n := 0
		for at := uint64(0); at < uint64(len(image)); n++ {
			a := c.exchange(cmdBlockStatus, 0, at, uint64(len(image))-at, nil)
			for i, x := range a.extents {
				if x.Bytes != 512 || x.Zero != (i%2 == 1) {
					t.Fatalf("extent %d: %+v", i, x)
				}
				at += x.Bytes
			}
		}
		if want := (sectors + 1023) / 1024; n != want {
			t.Errorf("%v: %d answers, want %d", s, n, want)
		}
	}
}
