package meta

import (
	"fmt"
	"strings"
	"testing"

	"blocktree"
)

// renameRow is what was done before, a rename, the kind it is answered with and a word of its text or hint.
type renameRow struct {
	name   string
	before []Op
	op     Rename
	kind   blocktree.Kind
	word   string
}

func renameRows() []renameRow {
	// /a is 1, /a/f 2, /a/d 3, /a/d/g 4, /b 5, /b/h 6, /b/empty 7.
	before := []Op{MakeDir{Path: path("/a")}, file("/a/f"), file("/a/d/g"), file("/b/h"), MakeDir{Path: path("/b/empty")}}
	held := then(before, open(1), Acquire{session(1), fileID(6)})
	move := func(from, to string, f, over int) Rename {
		o := Rename{From: path(from), To: path(to), File: fileID(f)}
		if over > 0 {
			o.Over = fileID(over)
		}
		return o
	}
	deep := strings.Repeat("/x", blocktree.PathDepthMax-2)
	return []renameRow{
		{"in its directory", before, move("/a/f", "/a/g", 2, 0), 0, ""},
		{"to another directory", before, move("/a/f", "/b/f", 2, 0), 0, ""},
		{"a directory", before, move("/a/d", "/b/d", 3, 0), 0, ""},
		{"out of its directory", before, move("/a/d/g", "/a/g", 4, 0), 0, ""},
		{"to itself", before, move("/a/f", "/a/f", 2, 2), 0, ""},
		{"over a file", before, move("/a/f", "/b/h", 2, 6), 0, ""},
		{"over an empty directory", before, move("/a/d", "/b/empty", 3, 7), 0, ""},
		{"of one that is held", held, move("/b/h", "/a/h", 6, 0), 0, ""},
		{"over nothing that was there", before, move("/a/f", "/b/new", 2, 6), 0, ""},
		{"of nothing", before, move("/a/no", "/b/h", 2, 6), blocktree.NotFound, "does not exist"},
		{"of another file", before, move("/a/f", "/b/new", 4, 0), blocktree.NotFound, "another file"},
		{"to a directory that is not there", before, move("/a/f", "/no/f", 2, 0), blocktree.NotFound, "/no does not exist"},
		{"through a file", before, move("/a/f", "/b/h/f", 2, 0), blocktree.Invalid, "not a directory"},
		{"over a name that was said to be free", before, move("/a/f", "/b/h", 2, 0), blocktree.Exists, "/b/h"},
		{"over another file", before, move("/a/f", "/b/h", 2, 4), blocktree.StaleView, "another file"},
		{"over a file that is held", held, move("/a/f", "/b/h", 2, 6), blocktree.Busy, "in use"},
		{"a file over a directory", before, move("/a/f", "/b/empty", 2, 7), blocktree.Invalid, "/b/empty/f"},
		{"a directory over a file", before, move("/a/d", "/b/h", 3, 6), blocktree.Invalid, "empty directory"},
		{"over a directory with something in it", before, move("/b/empty", "/a", 7, 1), blocktree.Busy, "not empty"},
		{"over a directory above", before, move("/a/d", "/a", 3, 1), blocktree.Busy, "not empty"},
		{"into itself", before, move("/a", "/a/d/a", 1, 0), blocktree.Invalid, "in /a itself"},
		{"over what is in it", before, move("/a", "/a/d", 1, 3), blocktree.Invalid, "in /a itself"},
		{"beside itself", before, move("/a", "/ab", 1, 0), 0, ""},
		{"the root directory", before, Rename{From: rootDir, To: path("/x"), File: fileID(0)}, blocktree.Invalid, "stays"},
		{"over the root directory", before, Rename{From: path("/a"), To: rootDir, File: fileID(1), Over: fileID(0)}, blocktree.Invalid, "stays"},
		{"outside", before, Rename{From: path("/a"), To: "/other/a", File: fileID(1)}, blocktree.Invalid, "not below"},
		{"to a name that is none", before, move("/a/f", "/b/..", 2, 0), blocktree.Invalid, "not a name"},
		{"too deep", then(before, MakeDir{Path: path(deep), Parents: true}), move("/a", deep+"/a", 1, 0), blocktree.TooLarge, "too deep"},
		{"a directory of runtimes", then(before, PutBelow{with(host(9), func(r *blocktree.Runtime) { r.Path = path("/a/d/n") })}), move("/a", "/c", 1, 0), blocktree.Busy, "/a/d/n"},
		{"over a directory of runtimes", then(before, PutBelow{with(host(9), func(r *blocktree.Runtime) { r.Path = path("/b/empty/n") })}), move("/a/d", "/b/empty", 3, 7), blocktree.Busy, "process records"},
	}
}

// TestRename: what a rename does and refuses, and that a refusal changes nothing.
func TestRename(t *testing.T) {
	for _, x := range renameRows() {
		m := founded(t, 3)
		for _, o := range x.before {
			m.must(o)
		}
		there, hash := names(m), m.hash()
		c := Command{ID: NewCommandID(), Op: x.op}
		r := m.command(c)
		if r.Kind != x.kind || !strings.Contains(r.Text+r.Hint, x.word) {
			t.Errorf("%s: %v, hint %q", x.name, r.Err("rename"), r.Hint)
		}
		if r.Redirect != nil {
			t.Errorf("%s: redirected", x.name)
		}
		want := there
		if x.kind == 0 {
			want = moved(there, x.op)
		}
		if got := names(m); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", x.name, got, want)
		}
		if s := m.view(); int(s.counts.inodes) != len(want)-1 {
			t.Errorf("%s: %d inodes are counted of %d", x.name, s.counts.inodes, len(want)-1)
		}
		hash2 := m.hash()
		if again := m.command(c); again.Kind != x.kind || m.hash() != hash2 {
			t.Errorf("%s: asked again: %v", x.name, again.Kind)
		}
		if x.kind != 0 {
			if m.unremember(); m.hash() != hash {
				t.Errorf("%s: refused, and something changed", x.name)
			}
		}
		m.close()
	}
}

// names is what there is by path, files by their ids.
func names(m *machine) map[string]blocktree.Inode {
	out, s := map[string]blocktree.Inode{"/": RootInode}, m.view()
	var walk func(p blocktree.Path)
	walk = func(p blocktree.Path) {
		entries, _, r := s.list(p, "", 0)
		if r.Kind != 0 {
			m.t.Fatal(r.Err("list"))
		}
		for _, e := range entries {
			out[p.Join(e.Name).Short()] = e.Inode.ID.Inode
			if e.Inode.Kind == KindDir {
				walk(p.Join(e.Name))
			}
		}
	}
	walk(rootDir)
	return out
}

// moved is what there should be after a rename.
func moved(there map[string]blocktree.Inode, o Rename) map[string]blocktree.Inode {
	out := map[string]blocktree.Inode{}
	from, to := o.From.Short(), o.To.Short()
	for p, i := range there {
		if p != to || from == to {
			out[p] = i
		}
	}
	for p, i := range there {
		if strings.HasPrefix(p+"/", from+"/") {
			delete(out, p)
			out[to+p[len(from):]] = i
		}
	}
	return out
}

// TestRenameRecords: each record beneath is the next of its file, or nothing is done.
func TestRenameRecords(t *testing.T) {
	writer := somebody(10, 10)
	of := func(p string, number uint64) CreateFile {
		return with(file(p), func(o *CreateFile) { o.Suite, o.Access = 1, record(number) })
	}
	// /d is 1, /d/a 2, /d/b 3 of format 1, /d/e 4, /d/e/f 5, /d/plain 6
	made := []Op{MakeDir{Path: path("/d")}, of("/d/a", 1), of("/d/b", 0), of("/d/e/f", 1), file("/d/plain"), SetAccess{fileID(1), record(1)}, SetAccess{fileID(5), record(2)}}
	d, a, f := NextRecord{fileID(1), record(2)}, NextRecord{fileID(2), record(2)}, NextRecord{fileID(5), record(3)}
	for name, x := range map[string]struct {
		records []NextRecord
		kind    blocktree.Kind
	}{
		"all":         {[]NextRecord{d, a, f}, 0},
		"none":        {nil, blocktree.StaleView},
		"one lacks":   {[]NextRecord{d, a}, blocktree.StaleView},
		"one more":    {[]NextRecord{d, a, f, {fileID(6), record(1)}}, blocktree.StaleView},
		"twice":       {[]NextRecord{d, a, a}, blocktree.StaleView},
		"another's":   {[]NextRecord{d, a, {fileID(3), record(1)}}, blocktree.StaleView},
		"not the one": {[]NextRecord{d, a, {fileID(5), record(4)}}, blocktree.StaleView},
	} {
		m := founded(t, 3)
		for _, o := range made {
			m.must(o)
		}
		before := m.hash()
		r := m.do(Rename{From: path("/d"), To: path("/x"), File: fileID(1), Records: x.records})
		if r.Kind != x.kind {
			t.Errorf("%s: %v", name, r.Err("rename"))
		}
		if x.kind != 0 { // who may write the directory, and is not told of records that he may not set, is told why he may not
			if m.unremember(); m.hash() != before {
				t.Errorf("%s: refused, and something changed", name)
			}
			m.must(SetAttr{File: fileID(0), Mask: AttrMode, Mode: 0o777})
			if r := m.as(writer, 2, Rename{From: path("/d"), To: path("/x"), File: fileID(1)}); r.Kind != blocktree.Permission {
				t.Errorf("%s: by a writer: %v", name, r.Err("rename"))
			}
			m.close()
			continue
		}
		s := m.view()
		sum := 0
		for n := 1; n <= 6; n++ {
			sum += len(s.inode(fileID(n)).Access)
		}
		if int(s.counts.access) != sum {
			t.Errorf("%s: %d bytes of records are counted, there are %d", name, s.counts.access, sum)
		}
		for _, n := range x.records {
			if got := s.inode(n.File); string(got.Access) != string(n.Access) {
				t.Errorf("%s: the record of %v is another", name, n.File)
			}
		}
		m.close()
	}
}

// TestRenameIsBounded: what is beneath is not more than is looked at in one command.
func TestRenameIsBounded(t *testing.T) {
	m := founded(t, 3)
	m.must(MakeDir{Path: path("/d/sub"), Parents: true})
	for n := range RenameEntriesMax - 1 {
		m.must(MakeDir{Path: path(fmt.Sprintf("/d/sub/%d", n))})
	}
	m.must(Rename{From: path("/d"), To: path("/e"), File: fileID(1)})
	m.must(MakeDir{Path: path("/e/more")})
	if r := m.do(Rename{From: path("/e"), To: path("/d"), File: fileID(1)}); r.Kind != blocktree.TooLarge || r.Hint == "" {
		t.Errorf("%v", r.Err("rename"))
	}
	m.must(Rename{From: path("/e/sub"), To: path("/sub"), File: fileID(2)})
}

// TestRenameIsLate: a copy of a command that comes after others took the names touches nothing of theirs.
func TestRenameIsLate(t *testing.T) {
	m := founded(t, 3)
	m.must(file("/a"))
	late := Rename{From: path("/a"), To: path("/b"), File: fileID(1)}
	m.must(Remove{Path: path("/a")})
	m.must(file("/a"))
	if r := m.do(late); r.Kind != blocktree.NotFound {
		t.Errorf("of another file: %v", r.Kind)
	}
	late.File = fileID(2)
	m.must(file("/b"))
	if r := m.do(late); r.Kind != blocktree.Exists {
		t.Errorf("over a file that came since: %v", r.Kind)
	}
	refused := Command{ID: NewCommandID(), Op: late}
	m.command(refused)
	m.must(Remove{Path: path("/b")})
	if r := m.command(refused); r.Kind != blocktree.Exists || m.view().inode(fileID(2)) == nil {
		t.Errorf("done after it was refused: %v", r.Kind)
	}
}

// TestRenameIsJudged: it takes write on both directories; to get another directory, or another record, admin on what gets it.
func TestRenameIsJudged(t *testing.T) {
	root, owner, writer, stranger := somebody(0, 0), somebody(7, 70), somebody(8, 70), somebody(10, 10)
	// /d and /d/e belong to 7:70, mode 0770, as does /open to all; /own to 8, /closed to 9
	within := Rename{From: path("/d/e/f"), To: path("/d/e/g"), File: fileID(3)}
	out := Rename{From: path("/d/e/f"), To: path("/own/f"), File: fileID(3)}
	for _, x := range []struct {
		name   string
		caller *Caller
		op     Rename
		kind   blocktree.Kind
	}{
		{"in a directory that may be written", writer, within, 0},
		{"in one that may not", stranger, within, blocktree.Permission},
		{"as nobody", &Caller{}, within, blocktree.Permission},
		{"with a record", writer, with(within, func(o *Rename) { o.Records = []NextRecord{{fileID(3), record(1)}} }), blocktree.Permission},
		{"of what a stranger may not know", stranger, with(within, func(o *Rename) { o.From = path("/d/e/no") }), blocktree.Permission},
		{"of nothing", writer, with(within, func(o *Rename) { o.From = path("/d/e/no") }), blocktree.NotFound},
		{"to one's own directory", writer, out, blocktree.Permission},
		{"to one's own directory, with admin", owner, with(out, func(o *Rename) { o.To = path("/open/f") }), 0},
		{"to a closed directory", owner, with(out, func(o *Rename) { o.To = path("/closed/f") }), blocktree.Permission},
		{"to a closed directory that is not there", owner, with(out, func(o *Rename) { o.To = path("/closed/x/f") }), blocktree.Permission},
		{"over what is in a closed directory", owner, with(out, func(o *Rename) { o.To, o.Over = path("/closed/f"), fileID(7) }), blocktree.Permission},
		{"over what is not one's own", owner, with(out, func(o *Rename) { o.To, o.Over = path("/open/h"), fileID(8) }), 0},
		{"user id 0", root, with(out, func(o *Rename) { o.To, o.Over = path("/closed/f"), fileID(7) }), 0},
	} {
		m := granted(t, 0o770, 0o660)
		m.mustAs(root, MakeDir{Path: path("/own"), Mode: 0o700, UID: 8, GID: 8})                // 4
		m.mustAs(root, MakeDir{Path: path("/open"), Mode: 0o777})                               // 5
		m.mustAs(root, MakeDir{Path: path("/closed"), Mode: 0o700, UID: 9, GID: 9})             // 6
		m.mustAs(root, with(file("/closed/f"), func(o *CreateFile) { o.UID = 9 }))              // 7
		m.mustAs(root, with(file("/open/h"), func(o *CreateFile) { o.Mode, o.UID = 0o600, 9 })) // 8
		before := m.hash()
		r := m.as(x.caller, 2, x.op)
		if r.Kind != x.kind || r.Kind == blocktree.Permission && r.Hint == "" {
			t.Errorf("%s: %v, hint %q", x.name, r.Err("rename"), r.Hint)
		}
		if m.unremember(); x.kind != 0 && m.hash() != before {
			t.Errorf("%s: refused, and something changed", x.name)
		}
		m.close()
	}
}

// TestRenameTakesRights: what a grant on the directory before gave is gone with the rename, and the lease that went by it is confirmed no more; what one on the new directory gives is there.
func TestRenameTakesRights(t *testing.T) {
	for _, from := range []string{"/d/e/f", "/d/e"} { // the file, and the directory that it is in
		m := granted(t, 0o755, 0o600)
		root, holder, other := somebody(0, 0), somebody(11, 11), somebody(12, 12)
		m.mustAs(root, MakeDir{Path: path("/to"), Mode: 0o755}) // 4
		m.mustAs(root, PutGrant{fileID(1), grantTo(holder, RightsHold)})
		m.mustAs(root, PutGrant{fileID(4), grantTo(other, RightRead)})
		m.mustAs(holder, OpenSession{Session: session(11), Principal: holder.Principal, Path: holder.Path})
		m.mustAs(holder, Acquire{session(11), fileID(3)})
		number := m.view().counts.rights
		f := m.view().inode(fileID(3)).ID
		if from == "/d/e" {
			f = fileID(2)
		}
		m.mustAs(root, Rename{From: path(from), To: path("/to/x"), File: f})
		s := m.view()
		if s.counts.rights != number+1 || !m.last.Rights {
			t.Errorf("%s: it counts %d changes of rights", from, s.counts.rights-number)
		}
		if i := s.inode(fileID(3)); s.rights(holder, i, 2) != 0 || s.rights(other, i, 2) != RightRead {
			t.Errorf("%s: holder %v, other %v", from, s.rights(holder, i, 2), s.rights(other, i, 2))
		}
		if r := m.mustAs(holder, RenewSession{session(11)}); !r.Claimed || len(r.Firm) != 0 {
			t.Errorf("%s: the lease is confirmed: %+v", from, r)
		}
		m.close()
	}
}

// TestRenameAcrossClusters: what would take two clusters is refused by a kind of its own, and redirected by nothing; what one cluster has is done there.
func TestRenameAcrossClusters(t *testing.T) {
	parent, child := family(t) // /rack is the child's; /rack/f (3) and /rack/sub/g (4) have moved, and are files of the parent
	at := func(m *machine, p string) blocktree.FileID {
		s := m.view()
		l, r := s.follow(s.superblock(), path(p))
		if r.Kind != 0 || len(l.missing) > 0 {
			t.Fatal(p, r.Err("follow"))
		}
		return l.found.file
	}
	child.must(StartNode{Node: below(1).Node, Incarnation: incarnation(9), StartCounter: 1})
	child.must(file("/rack/new"))
	child.must(MakeDir{Path: path("/rack/dir")})
	for _, x := range []struct {
		name     string
		m        *machine
		from, to string
		over     bool
		kind     blocktree.Kind
	}{
		{"into a delegated directory", parent, "/vm/h", "/rack/h", false, blocktree.CrossDevice},
		{"deep into it", parent, "/vm/h", "/rack/sub/h", false, blocktree.CrossDevice},
		{"over a delegated directory", parent, "/vm", "/rack", true, blocktree.Busy},
		{"a delegated directory", parent, "/rack", "/rock", false, blocktree.Busy},
		{"out of it", child, "/rack/new", "/vm/new", false, blocktree.CrossDevice},
		{"over the child's own directory", child, "/rack/new", "/rack", false, blocktree.CrossDevice},
		{"a file that has moved", child, "/rack/f", "/rack/f2", false, blocktree.CrossDevice},
		{"over a file that has moved", child, "/rack/new", "/rack/f", true, blocktree.CrossDevice},
		{"a directory with a file that has moved", child, "/rack/sub", "/rack/sub2", false, blocktree.CrossDevice},
		{"within the child", child, "/rack/new", "/rack/dir/new", false, 0},
	} {
		o := Rename{From: path(x.from), To: path(x.to), File: at(x.m, x.from)}
		if x.over {
			o.Over = at(x.m, x.to)
		}
		r := x.m.do(o)
		if r.Kind != x.kind || r.Redirect != nil || r.Kind == blocktree.CrossDevice && r.Hint == "" {
			t.Errorf("%s: %v, hint %q, %+v", x.name, r.Err("rename"), r.Hint, r.Redirect)
		}
	}
	writer := somebody(8, 8)
	child.must(PutGrant{at(child, "/rack"), grantTo(writer, RightWrite)})
	o := Rename{From: path("/rack/sub"), To: path("/rack/sub2"), File: at(child, "/rack/sub")}
	child.must(SetAttr{File: o.File, Mask: AttrMode, Mode: 0o700})
	for _, want := range []bool{false, true} {
		if r := child.as(writer, 2, o); r.Kind != blocktree.CrossDevice || strings.Contains(r.Text, "keeps g,") != want {
			t.Errorf("to who may list it: %v, it says %q", want, r.Text)
		}
		child.must(PutGrant{o.File, grantTo(writer, RightList)})
	}
}

// TestFirstRecordOfALongDirectory: also in a directory with more entries than anybody looks through the first record that names a path names the one that it has.
func TestFirstRecordOfALongDirectory(t *testing.T) {
	m := founded(t, 3)
	m.must(MakeDir{Path: path("/d"), Mode: 0o755})
	w := m.db.NewIndexedBatch()
	s := openState(w, w, spaceA)
	for n := range pathOfEntriesMax + 1 {
		s.setEntry(2, fmt.Sprintf("a%d", n), entry{file: blocktree.FileID{Generation: 9, Inode: blocktree.Inode(n + 1)}, kind: KindFile})
	}
	if err := w.Commit(nil); err != nil {
		t.Fatal(err)
	}
	f := m.must(MakeDir{Path: path("/d/m"), Mode: 0o755}).Inode.ID
	m.must(Rename{From: path("/d/m"), To: path("/d/z"), File: f})
	if r := m.do(SetAccess{f, recordOf("/d/m", 1)}); r.Kind != blocktree.StaleView || r.Hint == "" {
		t.Errorf("the first record, of its old name: %v", r.Err("access"))
	}
	m.must(SetAccess{f, recordOf("/d/z", 1)})
}
