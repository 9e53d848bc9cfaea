package node

import (
	"bytes"
	"testing"

	"blocktree/internal/vfs"
)

func TestAssignedComesBack(t *testing.T) {
	a := assigned{"/e/node", 1, 2}
	dir := t.TempDir()
	if err := a.save(vfs.Disk{}, dir); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := loadAssigned(vfs.Disk{}, dir); got != a || !ok || err != nil {
		t.Errorf("%+v %v %v", got, ok, err)
	}
	b := a.encode()
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, err := decodeAssigned(c); err == nil {
			t.Errorf("byte %d changed, accepted", i)
		}
		if _, err := decodeAssigned(b[:i]); err == nil {
			t.Errorf("%d bytes, accepted", i)
		}
	}
}

func FuzzDecodeAssigned(f *testing.F) {
	a := assigned{"/e/node", 1, 2}
	f.Add(a.encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := decodeAssigned(in)
		if err == nil && !bytes.Equal(a.encode(), in) {
			t.Fatalf("encode(decode(x)) is not x for %x", in)
		}
	})
}
