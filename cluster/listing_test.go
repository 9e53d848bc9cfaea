package cluster

import (
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
)

// Whoever lists a directory comes to its end, and stays in it, whatever a node answers.
func TestCheckListing(t *testing.T) {
	for _, x := range []struct {
		what  string
		names []string
		after string
		more  bool
		good  bool
	}{
		{"nothing", nil, "", false, true}, {"two", []string{"a", "b"}, "", true, true}, {"the last", []string{"b"}, "a", false, true},
		{"more after nothing", nil, "a", true, false}, {"the same once more", []string{"a", "b"}, "b", true, false}, {"out of order", []string{"b", "a"}, "", false, false},
		{"twice", []string{"a", "a"}, "", false, false}, {"above", []string{".."}, "", false, false}, {"beneath", []string{"a/b"}, "", false, false}, {"no name", []string{""}, "", false, false},
	} {
		var entries []meta.DirEntry
		for _, n := range x.names {
			entries = append(entries, meta.DirEntry{Name: n})
		}
		if err := checkListing(entries, x.after, x.more); (err == nil) != x.good || err != nil && blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%s: %v", x.what, err)
		}
	}
}
