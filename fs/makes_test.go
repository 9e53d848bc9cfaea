package fs

import (
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
)

// TestMakesWithoutDurability: D1 of 0085. A service is asked for what a file is to be like; one of a version before without the flags that it does not know, newest first.
func TestMakesWithoutDurability(t *testing.T) {
	o := CreateOptions{SizeBytes: 8192, SectorBytes: 4096, Code: blocktree.Code{Data: 2, Parity: 1}, Mode: 0o640, Plain: true, Durability: stripe.DurabilityFlush}
	path := testRoot.Join("a")
	if r, err := decodePath(requestToMake(path, o).encode()); err != nil || r.makes() != o {
		t.Errorf("asked for %+v, %v", r.makes(), err)
	}
	for known, want := range map[uint8]uint8{flagsAll: flagPlain | flagTell | flagFlush, flagsAll &^ flagFlush: flagPlain | flagTell, flagPlain: flagPlain} {
		r, got := requestToMake(path, o), uint8(0)
		r.flags |= flagTell
		err := r.asKnown(func() error {
			if r.flags&^known != 0 {
				return blocktree.E("fake", blocktree.NewerFormat, nil)
			}
			got = r.flags
			return nil
		}, flagFlush, flagTell)
		if err != nil || got != want {
			t.Errorf("a service that knows %b was asked with %b, %v", known, got, err)
		}
	}
	r := requestToMake(path, o)
	if err := r.asKnown(func() error { return blocktree.E("fake", blocktree.Exists, nil) }, flagFlush); blocktree.KindOf(err) != blocktree.Exists || r.flags&flagFlush == 0 {
		t.Errorf("what is refused for another reason was asked again: %v", err)
	}
}
