package store

import (
	"testing"

	"blocktree/internal/vfs"
)

// TestHolds: what Open found damaged, and what a file that was cut short does not have, is not held.
func TestHolds(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	var refs []Ref
	for v := range uint64(3) {
		refs = append(refs, put(t, s, dataRecord(testFile, 0, 4, 512, version(v+1))))
	}
	for _, ref := range refs {
		if !s.Holds(ref) {
			t.Errorf("%v is not held", ref)
		}
	}
	beyond := refs[0]
	beyond.Offset = uint32(smallOptions.SegmentBytes) - 512
	gone := refs[0]
	gone.Segment = 99
	for _, ref := range []Ref{beyond, gone} {
		if s.Holds(ref) {
			t.Errorf("%v is held", ref)
		}
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	flipFile(t, fs, segmentName("", refs[1].Segment), int64(refs[1].Offset)+headerBytes+5, 1)
	s, _ = openTest(t, fs, smallOptions)
	for i, ref := range refs {
		if got, want := s.Holds(ref), i != 1; got != want {
			t.Errorf("after one was damaged: %v is held: %v, want %v", ref, got, want)
		}
	}
}

// TestShortSegmentIsDamage: a segment file that cannot hold what lives in it is damage that Open tells.
func TestShortSegmentIsDamage(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	ref := put(t, s, dataRecord(testFile, 0, 8, 512, version(1)))
	if err := s.Close([]byte("end")); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Open(segmentName(testDir, ref.Segment))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(ref.Offset) + 100); err != nil {
		t.Fatal(err)
	}
	s, _ = openTest(t, fs, smallOptions)
	d := s.Damaged()
	if len(d) != 1 || d[0].Ref.Segment != ref.Segment || d[0].LiveSectors != 8 || s.Holds(ref) {
		t.Errorf("damage %+v, held %v", d, s.Holds(ref))
	}
}
