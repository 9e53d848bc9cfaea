package store

import (
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestRemoveLeftoversOfThen: what a check found left over is not removed once a process had the store since: it may be in use.
func TestRemoveLeftoversOfThen(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 1, 512, version(1)))
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	r, err := Check(t.Context(), fs, testDir, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.Leftovers = append(r.Leftovers, Leftover{Name: "segment-of-then"})
	begun := false
	first := func() error { begun = true; return nil }
	if _, err := RemoveLeftovers(fs, testDir, r, first); err != nil || !begun {
		t.Fatalf("%v, begun %v", err, begun)
	}
	s, _ = openTest(t, fs, smallOptions)
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	begun = false
	if removed, err := RemoveLeftovers(fs, testDir, r, first); blocktree.KindOf(err) != blocktree.Busy || removed != nil || begun {
		t.Errorf("%v, %v, begun %v", removed, err, begun)
	}
}
