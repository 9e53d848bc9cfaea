package fs

import (
	"testing"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/internal/file"
)

// pinFor is what an opening goes by of a file.
func pinFor(t *testing.T, o file.FilePins, id blocktree.Inode) (keys.Pin, bool) {
	t.Helper()
	seen, ok, err := o.Of(blocktree.FileID{Generation: 1, Inode: id}).Pin(testRoot)
	if err != nil {
		t.Fatal(err)
	}
	return seen, ok
}

func setPin(t *testing.T, o file.FilePins, id blocktree.Inode, number uint64) {
	t.Helper()
	if err := o.Of(blocktree.FileID{Generation: 1, Inode: id}).SetPin(testRoot, keys.Pin{Number: number}); err != nil {
		t.Fatal(err)
	}
}

// What one opening has seen of a file holds for each later one, of that file alone; never for one that had begun before, which may have looked earlier.
func TestPinsOfFiles(t *testing.T) {
	var p pins
	early, first := p.opening(), p.opening()
	setPin(t, first, 7, 2)
	if seen, ok := pinFor(t, p.opening(), 7); !ok || seen.Number != 2 {
		t.Errorf("a later opening: %+v, %v", seen, ok)
	}
	if _, ok := pinFor(t, p.opening(), 8); ok {
		t.Error("another file is pinned")
	}
	if _, ok := pinFor(t, early, 7); ok {
		t.Error("an opening from before goes by what was pinned since")
	}
	setPin(t, early, 7, 1) // it saw the record before
	if seen, _ := pinFor(t, p.opening(), 7); seen.Number != 2 {
		t.Errorf("the older record has replaced the newer: %+v", seen)
	}
	setPin(t, early, 7, 3) // and then, as a holder, the next
	if seen, ok := pinFor(t, early, 7); !ok || seen.Number != 3 {
		t.Errorf("its own: %+v, %v", seen, ok)
	}
	if seen, _ := pinFor(t, p.opening(), 7); seen.Number != 3 {
		t.Errorf("a later opening: %+v", seen)
	}
}

// Pins are bounded; those that are used stay.
func TestPinsAreBounded(t *testing.T) {
	var p pins
	setPin(t, p.opening(), 1, 1)
	for i := range blocktree.Inode(3 * blocktree.FSPinsMax) {
		setPin(t, p.opening(), 2+i, 1)
		if i%1000 == 0 {
			if _, ok := pinFor(t, p.opening(), 1); !ok {
				t.Fatalf("forgotten after %d others, though used", i)
			}
		}
	}
	if n := len(p.recent) + len(p.old); n > blocktree.FSPinsMax {
		t.Errorf("%d are kept", n)
	}
}
