package meta

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"blocktree"
	"blocktree/internal/wire"
)

// times are when something was modified and when it changed.
func (m *machine) times(p string) [2]int64 {
	m.t.Helper()
	i, r := m.view().stat(path(p))
	if r.Kind != blocktree.Other {
		m.t.Fatal(r.Err(p))
	}
	return [2]int64{i.Modified, i.ChangedAt()}
}

// TestTouch: the holder of a file says when it wrote last, while it holds it and may, and no later than now; nobody else does, and a release says it once for all.
func TestTouch(t *testing.T) {
	m := granted(t, 0o755, 0o600)
	f, owner, stranger := fileID(3), somebody(7, 70), somebody(10, 10)
	m.mustAs(owner, OpenSession{Session: session(7), Principal: owner.Principal, Path: owner.Path})
	e := m.mustAs(owner, Acquire{session(7), f}).Lease.Epoch
	for _, x := range []struct {
		by       *Caller
		op       Op
		now      int64
		want     blocktree.Kind
		modified int64
		changed  int64
	}{
		{owner, Touch{session(7), f, e, 90}, 100, 0, 90, 100},
		{owner, Touch{session(7), f, e, 300}, 200, 0, 200, 200},
		{owner, Touch{session(7), f, e + 1, 210}, 220, blocktree.Fenced, 200, 200},
		{owner, Touch{session(8), f, e, 210}, 220, blocktree.Fenced, 200, 200},
		{stranger, Touch{session(7), f, e, 210}, 220, blocktree.Permission, 200, 200},
		{somebody(0, 0), Touch{session(7), fileID(2), e, 210}, 220, blocktree.NotFound, 200, 200},
		{owner, ReleaseAt{Release{session(7), f, e + 1}, 220}, 230, blocktree.Fenced, 200, 200},
		{owner, ReleaseAt{Release{session(7), f, e}, 225}, 230, 0, 225, 230},
		{owner, ReleaseAt{Release{session(7), f, e}, 235}, 240, blocktree.Fenced, 225, 230},
		{owner, Touch{session(7), f, e, 235}, 240, blocktree.Fenced, 225, 230},
	} {
		if r := m.as(x.by, x.now, x.op); r.Kind != x.want {
			t.Errorf("%+v: %v, want %v", x.op, r.Err("op"), x.want)
		}
		if got := m.times("/d/e/f"); got != [2]int64{x.modified, x.changed} {
			t.Errorf("after %+v: %v", x.op, got)
		}
	}
	// Who may not hold the file any more gives it back, and says nothing of it.
	e = m.mustAs(owner, Acquire{session(7), f}).Lease.Epoch
	m.must(SetAttr{File: f, Mask: AttrOwner, UID: 8, GID: 80})
	if r := m.as(owner, 300, ReleaseAt{Release{session(7), f, e}, 290}); r.Kind != blocktree.Other || m.times("/d/e/f")[0] != 225 {
		t.Errorf("%v, %v", r.Kind, m.times("/d/e/f"))
	}
	if m.view().lease(f) != nil {
		t.Error("it has the lease yet")
	}
}

// TestTouchIsDoneAgain: one that comes twice is done twice, and neither is remembered.
func TestTouchIsDoneAgain(t *testing.T) {
	m := granted(t, 0o755, 0o600)
	f, owner := fileID(3), somebody(7, 70)
	m.mustAs(owner, OpenSession{Session: session(7), Principal: owner.Principal, Path: owner.Path})
	e := m.mustAs(owner, Acquire{session(7), f}).Lease.Epoch
	c, before := Command{ID: NewCommandID(), Op: Touch{session(7), f, e, 50}, Caller: owner, Time: 60}, m.view().counts.nextDone
	for range 2 {
		if r := m.command(c); r.Kind != blocktree.Other {
			t.Fatal(r.Err("touch"))
		}
	}
	if n := m.view().counts.nextDone; n != before {
		t.Errorf("%d commands are remembered, %d before", n, before)
	}
}

// TestSetTimes: the owner says any time, who may write that it is now, a stranger nothing.
func TestSetTimes(t *testing.T) {
	m := granted(t, 0o755, 0o620)
	f, owner, writer, stranger := fileID(3), somebody(7, 70), somebody(11, 70), somebody(10, 10)
	for n, x := range []struct {
		by   *Caller
		op   SetTimes
		want blocktree.Kind
		then [2]int64
	}{
		{owner, SetTimes{File: f, Modified: -5}, 0, [2]int64{-5, 100}},
		{writer, SetTimes{File: f, Modified: 7}, blocktree.Permission, [2]int64{-5, 100}},
		{writer, SetTimes{File: f, Now: true, Modified: 7}, 0, [2]int64{102, 102}},
		{stranger, SetTimes{File: f, Now: true}, blocktree.Permission, [2]int64{102, 102}},
		{owner, SetTimes{File: f, Modified: 1 << 60}, 0, [2]int64{1 << 60, 104}},
		{owner, SetTimes{File: fileID(99), Modified: 7}, blocktree.NotFound, [2]int64{1 << 60, 104}},
	} {
		if r := m.as(x.by, 100+int64(n), x.op); r.Kind != x.want {
			t.Errorf("%+v: %v, want %v", x.op, r.Err("op"), x.want)
		}
		if got := m.times("/d/e/f"); got != x.then {
			t.Errorf("after %+v: %v, want %v", x.op, got, x.then)
		}
	}
	if r := m.as(writer, 110, SetAttr{File: f, Mask: AttrModified, Modified: 7}); r.Kind != blocktree.Permission { // by no other command either
		t.Errorf("who may write says any time: %v, %v", r.Kind, m.times("/d/e/f"))
	}
}

// TestChangesAreNoted: from the first command on that versions before do not know, and that is done, every change of an inode, its grants or its name is noted, and what is made in a directory, or taken out of it, modifies that; before it nothing is, so that members of
// two versions have one state, and one without the new commands is what a version before reads.
func TestChangesAreNoted(t *testing.T) {
	root, m := somebody(0, 0), granted(t, 0o755, 0o600)
	f := fileID(3)
	old := m.view().counts
	m.as(root, 50, SetAttr{File: f, Mask: AttrMode, Mode: 0o640})
	m.as(root, 51, MakeDir{Path: path("/d/before"), Mode: 0o755})
	if r := m.as(root, 52, SetTimes{File: fileID(99)}); r.Kind != blocktree.NotFound || m.view().counts.times {
		t.Errorf("a command that was refused: %v, %t", r.Kind, m.view().counts.times)
	}
	for _, p := range []string{"/d", "/d/e", "/d/e/f"} {
		if i, _ := m.view().stat(path(p)); i.Changed != 0 || i.ChangedAt() != i.Modified || i.Modified >= 50 {
			t.Errorf("%s: %+v", p, i)
		}
	}
	if old.times {
		t.Fatal("it is noted from the start")
	}
	m.as(root, 60, SetTimes{File: f, Modified: 5})
	record, id := []byte("opaque"), session(1)
	m.mustAs(root, OpenSession{Session: id, Principal: root.Principal, Path: root.Path})
	for n, x := range []struct {
		op       Op
		path     string
		modified bool // else it has only changed
	}{
		{SetAttr{File: f, Mask: AttrMode, Mode: 0o600}, "/d/e/f", false},
		{SetAttr{File: f, Mask: AttrAccess, Access: record}, "/d/e/f", false},
		{PutGrant{f, grantTo(somebody(10, 10), RightRead)}, "/d/e/f", false},
		{RemoveGrant{f, Subject{Principal: somebody(10, 10).Principal}}, "/d/e/f", false},
		{SetXattr{File: f, Name: "user.x"}, "/d/e/f", false},
		{SetLength{File: f, Bytes: 5, Time: 10}, "/d/e/f", false},
		{SetLength{File: f, Bytes: 5, Time: 1 << 60}, "/d/e/f", true}, // none is of the future
		{MakeDir{Path: path("/d/e/g"), Mode: 0o755}, "/d/e", true},
		{with(file("/d/e/h"), func(o *CreateFile) { o.Time = 3 }), "/d/e", true},
		{Symlink{Path: path("/d/e/l"), Target: "f"}, "/d/e", true},
		{Remove{Path: path("/d/e/g")}, "/d/e", true},
		{Rename{From: path("/d/e/l"), To: path("/d/l"), File: fileID(0)}, "/d/e", true},
		{Rename{From: path("/d/l"), To: path("/d/e/l"), File: fileID(0)}, "/d/e", true},
		{Rename{From: path("/d/e/l"), To: path("/d/e/k"), File: fileID(0)}, "/d/e/k", false},
	} {
		if o, ok := x.op.(Rename); ok {
			i, _ := m.view().stat(o.From)
			o.File = i.ID
			x.op = o
		}
		now := int64(100 + n)
		if r := m.as(root, now, x.op); r.Kind != blocktree.Other {
			t.Fatalf("%T: %v", x.op, r.Err("op"))
		}
		if got := m.times(x.path); got[1] != now || (got[0] == now) != x.modified {
			t.Errorf("%T: %s is of %v, want %d", x.op, x.path, got, now)
		}
	}
	before := m.times("/d/e/f")
	m.must(SetAttr{File: f, Mask: AttrMode, Mode: 0o640}) // the cluster's own, of no time
	if got := m.times("/d/e/f"); got != before {
		t.Errorf("a command without a time: %v, was %v", got, before)
	}
}

// TestAttributesAreNotForVersionsBefore: where nothing of it is, a state is written as ever; where something is, the counters and the inode are refused by a version before.
func TestAttributesAreNotForVersionsBefore(t *testing.T) {
	m := granted(t, 0o755, 0o600)
	long := func() int {
		v, _ := m.view().get(kindCounters, nil)
		return len(v)
	}
	plain := long()
	m.must(SetTimes{File: fileID(3), Modified: 9})
	if long() <= plain {
		t.Error("the counters are read by a version before")
	}
	for _, i := range []Inode{{ID: fileID(1), Kind: KindFile, Changed: 1}, {ID: fileID(1), Kind: KindDir, Changed: -1, Xattrs: someXattrs()}, {ID: fileID(1), Kind: KindLink, Target: "x"}} {
		var e wire.Encoder
		putInode(&e, &i)
		if kind := e.Buf[16] &^ (accessFlag | lengthFlag | delegatedFlag); kind == uint8(KindDir) || kind == uint8(KindFile) || kind == uint8(kindCheckedFile) {
			t.Errorf("%+v has kind %d, which a version before reads", i, kind)
		}
		d := wire.NewDecoder(e.Buf)
		if got := getInode(d); d.Finish() != nil || !reflect.DeepEqual(*got, i) {
			t.Errorf("%+v became %+v, %v", i, got, d.Err())
		}
	}
}

// TestSymlink: a link is made by who may write its directory, is told of to who may list that, and goes as a file does; nothing goes through it, nobody holds it, and it has no keys and no attributes.
func TestSymlink(t *testing.T) {
	m := granted(t, 0o750, 0o600)
	owner, group, stranger := somebody(7, 70), somebody(11, 70), somebody(10, 10)
	l := path("/d/e/l")
	for _, x := range []struct {
		by   *Caller
		op   Symlink
		want blocktree.Kind
	}{
		{stranger, Symlink{Path: l, Target: "f"}, blocktree.Permission},
		{owner, Symlink{Path: l, Target: ""}, blocktree.Invalid},
		{owner, Symlink{Path: l, Target: "a\x00b"}, blocktree.Invalid},
		{owner, Symlink{Path: l, Target: "\xff"}, blocktree.Invalid},
		{owner, Symlink{Path: path("/d/e/none/l"), Target: "f"}, blocktree.NotFound},
		{owner, Symlink{Path: path("/d/e/f"), Target: "f"}, blocktree.Exists},
		{owner, Symlink{Path: l, Target: strings.Repeat("t", blocktree.LinkBytesMax), Time: 9}, 0},
		{owner, Symlink{Path: l, Target: "f"}, blocktree.Exists},
	} {
		if x.by == owner {
			x.by = somebody(0, 0) // /d/e is not its own
		}
		if r := m.as(x.by, 2, x.op); r.Kind != x.want {
			t.Errorf("%.40q: %v, want %v", x.op.Target, r.Err("symlink"), x.want)
		}
	}
	i, _ := m.view().stat(l)
	if i.Kind != KindLink || i.Length() != blocktree.LinkBytesMax || i.Modified != 9 || m.view().counts.access != blocktree.LinkBytesMax {
		t.Errorf("%+v, %d bytes", i.Kind, m.view().counts.access)
	}
	for what, x := range map[string]struct {
		by   *Caller
		want blocktree.Kind
	}{"who may list": {group, 0}, "a stranger": {stranger, blocktree.Permission}, "nobody": {&Caller{}, blocktree.Permission}} {
		if a := m.view().judged(Query{Kind: QueryStat, Path: l, Caller: x.by, Time: 2}); a.Kind != x.want {
			t.Errorf("%s is told %v, want %v", what, a.Kind, x.want)
		}
	}
	root := somebody(0, 0)
	m.mustAs(root, OpenSession{Session: session(1), Principal: root.Principal, Path: root.Path})
	for _, x := range []struct {
		op   Op
		want blocktree.Kind
	}{
		{MakeDir{Path: l.Join("x")}, blocktree.Invalid}, {Acquire{session(1), i.ID}, blocktree.NotFound}, {SetLength{File: i.ID, Bytes: 1}, blocktree.Invalid}, {SetAccess{i.ID, record(1)}, blocktree.Invalid},
		{SetAttr{File: i.ID, Mask: AttrAccess, Access: []byte("x")}, blocktree.Invalid}, {SetXattr{File: i.ID, Name: "user.x"}, blocktree.Invalid}, {Resize{File: i.ID, SizeBytes: 4096}, blocktree.NotFound},
		{MakeDir{Path: l, Parents: true}, blocktree.Exists}, {Rename{From: path("/d/e"), To: l, File: fileID(2), Over: i.ID}, blocktree.Invalid},
	} {
		if r := m.as(root, 3, x.op); r.Kind != x.want {
			t.Errorf("%T of a link: %v, want %v", x.op, r.Err("op"), x.want)
		}
	}
	m.mustAs(root, Rename{From: l, To: path("/d/l2"), File: i.ID})
	m.mustAs(root, Symlink{Path: l, Target: "f"})
	over, _ := m.view().stat(path("/d/l2"))
	short, _ := m.view().stat(l)
	m.mustAs(root, Rename{From: l, To: path("/d/l2"), File: short.ID, Over: over.ID})
	if got, _ := m.view().stat(path("/d/l2")); got.Target != "f" || m.view().counts.access != 1 {
		t.Errorf("%+v, %d bytes", got, m.view().counts.access)
	}
	m.mustAs(root, Remove{Path: path("/d/l2")})
	if s := m.view(); s.counts.access != 0 || s.inode(short.ID) != nil {
		t.Errorf("something is left of a removed link: %+v", s.counts)
	}
	if got := len(m.last.Removed); got != 0 {
		t.Errorf("members are told to remove %d files", got)
	}
}

// TestXattrs: attributes are set by who may write and read by who may read, as bytes, within their bounds, and are gone with what has them.
func TestXattrs(t *testing.T) {
	m := granted(t, 0o755, 0o640)
	f, owner, reader, stranger := fileID(3), somebody(7, 70), somebody(11, 70), somebody(10, 10)
	for n, x := range []struct {
		by   *Caller
		op   SetXattr
		want blocktree.Kind
	}{
		{owner, SetXattr{f, "user.a", []byte("1"), XattrReplace}, blocktree.NotFound},
		{owner, SetXattr{f, "user.a", []byte("1"), XattrCreate}, 0},
		{owner, SetXattr{f, "user.a", []byte("2"), XattrCreate}, blocktree.Exists},
		{owner, SetXattr{f, "user.a", []byte("33"), XattrReplace}, 0},
		{reader, SetXattr{f, "user.a", []byte("4"), XattrSet}, blocktree.Permission},
		{reader, SetXattr{f, "user.a", nil, XattrRemove}, blocktree.Permission},
		{owner, SetXattr{f, "user.b", nil, XattrSet}, 0},
		{owner, SetXattr{f, "user.c", nil, XattrRemove}, blocktree.NotFound},
		{owner, SetXattr{f, "user.b", nil, XattrRemove}, 0},
		{owner, SetXattr{f, "security.a", nil, XattrSet}, blocktree.Invalid},
		{owner, SetXattr{f, "user.", nil, XattrSet}, blocktree.Invalid},
		{owner, SetXattr{f, "user.a\x00", nil, XattrSet}, blocktree.Invalid},
		{owner, SetXattr{f, "user.big", make([]byte, blocktree.XattrsBytesMax-len("user.a33user.big")+1), XattrSet}, blocktree.NoSpace},
		{owner, SetXattr{f, "user.big", make([]byte, blocktree.XattrsBytesMax-len("user.a33user.big")), XattrSet}, 0},
		{owner, SetXattr{f, "user.more", nil, XattrSet}, blocktree.NoSpace},
		{owner, SetXattr{f, "user.big", nil, XattrRemove}, 0},
		{owner, SetXattr{fileID(99), "user.a", nil, XattrSet}, blocktree.NotFound},
	} {
		if r := m.as(x.by, int64(100+n), x.op); r.Kind != x.want || r.Kind == blocktree.NoSpace && r.Hint == "" {
			t.Errorf("%d: %s: %v, want %v", n, x.op.Name, r.Err("op"), x.want)
		}
	}
	ask := func(c *Caller, p blocktree.Path, name string) Answer {
		return m.view().judged(Query{Kind: QueryXattrs, Path: p, After: name, Caller: c, Time: 2})
	}
	if a := ask(reader, path("/d/e/f"), ""); a.Kind != 0 || !reflect.DeepEqual(a.Xattrs, []Xattr{{"user.a", []byte("33")}}) || a.Inode != nil {
		t.Errorf("%+v", a)
	}
	if a := ask(reader, path("/d/e/f"), "user.b"); a.Kind != blocktree.NotFound {
		t.Errorf("one that was removed: %+v", a)
	}
	for _, c := range []*Caller{stranger, {}} {
		if a := ask(c, path("/d/e/f"), "user.b"); a.Kind != blocktree.Permission || a.Xattrs != nil {
			t.Errorf("a stranger is told %+v", a)
		}
	}
	if a := m.view().judged(Query{Kind: QueryXattrs, File: f, Caller: stranger, Time: 2}); a.Kind != blocktree.Permission || a.Xattrs != nil {
		t.Errorf("a stranger is told %+v of the file by its id", a)
	}
	m.must(SetXattr{fileID(2), "user.d", []byte("dir"), XattrSet})
	if a := ask(stranger, path("/d/e"), "user.d"); a.Kind != 0 || len(a.Xattrs) != 1 {
		t.Errorf("of a directory, who may list it: %+v", a)
	}
	for n := range blocktree.XattrsMax - 1 {
		m.must(SetXattr{f, fmt.Sprintf("user.n%d", n), nil, XattrSet})
	}
	if r := m.do(SetXattr{f, "user.z", nil, XattrSet}); r.Kind != blocktree.NoSpace {
		t.Errorf("one too many: %v", r.Kind)
	}
	m.must(Remove{Path: path("/d/e/f")})
	m.must(Remove{Path: path("/d/e")})
	n := 0
	m.view().scan(kindXattr, nil, nil, func(_, _ []byte) bool { n++; return true })
	if n != 0 || m.view().counts.access != 0 {
		t.Errorf("%d attributes and %d bytes are left", n, m.view().counts.access)
	}
}

// TestAttributesMoveOver: what a directory's cluster takes over has its times, links and attributes; the parent keeps none of them, and the sums of both are the same.
func TestAttributesMoveOver(t *testing.T) {
	parent, root := racked(t), somebody(0, 0)
	sub := fileID(2)
	parent.as(root, 70, Symlink{Path: path("/rack/sub/l"), Target: "g", Time: 69})
	parent.as(root, 71, SetXattr{sub, "user.x", []byte("v"), XattrSet})
	l, _ := parent.view().stat(path("/rack/sub/l"))
	parent.as(root, 72, PutGrant{l.ID, grantTo(somebody(10, 10), RightRead)})
	parent.as(root, 73, SetTimes{File: sub, Modified: 5})
	delegateTo(parent)
	child := childOf(t, parent)
	takeAll(t, parent, child, path("/rack"), 1)
	if a, b := parent.view().entriesSum(1+RootInode, path("/rack")), child.view().entriesSum(RootInode, path("/rack")); a != b {
		t.Errorf("%+v was taken as %+v", a, b)
	}
	child.must(EndTaking{})
	child.must(EndTaking{Answer: true})
	parent.mustAs(hostCaller(below(1)), HandOver{path("/rack"), 2})
	parent.mustAs(hostCaller(below(1)), DropMoved{path("/rack"), 2})
	if got := child.times("/rack/sub"); got != [2]int64{5, 73} {
		t.Errorf("the directory is of %v", got)
	}
	got, r := child.view().stat(path("/rack/sub/l"))
	if r.Kind != 0 || got.Kind != KindLink || got.Target != "g" || got.Modified != 69 || got.ChangedAt() != 72 || got.ID.Generation != 2 || child.view().granted(got.ID.Inode) == nil {
		t.Errorf("the link: %+v, %v", got, r.Kind)
	}
	d, _ := child.view().stat(path("/rack/sub"))
	if xs := child.view().xattrs(d.ID.Inode); !reflect.DeepEqual(xs, []Xattr{{"user.x", []byte("v")}}) || child.view().counts.access != uint64(len("guser.xv")) || !child.view().counts.times {
		t.Errorf("%v, %+v", xs, child.view().counts)
	}
	if s := parent.view(); s.counts.access != 0 || len(s.xattrs(sub.Inode)) != 0 || s.inode(l.ID) != nil {
		t.Errorf("the parent has something yet: %+v", s.counts)
	}
}

// TestMovedXattrs: a copy gets the attributes of its file as long as it is not adopted, by user id 0 alone, and what it has is replaced.
func TestMovedXattrs(t *testing.T) {
	parent, child := mover(t)
	to, copyEpoch, epoch := begun(parent, child, session(1))
	for _, xs := range [][]Xattr{someXattrs(), {{"user.c", []byte("w")}}} {
		child.mustAs(admin(), PutXattrs{to, xs})
		if got := child.view().xattrs(to.Inode); !reflect.DeepEqual(got, xs) || child.view().counts.access != uint64(xattrBytes(xs)) {
			t.Errorf("%v, %d bytes", got, child.view().counts.access)
		}
	}
	parent.mustAs(admin(), Depart{session(1), fileID(3), epoch, to, copyEpoch})
	child.as(admin(), 80, Adopt{Session: session(1), File: to, Epoch: copyEpoch, From: fileID(3), Path: path("/rack/f"), Mode: 0o600, Modified: 7})
	if got := child.times("/rack/f"); got != [2]int64{7, 80} {
		t.Errorf("adopted: %v", got)
	}
	if r := child.as(admin(), 81, PutXattrs{to, nil}); r.Kind != blocktree.Invalid {
		t.Errorf("of a file that was adopted: %v", r.Kind)
	}
}
