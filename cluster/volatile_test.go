package cluster

import (
	"bytes"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

func FuzzDecodeVolatile(f *testing.F) {
	f.Add(volatileMark{}.encode())
	f.Add(volatileMark{start: 3, incarnation: randomIncarnation(), whole: true}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeVolatile(b)
		if err == nil && !bytes.Equal(v.encode(), b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, v, v.encode())
		}
	})
}

// TestVolatileMarkOf: the mark counts for the newest start that its disk knows, on that disk only. A start in between by a version that knows no such
// marks has answered for things of which it says nothing.
func TestVolatileMarkOf(t *testing.T) {
	disk := blocktree.Incarnation{1, 2, 3}
	v := volatileMark{start: 9, incarnation: drawVolatile(disk)}
	if v.incarnation == disk || !disk.SameDisk(v.incarnation) || v.incarnation == drawVolatile(disk) {
		t.Fatalf("drawn: %x", v.incarnation)
	}
	for _, x := range []struct {
		name string
		mark startMark
		want bool
	}{
		{"the newest start", startMark{incarnation: disk, current: 9, next: 9}, true},
		{"one that was taken and not noted", startMark{incarnation: disk, current: 5, next: 9}, true},
		{"one that was proposed after it", startMark{incarnation: disk, current: 9, next: 12}, true},
		{"an earlier start", startMark{incarnation: disk, current: 12, next: 12}, false},
		{"another disk", startMark{incarnation: blocktree.Incarnation{2}, current: 9, next: 9}, false},
		{"no start", startMark{}, false},
	} {
		if got := v.of(x.mark); got != x.want {
			t.Errorf("%s: %v", x.name, got)
		}
	}
	if (volatileMark{incarnation: v.incarnation}).of(startMark{incarnation: disk}) {
		t.Error("a mark of no start counts")
	}
}

func TestLoadVolatile(t *testing.T) {
	disk := vfs.NewCrash()
	if err := disk.MkdirAll("/s"); err != nil {
		t.Fatal(err)
	}
	if v, err := loadVolatile(disk, "/s"); err != nil || v != (volatileMark{}) {
		t.Fatalf("an empty directory gives %+v, %v", v, err)
	}
	want := volatileMark{start: 1, incarnation: randomIncarnation()}
	if err := replaceFile(disk, "/s", volatileFile, want.encode(), true); err != nil {
		t.Fatal(err)
	}
	if v, err := loadVolatile(disk, "/s"); err != nil || v != want {
		t.Fatalf("%+v, %v", v, err)
	}
	f, err := disk.Open("/s/" + volatileFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{want.encode()[9] ^ 0xff}, 9); err != nil {
		t.Fatal(err)
	}
	if _, err := loadVolatile(disk, "/s"); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("a damaged mark gives %v", err)
	}
}
