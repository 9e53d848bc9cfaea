package seal

import (
	"bytes"
	"testing"

	"blocktree"
)

// TestGenerations: every header names the generation it was sealed under, after many renewals too, and opens under no other.
func TestGenerations(t *testing.T) {
	file := blocktree.FileID{Generation: 1, Inode: 7}
	v := blocktree.Version{Epoch: 1, Sequence: 1}
	generations := []uint32{1, 2, 3, 255, 256, 1 << 16, GenerationMax}
	for _, g := range generations {
		s := New([32]byte{1}, XAES256GCM, file, g)
		s.sectorsMax = 1
		prefixes := map[prefix]bool{}
		for range 600 { // more than 256, so that a first byte of 0 would show in generation 1
			sector, header := []byte("a sector"), make([]byte, HeaderBytes)
			sealed := make([]byte, len(sector))
			s.Seal(sealed, sector, 3, v, header)
			if got := GenerationOf(header); got != g {
				t.Fatalf("sealed under %d, names %d", g, got)
			}
			prefixes[prefix(HeaderNonce(header)[:prefixBytes])] = true
			opened := make([]byte, len(sector))
			if err := New([32]byte{1}, XAES256GCM, file, g).Open(opened, sealed, 3, v, header); err != nil || !bytes.Equal(opened, sector) {
				t.Fatalf("generation %d: %v", g, err)
			}
			for _, other := range generations {
				if len(prefixes) < 4 && other != g && New([32]byte{1}, XAES256GCM, file, other).Open(opened, sealed, 3, v, header) == nil {
					t.Fatalf("sealed under %d, opens under %d", g, other)
				}
			}
		}
		if len(prefixes) < 590 {
			t.Errorf("generation %d: only %d prefixes", g, len(prefixes))
		}
	}
	zeros := make([]byte, HeaderBytes)
	if GenerationOf(zeros) != 1 {
		t.Error("zeros are of no later generation")
	}
}
