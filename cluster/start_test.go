package cluster

import (
	"bytes"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

func FuzzDecodeStart(f *testing.F) {
	f.Add(startMark{}.encode())
	f.Add(startMark{incarnation: randomIncarnation(), current: 1, next: 1 << 40}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeStart(b)
		if err == nil && !bytes.Equal(s.encode(), b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, s, s.encode())
		}
	})
}

func TestStartMark(t *testing.T) {
	disk := vfs.NewCrash()
	if err := disk.MkdirAll("/s"); err != nil {
		t.Fatal(err)
	}
	if s, err := loadStart(disk, "/s"); err != nil || s != (startMark{}) {
		t.Fatalf("an empty directory gives %+v, %v", s, err)
	}
	first := startMark{incarnation: blocktree.Incarnation{1}, next: 7}
	second := startMark{incarnation: blocktree.Incarnation{1}, current: 7, next: 7}
	for _, s := range []startMark{first, second} {
		if err := s.save(disk, "/s"); err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(20) { // what was saved survives any loss of power
			if got, err := loadStart(disk.Clone(seed), "/s"); err != nil || got != s {
				t.Fatalf("seed %d: %+v, %v", seed, got, err)
			}
		}
	}
	f, err := disk.Open("/s/" + startFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xff}, 9); err != nil {
		t.Fatal(err)
	}
	if _, err := loadStart(disk, "/s"); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("a damaged mark gives %v", err)
	}
}

// TestStartMarkOrder walks through a start that ends at any of its steps: the mark vouches for the node at the next one
// unless the disk was put back.
func TestStartMarkOrder(t *testing.T) {
	for _, x := range []struct {
		name string
		mark startMark
		raft uint64
		want bool
	}{
		{"never started", startMark{}, 0, false},
		{"first start not proposed", startMark{next: 5}, 0, false},
		{"first start taken, not noted", startMark{next: 5}, 5, true},
		{"first start noted", startMark{current: 5, next: 5}, 5, true},
		{"second start not proposed", startMark{current: 5, next: 9}, 5, true},
		{"second start taken", startMark{current: 5, next: 9}, 9, true},
		{"disk of the first start at the third", startMark{current: 5, next: 5}, 9, false},
		{"disk between, at the third", startMark{current: 5, next: 9}, 12, false},
		{"wiped disk", startMark{}, 9, false},
	} {
		if got := x.mark.vouches(x.raft); got != x.want {
			t.Errorf("%s: vouches %v", x.name, got)
		}
	}
	for range 1000 {
		if randomStep() == 0 {
			t.Fatal("two starts in one place")
		}
	}
}
