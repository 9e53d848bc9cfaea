package file

import (
	"testing"

	"blocktree"
	"blocktree/crypto/keys"
)

// TestCut: runs are in order, cover the request without gaps, and never cross a region.
func TestCut(t *testing.T) {
	f := &File{regionSectors: 100}
	for _, x := range []struct{ first, count, most uint64 }{{0, 0, 10}, {0, 1, 10}, {95, 10, 10}, {99, 202, 64}, {100, 100, 1000}, {7, 1000, 13}} {
		next := x.first
		err := f.cut(blocktree.SectorIndex(x.first), x.count, x.most, func(r run) error {
			last := uint64(r.first) + r.count - 1
			if uint64(r.first) != next || r.count == 0 || r.count > x.most || uint64(r.region) != uint64(r.first)/100 || uint64(r.region) != last/100 {
				t.Errorf("%+v: run %+v", x, r)
			}
			next += r.count
			return nil
		})
		if err != nil || next != x.first+x.count {
			t.Errorf("%+v: ends at %d, %v", x, next, err)
		}
	}
}

func TestCheck(t *testing.T) {
	f := &File{info: blocktree.FileInfo{SizeBytes: 10 * 4096, SectorBytes: 4096}}
	for _, x := range []struct {
		first blocktree.SectorIndex
		bytes int
		want  blocktree.Kind
	}{
		{0, 40960, blocktree.Other}, {10, 0, blocktree.Other}, {9, 4096, blocktree.Other},
		{0, 100, blocktree.Invalid}, {10, 4096, blocktree.OutOfRange}, {9, 8192, blocktree.OutOfRange},
		{1<<64 - 1, 4096, blocktree.OutOfRange}, {11, 0, blocktree.OutOfRange},
	} {
		if _, err := f.check("test", x.first, x.bytes); blocktree.KindOf(err) != x.want {
			t.Errorf("%d bytes from %d: %v", x.bytes, x.first, err)
		}
	}
	if err := f.checkRange("test", 5, 1<<64-1); blocktree.KindOf(err) != blocktree.OutOfRange {
		t.Errorf("a count that overflows: %v", err)
	}
}

func TestValidate(t *testing.T) {
	reader := []keys.PublicKey{keys.NewReaderKey().Public()}
	for _, x := range []struct {
		name string
		o    CreateOptions
		good bool
	}{
		{"defaults", CreateOptions{SizeBytes: 4096, Readers: reader}, true},
		{"plain", CreateOptions{SizeBytes: 4096, Plain: true}, true},
		{"largest", CreateOptions{SizeBytes: blocktree.FileBytesMax, Plain: true}, true},
		{"nobody could read it", CreateOptions{SizeBytes: 4096}, false},
		{"empty", CreateOptions{Plain: true}, false},
		{"not whole sectors", CreateOptions{SizeBytes: 4097, Plain: true}, false},
		{"too large", CreateOptions{SizeBytes: blocktree.FileBytesMax + 4096, Plain: true}, false},
		{"sector too small", CreateOptions{SizeBytes: 4096, SectorBytes: 256, Plain: true}, false},
		{"sector not a power of two", CreateOptions{SizeBytes: 12288, SectorBytes: 1536, Plain: true}, false},
		{"impossible code", CreateOptions{SizeBytes: 4096, Code: blocktree.Code{Data: 200, Parity: 100}, Plain: true}, false},
	} {
		if err := x.o.Validate(); (err == nil) != x.good || err != nil && blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}
