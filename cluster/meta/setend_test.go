package meta

import (
	"testing"

	"blocktree"
)

// TestSetEnd: E3 of 0059. Who has the file open moves its end, from where it was; nobody else does, and no copy that comes late.
func TestSetEnd(t *testing.T) {
	m := granted(t, 0o755, 0o600)
	f, owner := fileID(3), somebody(7, 70)
	size := m.view().inode(f).SizeBytes
	m.mustAs(owner, OpenSession{Session: session(7), Principal: owner.Principal, Path: owner.Path})
	epoch := m.mustAs(owner, Acquire{session(7), f}).Lease.Epoch
	end := func(was, bytes uint64) SetEnd { return SetEnd{f, session(7), epoch, was, bytes, 9} }
	refused := func(name string, o SetEnd, want blocktree.Kind) {
		t.Helper()
		before := m.view().inode(f).Length()
		if r := m.do(o); r.Kind != want || want == blocktree.StaleView && r.Inode.Length() != before {
			t.Errorf("%s: %v %q", name, r.Kind, r.Text)
		}
		if now := m.view().inode(f).Length(); now != before {
			t.Errorf("%s: it ends at %d, not %d", name, now, before)
		}
	}
	for now, modified := range map[int64]int64{5: 5, 20: 9} { // of the future is no file, whatever its holder's clock says
		if r := m.as(owner, now, end(size, size)); r.Kind != blocktree.Other { // the one that it has becomes its own
			t.Fatal(r.Err("set the end"))
		}
		if i := m.view().inode(f); !i.HasLength || i.Length() != size || i.Modified != modified {
			t.Errorf("at %d: %+v", now, i)
		}
	}
	m.mustAs(owner, end(size, 100))
	refused("late", end(size, 200), blocktree.StaleView)
	refused("behind the size", end(100, size+1), blocktree.Invalid)
	refused("no file", SetEnd{fileID(99), session(7), epoch, 100, 1, 9}, blocktree.NotFound)
	refused("a directory", SetEnd{fileID(2), session(7), epoch, 100, 1, 9}, blocktree.Invalid)
	refused("another session", SetEnd{f, session(8), epoch, 100, 1, 9}, blocktree.Fenced)
	refused("another epoch", SetEnd{f, session(7), epoch + 1, 100, 1, 9}, blocktree.Fenced)
	if r := m.as(somebody(10, 10), 2, end(100, 1)); r.Kind != blocktree.Permission {
		t.Errorf("a stranger's: %v", r.Kind)
	}
	m.mustAs(owner, Release{session(7), f, epoch})
	refused("nobody holds it", end(100, 200), blocktree.Fenced)
}
