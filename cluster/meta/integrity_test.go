package meta

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/tree"
	"blocktree/internal/wire"
)

// treeFile makes /vm/disk0 a tree file: inode 2, with its companion 3.
func treeFile() CreateTreeFile {
	shape := tree.NewShape(file("/vm/disk0").SizeBytes / 4096)
	return CreateTreeFile{file("/vm/disk0"), stripe.DurabilityFlush, shape.Bytes()}
}

// integrityRows are of tree files and their anchors.
func integrityRows() []opRow {
	made := []Op{treeFile()}
	held := then(made, open(1), open(2), Acquire{session(1), fileID(2)}, Acquire{session(1), fileID(3)})
	f, first := fileID(2), Anchor{session(1), fileID(2), 1, 1, []byte("one")}
	number := func(n uint64) Anchor { return Anchor{session(1), f, 1, n, []byte("r")} }
	return []opRow{
		{"tree", nil, treeFile(), 0, ""},
		{"tree twice", made, treeFile(), blocktree.Exists, ""},
		{"tree of no pages", nil, with(treeFile(), func(o *CreateTreeFile) { o.TreeBytes = 0 }), blocktree.Invalid, "multiple"},
		{"tree with odd pages", nil, with(treeFile(), func(o *CreateTreeFile) { o.TreeBytes++ }), blocktree.Invalid, "multiple"},
		{"tree of a wild code", nil, with(treeFile(), func(o *CreateTreeFile) { o.Code.Data = 99 }), blocktree.Invalid, "16+4"},
		{"tree resized as of before", made, Resize{File: f, Seq: 1, SizeBytes: 1 << 40}, blocktree.Unsupported, "integrity tree"},
		{"companion resized", made, Resize{File: fileID(3), Seq: 1, SizeBytes: 1 << 40}, blocktree.Unsupported, "pages"},
		{"companion resized as a tree", made, ResizeTree{Resize{File: fileID(3), Seq: 1, SizeBytes: 1 << 40}}, blocktree.Invalid, "no file of integrity tree"},
		{"plain file resized as a tree", oneFile(), ResizeTree{Resize{File: f, Seq: 1, SizeBytes: 1 << 40}}, blocktree.Invalid, "no file of integrity tree"},
		{"tree grown", made, ResizeTree{Resize{File: f, Seq: 1, SizeBytes: 1 << 40}}, 0, ""},
		{"tree grown, stale", made, ResizeTree{Resize{File: f, Seq: 9, SizeBytes: 1 << 40}}, blocktree.StaleView, ""},
		{"tree made smaller", held, ResizeTree{Resize{File: f, Seq: 2, SizeBytes: 4096, Session: session(1), Epoch: 1}}, 0, ""},
		{"tree made smaller by nobody", made, ResizeTree{Resize{File: f, Seq: 1, SizeBytes: 4096}}, blocktree.Fenced, "lease"},
		{"tree removed", made, Remove{Path: path("/vm/disk0")}, 0, ""},
		{"tree removed while its companion is held", then(made, open(1), Acquire{session(1), fileID(3)}), Remove{Path: path("/vm/disk0")}, blocktree.Busy, "/client1"},
		{"anchor", held, first, 0, ""},
		{"anchor the next", then(held, first), number(2), 0, ""},
		{"anchor again", then(held, first), number(1), blocktree.StaleView, "newest is 1"},
		{"anchor too far", held, number(2), blocktree.StaleView, "newest is 0"},
		{"anchor another's", held, with(first, func(o *Anchor) { o.Session = session(2) }), blocktree.Fenced, ""},
		{"anchor of another epoch", held, with(first, func(o *Anchor) { o.Epoch = 2 }), blocktree.Fenced, ""},
		{"anchor after the lease", then(held, Release{session(1), f, 1}), first, blocktree.Fenced, ""},
		{"anchor nothing", held, with(first, func(o *Anchor) { o.Record = nil }), blocktree.Invalid, ""},
		{"anchor of a companion", held, with(first, func(o *Anchor) { o.File = fileID(3) }), blocktree.Invalid, ""},
		{"anchor of no file", held, with(first, func(o *Anchor) { o.File = fileID(9) }), blocktree.NotFound, ""},
		{"anchor of a plain file", then(oneFile(), open(1), Acquire{session(1), f}), first, blocktree.Invalid, ""},
	}
}

// TestTreeFile: both files are made and removed together, and whoever is told of layouts hears of both.
func TestTreeFile(t *testing.T) {
	m := founded(t, 3)
	before := m.hash()
	inodes := m.view().counts.inodes
	r := m.must(treeFile())
	i := m.view().inode(r.Inode.ID)
	if i.Integrity != IntegrityTree || i.companion() != fileID(3) || len(m.last.Layouts) != 2 || m.view().counts.inodes != inodes+3 {
		t.Fatalf("%+v, %d layouts", i, len(m.last.Layouts))
	}
	c := m.view().inode(i.companion())
	if want := i.CompanionInode(); c.ID != want.ID || c.SizeBytes != want.SizeBytes || c.SectorBytes != want.SectorBytes || c.Code != want.Code || c.Integrity != IntegrityCompanion || c.Companion != i.ID.Inode {
		t.Errorf("companion %+v, as it is opened %+v", c, want)
	}
	l, lc := m.view().layout(i.ID), m.view().layout(c.ID)
	if !slices.Equal(l.Hosts, lc.Hosts) || lc.Durability != stripe.DurabilityFlush || l.Durability != stripe.DurabilityFlush {
		t.Errorf("layouts %+v and %+v", l, lc)
	}
	m.must(Remove{Path: path("/vm/disk0")})
	if len(m.last.Removed) != 2 || m.view().inode(c.ID) != nil || m.view().layout(c.ID) != nil || m.view().counts.inodes != inodes+1 {
		t.Errorf("removed %v, companion %v", m.last.Removed, m.view().inode(c.ID))
	}
	m.must(Remove{Path: path("/vm")})
	if m.view().counts.inodes != inodes || m.hash() == before { // numbers of inodes are not used twice
		t.Error("counters")
	}
}

// TestCompanionGrows: the companion has room for the pages of every size that its file ever has, and who is told of layouts hears of both.
func TestCompanionGrows(t *testing.T) {
	m := founded(t, 3)
	i := m.must(treeFile()).Inode
	m.must(open(1))
	m.must(Acquire{session(1), i.ID})
	for _, bytes := range []uint64{1 << 40, 4096, 1 << 30, 1 << 41, blocktree.FileBytesMax} {
		was, grown := m.view().inode(i.companion()).SizeBytes, m.view().inode(i.ID).SizeBytes < bytes
		m.must(ResizeTree{Resize{File: i.ID, Seq: m.view().layout(i.ID).Seq, SizeBytes: bytes, Session: session(1), Epoch: 1}})
		c, l := m.view().inode(i.companion()), m.view().layout(i.companion())
		if now := m.view().inode(i.ID).SizeBytes; now != bytes || c.SizeBytes != l.Size()*tree.PageBytes || c.SizeBytes < was || grown && c.SizeBytes < tree.GrownBytes(bytes/4096) {
			t.Errorf("%d bytes, now %d: the companion has %d, was %d, %d pages", bytes, now, c.SizeBytes, was, l.Size())
		}
		if want := 1; len(m.last.Layouts) < want || c.SizeBytes > was && len(m.last.Layouts) != 2 {
			t.Errorf("%d layouts are told of", len(m.last.Layouts))
		}
	}
}

// TestAnchorIsKept: an anchor survives other changes of the inode, is not in listings, and a retry of its command is no second one.
func TestAnchorIsKept(t *testing.T) {
	m := founded(t, 3)
	f := m.must(treeFile()).Inode.ID
	m.must(open(1))
	m.must(Acquire{session(1), f})
	c := Command{ID: NewCommandID(), Op: Anchor{session(1), f, 1, 1, []byte("one")}}
	for range 2 {
		if r := m.command(c); r.Kind != blocktree.Other {
			t.Fatal(r.Err("anchor"))
		}
	}
	m.must(SetAttr{File: f, Mask: AttrMode, Mode: 0o640})
	if i := m.view().inode(f); i.AnchorNumber != 1 || !bytes.Equal(i.Anchor, []byte("one")) || i.Mode != 0o640 {
		t.Errorf("%+v", i)
	}
	entries, _, _ := m.view().list(path("/vm"), "", 0)
	if len(entries) != 1 || entries[0].Inode.Anchor != nil || entries[0].Inode.Integrity != IntegrityTree {
		t.Errorf("%+v", entries)
	}
}

// TestCheckedInodeComesBack: an inode of integrity tree has a kind of its own, so that versions before refuse it; others are written as ever.
func TestCheckedInodeComesBack(t *testing.T) {
	plain := *someResult().Inode
	checked := plain
	checked.Integrity, checked.Companion, checked.AnchorNumber, checked.Anchor = IntegrityTree, 9, 10, []byte("record")
	heard := checked // and so has one whose holder has said what it goes by
	heard.Heard = Heard{1, 2, 3, 4, 5}
	for _, i := range []Inode{plain, checked, heard} {
		var e wire.Encoder
		putInode(&e, &i)
		if kind := InodeKind(e.Buf[16]) &^ accessFlag; (kind == KindFile) != (i.Integrity == IntegritySector) {
			t.Errorf("kind %d", kind)
		}
		d := wire.NewDecoder(e.Buf)
		if got := getInode(d); d.Finish() != nil || !reflect.DeepEqual(*got, i) {
			t.Errorf("%+v came back as %+v", i, got)
		}
	}
}

// TestCompanionIsJudgedAsItsFile: whoever has rights on a tree file has them on its companion, and nobody else has; grants, modes and leases go with the file.
func TestCompanionIsJudgedAsItsFile(t *testing.T) {
	root, owner, reader, writer, stranger := somebody(0, 0), somebody(7, 1), somebody(11, 11), somebody(12, 12), somebody(10, 10)
	m := granted(t, 0o750, 0o640)
	o := treeFile()
	o.Path, o.Mode = path("/d/e/tree"), 0o600
	if r := m.as(stranger, 2, o); r.Kind != blocktree.Permission {
		t.Errorf("made by a stranger: %v", r.Err("apply"))
	}
	m.mustAs(owner, o)
	i, r := m.view().stat(o.Path)
	if r.Kind != blocktree.Other || i.UID != 7 {
		t.Fatalf("%+v, %v", i, r.Err("stat"))
	}
	m.mustAs(root, PutGrant{i.ID, grantTo(reader, RightRead)})
	m.mustAs(root, PutGrant{fileID(2), grantTo(writer, RightsHold)}) // on the directory above
	same := func(when string) {
		t.Helper()
		s := m.view()
		i := s.inode(i.ID)
		c := s.inode(i.companion())
		for _, who := range []*Caller{nil, root, owner, reader, writer, stranger, {}} {
			if is, want := s.rights(who, c, 3), s.rights(who, i, 3); is != want {
				t.Errorf("%s: %s has %v on the companion, %v on the file", when, who, is, want)
			}
			if s.nameable(who, c, 3) != s.nameable(who, i, 3) {
				t.Errorf("%s: %s is told of one of the two", when, who)
			}
		}
	}
	same("as it was made")
	companion := i.companion()
	if s := m.view(); s.rights(reader, s.inode(companion), 3) != RightRead || s.rights(writer, s.inode(companion), 3) != RightsHold || s.rights(stranger, s.inode(companion), 3) != 0 {
		t.Error("what the grants give")
	}
	for _, c := range []*Caller{writer, reader} {
		m.mustAs(c, OpenSession{Session: session(int(c.UID)), Principal: c.Principal, Path: c.Path})
	}
	for _, f := range []blocktree.FileID{i.ID, companion} {
		if r := m.as(reader, 3, Acquire{session(11), f}); r.Kind != blocktree.Permission || r.Hint == "" {
			t.Errorf("a reader holds %v: %v", f, r.Err("apply"))
		}
		m.mustAs(writer, Acquire{session(12), f})
	}
	if r := m.as(reader, 3, Anchor{session(12), i.ID, 1, 1, []byte("record")}); r.Kind != blocktree.Permission {
		t.Errorf("a reader anchors: %v", r.Err("apply"))
	}
	m.mustAs(writer, Anchor{session(12), i.ID, 1, 1, []byte("record")})
	for _, op := range []Op{PutGrant{companion, grantTo(stranger, RightRead)}, SetAttr{File: companion, Mask: AttrMode, Mode: 0o666}, SetAccess{companion, i.Access}} {
		if r := m.as(root, 3, op); r.Kind != blocktree.Invalid {
			t.Errorf("%T of a companion: %v", op, r.Err("apply"))
		}
	}
	m.mustAs(root, RemoveGrant{fileID(2), Subject{Principal: writer.Principal}})
	same("revoked")
	for _, f := range []blocktree.FileID{i.ID, companion} {
		s := m.view()
		if l := s.lease(f); l == nil || s.claim(l) == nil || s.claim(l).session != (SessionID{}) {
			t.Errorf("whoever may not hold %v any more goes on to", f)
		}
	}
}

// TestRevokedOnTheFileItself: a grant on the file ends both leases, too.
func TestRevokedOnTheFileItself(t *testing.T) {
	root, writer := somebody(0, 0), somebody(12, 12)
	m := founded(t, 3)
	i := m.mustAs(root, treeFile()).Inode
	m.mustAs(root, PutGrant{i.ID, grantTo(writer, RightsHold)})
	m.mustAs(writer, OpenSession{Session: session(12), Principal: writer.Principal, Path: writer.Path})
	i = m.view().inode(i.ID)
	for _, f := range []blocktree.FileID{i.ID, i.companion()} {
		m.mustAs(writer, Acquire{session(12), f})
	}
	m.mustAs(root, RemoveGrant{i.ID, Subject{Principal: writer.Principal}})
	for _, f := range []blocktree.FileID{i.ID, i.companion()} {
		s := m.view()
		if l := s.lease(f); l == nil || s.claim(l) == nil {
			t.Errorf("whoever may not hold %v any more goes on to", f)
		}
	}
}
