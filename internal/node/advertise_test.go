package node

import (
	"bytes"
	"slices"
	"testing"
)

// TestAdvertisedComesBack: what was written down is read, and nothing that is damaged.
func TestAdvertisedComesBack(t *testing.T) {
	want := []string{"10.0.0.1:7000", "node1.example.com:7000"}
	b := encodeAdvertised(want)
	if got, err := decodeAdvertised(b); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, err := decodeAdvertised(c); err == nil {
			t.Errorf("byte %d changed, accepted", i)
		}
		if _, err := decodeAdvertised(b[:i]); err == nil {
			t.Errorf("%d bytes, accepted", i)
		}
	}
}

func FuzzDecodeAdvertised(f *testing.F) {
	f.Add(encodeAdvertised([]string{"a:1", "b:2"}))
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := decodeAdvertised(in)
		if err == nil && !bytes.Equal(encodeAdvertised(a), in) {
			t.Fatalf("encode(decode(x)) is not x for %x", in)
		}
	})
}
