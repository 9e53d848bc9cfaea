package fs

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"blocktree"
)

// A sum is that of the bytes that a read gives, here and by a service, also past the end; and is nobody's who may not read.
func TestSums(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	path := b.fake.file("f", Read|Write|Lease, who)
	far, err := ann.Open(t.Context(), path, OpenOptions{Write: true})
	b.must(err)
	text := bytes.Repeat([]byte("dear"), testSectors*128)
	b.must(far.WriteAt(t.Context(), text, 0))
	for name, f := range map[string]File{"remote": far, "local": localOver(t, b.fake.nodes[path].mem, far.Info())} {
		for _, x := range []struct{ off, n, want int }{{0, 512, 512}, {3, 10_001, 10_001}, {len(text) - 5, 100, 5}, {len(text), 100, 0}} {
			sum, n, err := f.(Summer).SumAt(t.Context(), uint64(x.off), x.n)
			if err != nil || n != x.want || sum != sha256.Sum256(text[x.off:x.off+x.want]) {
				t.Errorf("%s: %d at %d: %d, %v", name, x.n, x.off, n, err)
			}
		}
	}
	b.fake.revoke(path, who, true)
	_, _, err = far.(Summer).SumAt(t.Context(), 0, 512)
	wantKind(t, "without a right", err, blocktree.Permission)
}

// FuzzSum: what is read of an answer is written so, and has bounds.
func FuzzSum(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(encodeSum([]byte("dear")))
	f.Fuzz(func(t *testing.T, b []byte) {
		sum, n, err := decodeSum(b)
		if err != nil {
			return
		}
		if n < 0 || n > blocktree.FSTransferBytesMax || !bytes.Equal(sum[:], b[:sha256.Size]) {
			t.Fatalf("%x: %d", b, n)
		}
	})
}
