package fs

import (
	"context"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/blockdev/memfile"
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

// TestCutIsDurable: D4 of 0085. What a cut writes outlasts a loss of all memory when it is answered: by it who was there before sees that somebody was.
func TestCutIsDurable(t *testing.T) {
	for _, to := range []uint64{100, 1024, 2048} {
		synctest.Test(t, func(t *testing.T) {
			c := newFake()
			ann := somebody("ann")
			path := c.moving("f", ann)
			wrote, flushed := false, false
			c.set(path, func(n *fakeNode) {
				n.inode.SizeBytes, n.inode.LengthBytes = 4096, 2048
				n.hook = func(_ context.Context, call memfile.Call) error {
					if flushed = call.Op == memfile.Flush; call.Op == memfile.Write || call.Op == memfile.Zero {
						wrote = true
					}
					return nil
				}
			})
			s := newTestService(t, c, nil)
			if err := s.truncate(t.Context(), ownerFor(s, ann), &pathRequest{path: path, sizeBytes: to}); err != nil || !wrote || !flushed {
				t.Errorf("cut at %d: %v, written %v, flushed after that %v", to, err, wrote, flushed)
			}
		})
	}
}
