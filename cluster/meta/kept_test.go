package meta

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"

	"blocktree"
)

// keeping is a founded cluster in which session 7, of user 7, keeps /d/k, and session 8 is another's.
func keeping(t *testing.T) (m *machine, owner *Caller, k *Inode) {
	m, owner = granted(t, 0o777, 0o600), somebody(7, 70)
	for n, c := range map[int]*Caller{7: owner, 8: somebody(0, 0)} {
		m.mustAs(c, OpenSession{Session: session(n), Principal: c.Principal, Path: c.Path})
	}
	r := m.mustAs(owner, MakeDirKept{MakeDir{Path: path("/d/k"), Mode: 0o777}, session(7)})
	if !r.Kept || r.Inode.UID != 7 {
		t.Fatalf("%+v", r)
	}
	return m, owner, r.Inode
}

// TestEveryOpIsGuarded: G2 of 0079. Of each op it is said here whether it changes entries; those that do are refused where another session keeps the directory, and told to be, and change nothing else; its keeper is let through, and told that it is wanted.
func TestEveryOpIsGuarded(t *testing.T) {
	inside, f := path("/d/k/x"), fileAt(t)
	guarded := map[opcode]func(m *machine) Op{
		opMakeDir:         func(*machine) Op { return MakeDir{Path: inside} },
		opMakeDirKept:     func(*machine) Op { return MakeDirKept{MakeDir{Path: inside}, session(8)} },
		opCreateFile:      func(*machine) Op { return file("/d/k/x") },
		opCreateFlushFile: func(*machine) Op { return CreateFlushFile{file("/d/k/x")} },
		opCreateTreeFile:  func(*machine) Op { return CreateTreeFile{CreateFile: file("/d/k/x"), TreeBytes: 1 << 20} },
		opCreateHeld:      func(*machine) Op { return CreateHeld{CreateFile: file("/d/k/x"), Session: session(8)} },
		opSymlink:         func(*machine) Op { return Symlink{Path: inside, Target: "y"} },
		opRemove:          func(*machine) Op { return Remove{Path: path("/d/k/f")} },
		opUnlink:          func(m *machine) Op { return Unlink{path("/d/k/f"), f(m, "/d/k/f"), session(8)} },
		opRename:          func(m *machine) Op { return Rename{From: path("/d/e/f"), To: inside, File: f(m, "/d/e/f")} },
		opRenameOver: func(m *machine) Op {
			return RenameOver{Rename{From: path("/d/e/f"), To: path("/d/k/f"), File: f(m, "/d/e/f"), Over: f(m, "/d/k/f")}, session(8)}
		},
		opNameFile: func(m *machine) Op {
			i := m.mustAs(somebody(0, 0), spares(8, 1)).Inode
			return NameFile{Session: session(8), File: i.ID, Epoch: 1, Dir: f(m, "/d/k"), CreateFile: with(coded("/d/k/x", 2, 1), func(o *CreateFile) { o.Mode = 0o600 })}
		},
		// What has to do with clusters below: TestDelegateKept, and what another cluster keeps.
		opDelegate: nil, opTakeBack: nil, opAdopt: nil, opDropEntry: nil,
	}
	changesNone := map[opcode]bool{opDropMoved: true, opTakeEntries: true} // of a directory in which nobody keeps anything
	for _, o := range everyOp(somebody(7, 70)) {
		if _, ok := guarded[o.opcode()]; !ok && opChangesEntries(o) && !changesNone[o.opcode()] {
			t.Errorf("%T changes entries, and is not here", o)
		}
	}
	for code, op := range guarded {
		if op == nil {
			continue
		}
		m, owner, k := keeping(t)
		m.command(Command{ID: NewCommandID(), Op: coded("/d/k/f", 2, 1), Caller: owner, Time: 2, Keeper: session(7)})
		o, n := op(m), m.view().counts
		if r := m.as(somebody(0, 0), 3, o); r.Kind != blocktree.Busy || !r.Kept || r.Hint == "" || len(r.Wanted) != 0 {
			t.Errorf("%T (%d): %v, kept %v, wanted %v", o, code, r.Err("op"), r.Kept, r.Wanted)
			continue
		}
		if now := m.view().counts; now.wanted != 1 || now.inodes != n.inodes || now.nameless != n.nameless {
			t.Errorf("%T: %+v, before %+v", o, now, n)
		}
		if r := m.mustAs(owner, RenewSession{session(7)}); len(r.Wanted) != 1 || r.Wanted[0] != k.ID {
			t.Errorf("%T: the keeper is told of %v", o, r.Wanted)
		}
		if r := m.command(Command{ID: NewCommandID(), Op: op(m), Caller: somebody(0, 0), Time: 4, Keeper: session(7)}); code != opNameFile && (r.Kind != blocktree.Other || len(r.Wanted) != 1) {
			t.Errorf("%T by the keeper: %v, wanted %v", o, r.Err("op"), r.Wanted)
		}
		m.mustAs(owner, Leave{Session: session(7), Dirs: []blocktree.FileID{k.ID}})
		if _, ok := m.view().keeps(k.ID.Inode); ok || m.view().counts.wanted != 0 {
			t.Errorf("%T: left, and %+v", o, m.view().counts)
		}
	}
}

// fileAt finds what a path names.
func fileAt(t *testing.T) func(*machine, string) blocktree.FileID {
	return func(m *machine, p string) blocktree.FileID {
		t.Helper()
		i, r := m.view().stat(path(p))
		if r.Kind != blocktree.Other {
			t.Fatal(r.Err(p))
		}
		return i.ID
	}
}

// opChangesEntries says of each op whether it makes, removes or replaces an entry.
func opChangesEntries(o Op) bool {
	switch o.(type) {
	case MakeDir, MakeDirKept, CreateFile, CreateFlushFile, CreateTreeFile, CreateHeld, Symlink, Remove, Unlink, Rename, RenameOver, NameFile, Delegate, TakeBack, Adopt, DropEntry, DropMoved, TakeEntries:
		return true
	}
	return false
}

func spares(s, n int) MakeSpares {
	return MakeSpares{Session: session(s), SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 2, Parity: 1}, N: uint8(n)}
}

// TestKeptDirItself: the directory itself is not removed, replaced, renamed or delegated, nor one above it renamed, or delegated (TestDelegateKept), as its keeper answers by its path; all else may be changed.
func TestKeptDirItself(t *testing.T) {
	m, owner, k := keeping(t)
	root := somebody(0, 0)
	for name, o := range map[string]Op{"removed": Remove{Path: path("/d/k")}, "renamed": Rename{From: path("/d/k"), To: path("/d/other"), File: k.ID},
		"renamed above": Rename{From: path("/d"), To: path("/g"), File: fileID(1)}, "replaced": Rename{From: path("/d/e"), To: path("/d/k"), File: fileID(2), Over: k.ID}} {
		if r := m.as(root, 3, o); r.Kind != blocktree.Busy || !r.Kept {
			t.Errorf("%s: %v", name, r.Err("op"))
		}
	}
	above := Rename{From: path("/d"), To: path("/g"), File: fileID(1)}
	if r := m.command(Command{ID: NewCommandID(), Op: above, Caller: root, Time: 3, Keeper: session(8)}); r.Kind != blocktree.Busy || !r.Kept {
		t.Errorf("renamed above by another's session: %v", r.Err("op"))
	}
	m.mustAs(root, with(above, func(o *Rename) { o.From, o.To, o.File = path("/d/e/f"), path("/d/e/g"), fileAt(t)(m, "/d/e/f") })) // beside it
	if r := m.command(Command{ID: NewCommandID(), Op: above, Caller: root, Time: 3, Keeper: session(7)}); r.Kind != blocktree.Other {
		t.Errorf("renamed above by its keeper: %v", r.Err("op"))
	}
	m.mustAs(root, SetAttr{File: k.ID, Mask: AttrMode, Mode: 0o700})
	m.mustAs(root, PutGrant{k.ID, grantTo(somebody(10, 10), RightRead)})
	m.mustAs(owner, CloseSession{session(7)})
	if now := m.view().counts; now.keptDirs != 0 || now.wanted != 0 {
		t.Errorf("its session has ended: %+v", now)
	}
	m.mustAs(root, Remove{Path: path("/g/k")})
}

// TestNotKept: a directory is made, and not kept, under a session that keeps too many, and not made by a copy that comes late, or under a session that is gone; who asks again when he has left it is told so.
func TestNotKept(t *testing.T) {
	m, owner, k := keeping(t)
	late := NewCommandID()
	copy(late[:], make([]byte, 8))
	if r := m.command(Command{ID: late, Op: MakeDirKept{MakeDir{Path: path("/d/late")}, session(7)}, Caller: owner, Time: 2}); r.Kind != blocktree.Busy || r.Kept {
		t.Errorf("a late copy: %+v", r)
	}
	if r := m.as(owner, 2, MakeDirKept{MakeDir{Path: path("/d/gone")}, session(9)}); r.Kind != blocktree.Fenced {
		t.Errorf("under no session: %v", r.Kind)
	}
	for n := 0; n < KeptDirsPerSessionMax-1; n++ {
		m.mustAs(owner, MakeDirKept{MakeDir{Path: path(fmt.Sprintf("/d/many%d", n)), Mode: 0o700}, session(7)})
	}
	if r := m.mustAs(owner, MakeDirKept{MakeDir{Path: path("/d/toomany"), Mode: 0o700}, session(7)}); r.Kept || m.view().counts.keptDirs != KeptDirsPerSessionMax {
		t.Errorf("too many: %+v", r)
	}
	m.must(CloseSession{session(7)})
	m, owner, k = keeping(t)
	if r := m.as(owner, 2, MakeDirKept{MakeDir{Path: path("/d/p/q"), Parents: true}, session(7)}); r.Kind != blocktree.Invalid {
		t.Errorf("with those above: %v", r.Kind)
	}
	again := Command{ID: NewCommandID(), Op: MakeDirKept{MakeDir{Path: path("/d/again")}, session(7)}, Caller: owner, Time: 2}
	r := m.command(again)
	m.mustAs(owner, Leave{Session: session(8), Dirs: []blocktree.FileID{r.Inode.ID, k.ID}}) // not those of another
	if n := m.view().counts.keptDirs; n != 2 || !m.command(again).Kept {
		t.Errorf("%d are kept", n)
	}
	m.mustAs(owner, Leave{Session: session(7), Dirs: []blocktree.FileID{r.Inode.ID}})
	if m.command(again).Kept {
		t.Error("it was left")
	}
	if plain := len(m.counters()); m.must(CloseSession{session(7)}).Kind != 0 || len(m.counters()) >= plain {
		t.Error("the counters are read by a version before, which would let everybody change what is kept")
	}
}

// TestNameFile: G1, G4 and G5 of 0079. A spare gets its name by who may make it, in the directory that is meant, under the key that counts, and as its maker says; it is then a file as any, and nothing is left of one that got none.
func TestNameFile(t *testing.T) {
	m, owner, k := keeping(t)
	service := somebody(0, 0)
	if r := m.as(owner, 2, spares(7, 1)); r.Kind != blocktree.Permission {
		t.Errorf("spares of anybody: %v", r.Kind)
	}
	first := m.mustAs(service, spares(8, 4))
	if x := m.view().session(session(8)); first.Lease.Epoch != 1 || first.Layout.Epoch != 1 || x.Leases != 4 || m.view().counts.nameless != 4 {
		t.Fatalf("%+v, %+v", first, x)
	}
	m.mustAs(owner, Leave{Session: session(7), Dirs: []blocktree.FileID{k.ID}})
	id := func(n int) blocktree.FileID {
		f := first.Inode.ID
		f.Inode += blocktree.Inode(n)
		return f
	}
	name := func(n int, p string) NameFile {
		return NameFile{Session: session(8), File: id(n), Epoch: 1, Dir: k.ID, CreateFile: with(coded(p, 2, 1), func(o *CreateFile) { o.Mode, o.Time = 0o640, 5 }), End: 100, Wrote: 6}
	}
	for what, x := range map[string]struct {
		by   *Caller
		o    NameFile
		want blocktree.Kind
	}{
		"another directory":  {owner, with(name(0, "/d/k/a"), func(o *NameFile) { o.Dir = fileID(2) }), blocktree.NotFound},
		"none":               {owner, name(0, "/d/none/a"), blocktree.NotFound},
		"another session":    {owner, with(name(0, "/d/k/a"), func(o *NameFile) { o.Session = session(7) }), blocktree.Fenced},
		"no session":         {owner, with(name(0, "/d/k/a"), func(o *NameFile) { o.Session = session(9) }), blocktree.Fenced},
		"another epoch":      {owner, with(name(0, "/d/k/a"), func(o *NameFile) { o.Epoch = 2 }), blocktree.Fenced},
		"another shape":      {owner, with(name(0, "/d/k/a"), func(o *NameFile) { o.SectorBytes = 512 }), blocktree.Invalid},
		"behind its size":    {owner, with(name(0, "/d/k/a"), func(o *NameFile) { o.End = 1<<20 + 1 }), blocktree.Invalid},
		"what it may not do": {owner, with(name(0, "/d/k/a"), func(o *NameFile) { o.Mode = 0o400 }), blocktree.Permission},
		"what is there":      {service, with(name(0, "/d/e/f"), func(o *NameFile) { o.Dir = fileID(2) }), blocktree.Exists},
		"a key that was":     {service, with(name(0, "/d/k/a"), func(o *NameFile) { o.Access, o.Key.At = []byte("keys"), path("/d") }), blocktree.StaleView},
	} {
		before := m.hash()
		if r := m.as(x.by, 7, x.o); r.Kind != x.want || m.hash() != before || r.Kept != (x.o.Session == session(8)) {
			t.Errorf("%s: %v, want %v, a spare yet: %v", what, r.Err("name"), x.want, r.Kept)
		}
	}
	m.mustAs(service, SetAttr{File: k.ID, Mask: AttrMode, Mode: 0o700})
	if r := m.as(somebody(10, 10), 7, name(0, "/d/k/a")); r.Kind != blocktree.Permission {
		t.Errorf("by who may not write there: %v", r.Kind)
	}
	late := NewCommandID()
	copy(late[:], make([]byte, 8))
	if r := m.command(Command{ID: late, Op: name(0, "/d/k/a"), Caller: owner, Time: 7}); r.Kind != blocktree.Busy || r.Kept {
		t.Errorf("a late copy: %v", r.Err("name"))
	}
	i := m.mustAs(owner, name(0, "/d/k/a")).Inode
	if l := m.view().lease(id(0)); i.UID != 7 || i.Mode != 0o640 || i.Length() != 100 || i.Created != 5 || l == nil || l.Session != session(8) {
		t.Errorf("%+v, held by %+v", i, l)
	}
	end := with(name(0, "/d/k/a"), func(o *NameFile) { o.End, o.Release = 200, true })
	for range 2 { // the second finds it done
		if i := m.mustAs(owner, end).Inode; i.Length() != 200 || m.view().lease(id(0)) != nil {
			t.Errorf("%+v", i)
		}
	}
	namedAgain(t, m, owner, end)
	m.mustAs(service, name(1, "/d/k/b"))
	m.mustAs(service, Leave{Session: session(8), Spares: []blocktree.FileID{id(0), id(1), id(2)}})
	if !m.removed(id(0)) || m.removed(id(1)) || !m.removed(id(2)) || m.removed(id(3)) {
		t.Error("the wrong ones are gone")
	}
	m.mustAs(service, CloseSession{session(8)})
	if m.removed(id(1)) || !m.removed(id(3)) || m.view().counts.nameless != 0 {
		t.Error("what has no name goes with its session, and nothing else")
	}
}

// namedAgain asks again for the name of a file that is named, and was released, whatever became of it since: G4 of 0079.
func namedAgain(t *testing.T, m *machine, owner *Caller, end NameFile) {
	t.Helper()
	f, service := end.File, somebody(0, 0)
	m.must(OpenSession{Session: session(6), Principal: owner.Principal, Path: owner.Path})
	later := m.mustAs(owner, Acquire{session(6), f}).Lease
	m.mustAs(owner, SetEnd{File: f, Session: session(6), Epoch: later.Epoch, Was: 200, Bytes: 300})
	for _, o := range []NameFile{end, with(end, func(o *NameFile) { o.Release = false })} { // asked again, by who has heard nothing
		if i := m.mustAs(owner, o).Inode; i.Length() != 300 || m.view().lease(f) == nil {
			t.Errorf("what another wrote since: %+v", i)
		}
	}
	m.mustAs(service, Rename{From: path("/d/k/a"), To: path("/d/k/z"), File: f})
	if r := m.as(owner, 7, end); r.Kind != blocktree.Fenced || r.Kept {
		t.Errorf("what has another name since: %v, %v", r.Err("name"), r.Kept)
	}
	m.mustAs(owner, Release{session(6), f, later.Epoch})
	m.mustAs(service, Unlink{path("/d/k/z"), f, session(8)})
	for range 2 { // kept without a name, and gone
		if r := m.as(owner, 7, end); r.Kind != blocktree.Fenced || r.Kept || m.view().counts.spares != 3 {
			t.Errorf("what was removed since: %v, %v", r.Err("name"), r.Kept)
		}
		m.as(service, 7, Forget{session(8), f})
	}
}

// TestDelegateKept: a directory in which, or beneath which, somebody keeps the names of one does not get a cluster of its own before he has left it; and nobody keeps any where another cluster's entries are.
func TestDelegateKept(t *testing.T) {
	m := founded(t, 3)
	root, first := somebody(0, 0), hostCaller(below(1))
	m.mustAs(root, MakeDir{Path: path("/rack"), Mode: 0o755})
	m.mustAs(root, OpenSession{Session: session(7), Principal: root.Principal, Path: root.Path})
	k := m.mustAs(root, MakeDirKept{MakeDir{Path: path("/rack/k"), Mode: 0o755}, session(7)}).Inode
	m.mustAs(root, PutBelow{below(1)})
	g := m.mustAs(first, AssignGeneration{path("/rack"), below(1).Node}).Generation
	o := Delegate{path("/rack"), g, below(1).Node}
	if r := m.as(first, 2, o); r.Kind != blocktree.Busy || !r.Kept || m.view().counts.wanted != 1 {
		t.Errorf("with a directory beneath that is kept: %v", r.Err("delegate"))
	}
	m.mustAs(root, Leave{Session: session(7), Dirs: []blocktree.FileID{k.ID}})
	m.mustAs(first, o)
	if r := m.as(root, 3, MakeDirKept{MakeDir{Path: path("/rack/l")}, session(7)}); r.Redirect == nil {
		t.Errorf("beneath: %v", r.Err("mkdir"))
	}
	m.mustAs(root, MakeDirKept{MakeDir{Path: path("/kept"), Mode: 0o755}, session(7)})
	m.mustAs(root, CloseSession{session(7)})
}

// TestNameUnderTheKey: a file that is encrypted gets its name only where it is wrapped to what counts by then, by the record that is there.
func TestNameUnderTheKey(t *testing.T) {
	m, _, k := keeping(t)
	service := somebody(0, 0)
	i := m.mustAs(service, spares(8, 1)).Inode
	m.mustAs(somebody(7, 70), Leave{Session: session(7), Dirs: []blocktree.FileID{k.ID}})
	m.mustAs(service, SetAccess{fileID(1), record(1)})
	wrapped := NameFile{Session: session(8), File: i.ID, Epoch: 1, Dir: k.ID, CreateFile: with(coded("/d/k/b", 2, 1), func(o *CreateFile) { o.Mode, o.Access = 0o600, []byte("keys") })}
	for what, key := range map[string]KeyFound{"none": {}, "that of another": {At: path("/d/k")}, "another record": {path("/d"), [sha256.Size]byte{1}}} {
		if r := m.as(service, 8, with(wrapped, func(o *NameFile) { o.Key = key })); r.Kind != blocktree.StaleView {
			t.Errorf("%s: %v", what, r.Kind)
		}
	}
	wrapped.Key = KeyFound{path("/d"), sha256.Sum256(m.view().inode(fileID(1)).Access)}
	if i := m.mustAs(service, wrapped).Inode; string(m.view().inode(i.ID).Access) != "keys" || m.view().counts.nameless != 0 {
		t.Errorf("%+v", i)
	}
}

// TestGuardsRefusalIsNotRemembered: who is refused as somebody else keeps the directory asks again as the same command, which is done once when he has left it, and takes no room of what others are to be told again.
func TestGuardsRefusalIsNotRemembered(t *testing.T) {
	for name, op := range map[string]func(m *machine) Op{
		"remove": func(*machine) Op { return Remove{Path: path("/d/k/f")} },
		"unlink": func(m *machine) Op { return Unlink{path("/d/k/f"), fileAt(t)(m, "/d/k/f"), session(8)} },
		"rename": func(m *machine) Op {
			return Rename{From: path("/d/k/f"), To: path("/d/f"), File: fileAt(t)(m, "/d/k/f")}
		},
		"rename over": func(m *machine) Op {
			return RenameOver{Rename{From: path("/d/k/f"), To: path("/d/f"), File: fileAt(t)(m, "/d/k/f")}, session(8)}
		},
	} {
		m, owner, k := keeping(t)
		m.command(Command{ID: NewCommandID(), Op: coded("/d/k/f", 2, 1), Caller: owner, Time: 2, Keeper: session(7)})
		c, n := Command{ID: NewCommandID(), Op: op(m), Caller: somebody(0, 0), Time: 3}, m.view().counts.nextDone
		for range 3 {
			if r := m.command(c); r.Kind != blocktree.Busy || !r.Kept || m.view().counts.nextDone != n {
				t.Errorf("%s: %v, %d remembered", name, r.Err("op"), m.view().counts.nextDone-n)
			}
		}
		m.mustAs(owner, Leave{Session: session(7), Dirs: []blocktree.FileID{k.ID}})
		for range 2 {
			if r := m.command(c); r.Kind != blocktree.Other {
				t.Errorf("%s when it was left: %v", name, r.Err("op"))
			}
		}
	}
}

// TestAllWantedAreTold: of more wanted directories than one answer tells, each is told of by some answer, also where none of them is left.
func TestAllWantedAreTold(t *testing.T) {
	m, owner, _ := keeping(t)
	const dirs = 2*WantedMax + 3
	for n := range dirs {
		m.mustAs(owner, MakeDirKept{MakeDir{Path: path(fmt.Sprintf("/d/many%d", n)), Mode: 0o700}, session(7)})
		m.as(somebody(0, 0), 3, MakeDir{Path: path(fmt.Sprintf("/d/many%d/x", n))})
	}
	told := map[blocktree.FileID]bool{}
	for id := uint32(1); id <= dirs; id += WantedMax / 2 {
		c := Command{ID: NewCommandID(), Op: RenewSession{session(7)}, Caller: owner, Time: 3}
		binary.BigEndian.PutUint32(c.ID[12:], id)
		r := m.command(c)
		if len(r.Wanted) != WantedMax {
			t.Errorf("%d are told", len(r.Wanted))
		}
		for _, f := range r.Wanted {
			told[f] = true
		}
	}
	if len(told) != dirs {
		t.Errorf("%d of %d are told", len(told), dirs)
	}
}

// TestSparesBound: a session keeps so many spares, and no more, whatever else it keeps without a name; and they take no room of that.
func TestSparesBound(t *testing.T) {
	m, _, _ := keeping(t)
	service := somebody(0, 0)
	for n := range 3 {
		p := fmt.Sprintf("/d/removed%d", n)
		m.mustAs(service, coded(p, 2, 1))
		m.mustAs(service, Unlink{path(p), fileAt(t)(m, p), session(8)})
	}
	for range SparesPerSessionMax / MakeSparesMax {
		m.mustAs(service, spares(8, MakeSparesMax))
	}
	if r := m.as(service, 2, spares(8, 1)); r.Kind != blocktree.Unavailable || m.view().counts.spares != SparesPerSessionMax || m.view().counts.nameless != SparesPerSessionMax+3 {
		t.Errorf("one more: %v, %+v", r.Err("spares"), m.view().counts)
	}
	m.must(CloseSession{session(8)})
	if n := m.view().counts; n.spares != 0 || n.nameless != 0 {
		t.Errorf("its session has ended: %+v", n)
	}
}

// TestKeeperWithoutACaller: what is encoded is decoded, or is refused before it is in the log.
func TestKeeperWithoutACaller(t *testing.T) {
	c := Command{ID: NewCommandID(), Op: MakeDir{Path: path("/d")}, Keeper: session(7), Time: 5}
	if b, err := EncodeCommand(nil, c); blocktree.KindOf(err) != blocktree.Invalid {
		_, err := DecodeCommand(b)
		t.Errorf("a time of nobody is encoded, and then: %v", err)
	}
}

// TestKeptIsSaid: who finds nothing of a name in a directory that another session keeps, or lists one, is told so by each query of which that is the answer; by no other, and of nothing else.
func TestKeptIsSaid(t *testing.T) {
	m, owner, k := keeping(t)
	root := somebody(0, 0)
	m.command(Command{ID: NewCommandID(), Op: coded("/d/k/f", 2, 1), Caller: owner, Time: 2, Keeper: session(7)})
	said := func(c *Caller, kind QueryKind, p, after string) *KeptBy {
		t.Helper()
		a := m.view().judged(Query{Kind: kind, Path: path(p), After: after, Caller: c, Time: 3})
		b := EncodeAnswer(nil, a)
		if got, err := DecodeAnswer(b); err != nil || a.Kept != nil && (*got.Kept != *a.Kept || b[0] != formatAnswer) { // a version before reads it, and takes no notice
			t.Errorf("query %d: %v, format %d", kind, err, b[0])
		}
		return a.Kept
	}
	want, tells := KeptBy{k.ID, session(7), false}, map[QueryKind]bool{QueryStat: true, QueryList: true, QueryAllowed: true, QueryXattrs: true}
	for kind := QueryStat; kind < queryEnd; kind++ { // of each new one it is to be said whether it finds names
		for _, p := range []string{"/d/k/x", "/d/k/x/y"} {
			if got := said(root, kind, p, ""); (got != nil) != tells[kind] || got != nil && *got != want {
				t.Errorf("query %d of %s: %+v", kind, p, got)
			}
		}
		if got := said(root, kind, "/d/k", ""); (got != nil) != (kind == QueryList) || got != nil && *got != want {
			t.Errorf("query %d of the directory: %+v", kind, got)
		}
		for _, p := range []string{"/d/x", "/d", "/d/k/f", "/d/k/f/g", "/d/e/f"} {
			if got := said(root, kind, p, ""); got != nil {
				t.Errorf("query %d of %s: %+v", kind, p, got)
			}
		}
	}
	if got := said(root, QueryXattrs, "/d/k", "user.x"); got != nil {
		t.Errorf("an attribute that is not there: %+v", got)
	}
	m.as(root, 3, Want{k.ID})
	if got := said(root, QueryStat, "/d/k/x", ""); got == nil || !got.Wanted {
		t.Errorf("when somebody wants it: %+v", got)
	}
	m.mustAs(root, SetAttr{File: k.ID, Mask: AttrMode, Mode: 0o700})
	if got := said(somebody(10, 10), QueryStat, "/d/k/x", ""); got != nil {
		t.Errorf("to who is not told what is there: %+v", got)
	}
	m.mustAs(owner, Leave{Session: session(7), Dirs: []blocktree.FileID{k.ID}})
	if got := said(root, QueryList, "/d/k", ""); got != nil {
		t.Errorf("when it was left: %+v", got)
	}
}

// TestWant: who may be told what is in a directory wants it from who keeps it, by one command that is asked for again until it is left; others take it from nobody.
func TestWant(t *testing.T) {
	m, owner, k := keeping(t)
	for what, x := range map[string]struct {
		mode uint32
		want blocktree.Kind
	}{"who may list it": {0o704, blocktree.Busy}, "who may write there": {0o702, blocktree.Busy}, "who may neither": {0o701, blocktree.Permission}} {
		m.mustAs(owner, SetAttr{File: k.ID, Mask: AttrMode, Mode: x.mode})
		before := m.view().counts.wanted
		if r := m.as(somebody(10, 10), 3, Want{k.ID}); r.Kind != x.want || r.Kept != (x.want == blocktree.Busy) || x.want == blocktree.Permission && m.view().counts.wanted != before {
			t.Errorf("%s: %v, kept %v", what, r.Err("want"), r.Kept)
		}
	}
	for mode, want := range map[uint32]blocktree.Kind{0o704: blocktree.Busy, 0o702: blocktree.Permission} { // as they are told
		m.mustAs(owner, SetAttr{File: k.ID, Mask: AttrMode, Mode: mode})
		if r := m.as(&Caller{}, 3, Want{k.ID}); r.Kind != want {
			t.Errorf("somebody without credentials, mode %o: %v", mode, r.Err("want"))
		}
	}
	c := Command{ID: NewCommandID(), Op: Want{k.ID}, Caller: somebody(0, 0), Time: 3}
	n := m.view().counts.nextDone
	for range 2 {
		if r := m.command(c); r.Kind != blocktree.Busy || !r.Kept || m.view().counts.wanted != 1 || m.view().counts.nextDone != n {
			t.Errorf("%v, %+v", r.Err("want"), m.view().counts)
		}
	}
	if r := m.command(Command{ID: NewCommandID(), Op: Want{k.ID}, Caller: owner, Time: 3, Keeper: session(7)}); r.Kind != blocktree.Other || len(r.Wanted) != 1 || r.Wanted[0] != k.ID {
		t.Errorf("by its keeper: %v, wanted %v", r.Err("want"), r.Wanted)
	}
	m.mustAs(owner, Leave{Session: session(7), Dirs: []blocktree.FileID{k.ID}})
	before := m.hash()
	for range 2 {
		if r := m.command(c); r.Kind != blocktree.Other || m.hash() != before {
			t.Errorf("when it was left: %v", r.Err("want"))
		}
	}
	m.mustAs(owner, Want{fileID(1 << 20)}) // what is not there is nobody's
}
