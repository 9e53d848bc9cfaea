package vfs

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestCrashBytes compares a file's bytes, whose zeros at the end take no memory, with a flat slice.
func TestCrashBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var b crashBytes
	var flat []byte
	for range 20_000 {
		off, p := rng.IntN(200), bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, 1+rng.IntN(50))
		switch rng.IntN(4) {
		case 0:
			b.resize(int64(off))
			flat = append(make([]byte, 0, off), append(flat, make([]byte, 200)...)[:off]...)
		case 1:
			b = b.clone()
		default:
			b.writeAt(p, int64(off))
			if end := off + len(p); end > len(flat) {
				flat = append(flat, make([]byte, end-len(flat))...)
			}
			copy(flat[off:], p)
		}
		got, want := bytes.Repeat([]byte{0xee}, 300), bytes.Repeat([]byte{0xee}, 300)
		from := rng.IntN(300)
		n, m := b.readAt(got, int64(from)), copy(want, flat[min(from, len(flat)):])
		if n != m || b.size != int64(len(flat)) || !bytes.Equal(got, want) {
			t.Fatalf("%d of %d bytes from %d, want %d of %d", n, b.size, from, m, len(flat))
		}
	}
	b = crashBytes{}
	if b.resize(1 << 40); len(b.data) > 0 || b.size != 1<<40 {
		t.Error("zeros take memory")
	}
}
