package file

import (
	"fmt"
	"testing"

	"blocktree"
)

// TestKeylessRemembersTheDirectory: what is remembered of those above a directory never takes the place of what is of the directory.
func TestKeylessRemembersTheDirectory(t *testing.T) {
	k, root, collided := &Keyless{}, blocktree.RootPath(blocktree.Principal{1}), 0
	for i := range 3000 {
		dir := root.Join(fmt.Sprint(i)).Join("d")
		k.noteKeys(dirKey{dir: dir}, root)
		if k.key(dir) == nil {
			t.Fatalf("%s is forgotten", dir)
		}
		if k.keyPlace(dir) == k.keyPlace(dir.Parent()) || k.keyPlace(dir) == k.keyPlace(root) {
			collided++
		}
	}
	if collided == 0 {
		t.Error("no two had one place")
	}
}
