package cluster

import (
	"bytes"
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
)

func someCopyUps() []copyUp {
	return []copyUp{{blocktree.FileID{Generation: 1, Inode: 7}, 100, 50, 4096}, {blocktree.FileID{Generation: 1, Inode: 8}, 1, 0, 0}}
}

func TestCopyUpsComeBack(t *testing.T) {
	b := encodeCopyUps(someCopyUps())
	got, err := decodeCopyUps(b)
	if err != nil || !bytes.Equal(encodeCopyUps(got), b) {
		t.Fatal(got, err)
	}
	for i := range b {
		if _, err := decodeCopyUps(b[:i]); err == nil {
			t.Errorf("%d bytes, accepted", i)
		}
	}
	if _, err := decodeCopyUps(encodeCopyUps([]copyUp{{leftSectors: 1 << 60}})); err == nil {
		t.Error("more sectors than a file has, accepted")
	}
	i := &meta.Inode{SectorBytes: 4096, Code: blocktree.Code{Data: 2, Parity: 1}}
	if s := got[0].status(i); *s != (CopyUpStatus{100 * 2048, 4096, 2}) {
		t.Errorf("%+v", s)
	}
	if s := got[1].status(i); s.SecondsLeft != 0 {
		t.Errorf("a guess without a rate: %+v", s)
	}
}

func FuzzDecodeCopyUps(f *testing.F) {
	f.Add(encodeCopyUps(someCopyUps()))
	f.Fuzz(func(t *testing.T, in []byte) {
		us, err := decodeCopyUps(in)
		if err == nil && !bytes.Equal(encodeCopyUps(us), in) {
			t.Fatalf("encode(decode(x)) is not x for %x", in)
		}
	})
}
