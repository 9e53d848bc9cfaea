package meta

import (
	"testing"

	"blocktree"
	"blocktree/internal/wire"
)

// adoptF has the copy of /rack/f adopted, and its leases given back. The old file is there still.
func adoptF(parent, child *machine) (to blocktree.FileID) {
	to, copyEpoch, epoch := begun(parent, child, session(1))
	parent.mustAs(admin(), Depart{session(1), fileID(3), epoch, to, copyEpoch})
	child.mustAs(admin(), Adopt{Session: session(1), File: to, Epoch: copyEpoch, From: fileID(3), Path: path("/rack/f"), Mode: 0o640})
	parent.mustAs(admin(), Release{session(1), fileID(3), epoch})
	child.mustAs(admin(), Release{session(1), to, copyEpoch})
	return to
}

// TestRenameWhileMoved: before its copy is adopted neither an old file nor a directory above it gets another name; after that both do, and the move, which whoever finishes it finds by that, goes by it. So whatever becomes of the name the old file
// is removed, and the move ends.
func TestRenameWhileMoved(t *testing.T) {
	parent, child := mover(t)
	sub := child.mustAs(admin(), MakeDir{Path: path("/rack/d"), Mode: 0o755}).Inode.ID
	begun(parent, child, session(1))
	for _, o := range []Rename{{From: path("/rack/f"), To: path("/rack/d/f"), File: fileID(3)}, {From: path("/rack/d"), To: path("/rack/f"), File: sub, Over: fileID(3)}} {
		if r := child.as(admin(), 2, o); r.Kind != blocktree.CrossDevice && r.Kind != blocktree.Invalid || r.Hint == "" {
			t.Errorf("%s to %s: %v", o.From.Short(), o.To.Short(), r.Err("rename"))
		}
	}
	for _, m := range []*machine{parent, child} {
		m.must(CloseSession{session(1)})
		m.mustAs(admin(), OpenSession{Session: session(1), Principal: admin().Principal, Path: admin().Path})
	}
	to := adoptF(parent, child)
	at := func(want string) {
		t.Helper()
		if ms := child.view().moves(); len(ms) != 1 || ms[0].Path != path(want) || !ms[0].Adopted || ms[0].To != to {
			t.Errorf("%+v, want one of %s", ms, want)
		}
	}
	child.mustAs(admin(), Rename{From: path("/rack/f"), To: path("/rack/d/g"), File: to})
	at("/rack/d/g")
	if r := child.as(admin(), 2, Acquire{session(1), to}); r.Kind != blocktree.Busy {
		t.Errorf("held before its move has ended: %v", r.Kind)
	}
	child.mustAs(admin(), Rename{From: path("/rack/d"), To: path("/rack/e"), File: sub})
	at("/rack/e/g")
	child.mustAs(admin(), Rename{From: path("/rack/e/g"), To: path("/rack/eg"), File: to})
	child.mustAs(admin(), Rename{From: path("/rack/e"), To: path("/rack/d"), File: sub}) // whose name is the beginning of another
	at("/rack/eg")
	over := child.mustAs(admin(), file("/rack/over")).Inode.ID
	child.mustAs(admin(), Rename{From: path("/rack/over"), To: path("/rack/eg"), File: over, Over: to})
	at("/rack/eg")
	parent.mustAs(admin(), RemoveLeft{fileID(3), to})
	child.mustAs(admin(), EndMove{to})
	if len(child.view().moves()) != 0 {
		t.Error("the move stays")
	}
	child.mustAs(admin(), Acquire{session(1), over})
}

// readByBefore reads the counters as the version before moves does.
func readByBefore(t *testing.T, m *machine) error {
	t.Helper()
	v, ok := m.view().get(kindCounters, nil)
	if !ok {
		t.Fatal("no counters")
	}
	d := wire.NewDecoder(v)
	d.Format(formatValue)
	d.Raw(8 + 8 + 4 + 4 + 8 + 8)
	if d.Len() > 0 {
		d.U64()
		d.Bool()
	}
	return d.Finish()
}

// TestMovesAreNotForVersionsBefore: a state with moves, or with files that are left, is refused by a version that does not know of them, as by a snapshot or after a step back: it would let everybody hold those. Without any it is read.
func TestMovesAreNotForVersionsBefore(t *testing.T) {
	parent, child := mover(t)
	reads := func(what string, p, c bool) {
		t.Helper()
		for m, want := range map[*machine]bool{parent: p, child: c} {
			if err := readByBefore(t, m); (err == nil) != want {
				t.Errorf("%s, parent %v: %v", what, m == parent, err)
			}
		}
	}
	reads("before", true, true)
	to, copyEpoch, epoch := begun(parent, child, session(1))
	child.mustAs(admin(), moveF(0)) // said again
	reads("begun", true, false)
	for range 2 {
		parent.mustAs(admin(), Depart{session(1), fileID(3), epoch, to, copyEpoch})
	}
	reads("left", false, false)
	for range 2 {
		parent.mustAs(admin(), Stay{fileID(3), to, copyEpoch})
	}
	reads("not left any more", true, false)
	parent.mustAs(admin(), Release{session(1), fileID(3), epoch})
	child.mustAs(admin(), Release{session(1), to, copyEpoch})
	child.mustAs(admin(), DropCopy{to})
	reads("dropped", true, true)
	to = adoptF(parent, child)
	reads("adopted", false, false)
	parent.mustAs(admin(), RemoveLeft{fileID(3), to})
	for range 2 {
		child.mustAs(admin(), EndMove{to})
	}
	reads("done", true, true)
}
