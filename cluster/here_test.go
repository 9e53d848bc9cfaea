package cluster

import (
	"bytes"
	"testing"
)

// FuzzDecodeHere: what a sibling says of where it is is read as it was written, or refused.
func FuzzDecodeHere(f *testing.F) {
	f.Add((&here{port: 7001, at: "192.0.2.1:7001"}).encode())
	f.Add((&here{port: 1}).encode())
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHere(b)
		if err != nil {
			return
		}
		if h.port == 0 || len(h.at) > mirrorBytesMax {
			t.Fatalf("%+v", h)
		}
		if again := h.encode(); !bytes.Equal(again, b) {
			t.Fatalf("%x is read, and written as %x", b, again)
		}
	})
}
