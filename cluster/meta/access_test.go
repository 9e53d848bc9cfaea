package meta

import (
	"bytes"
	"testing"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/internal/wire"
)

// record is an encoded access record of a number.
func record(number uint64) []byte { return recordOf("", number) }

// recordOf is record of what has a path; "": it says none.
func recordOf(p string, number uint64) []byte {
	a, _, err := keys.Create(1, []keys.PublicKey{keys.NewReaderKey().Public()})
	if err != nil {
		panic(err) // of a good key
	}
	if a.Number = number; p != "" {
		a.Path = path(p)
	}
	return a.Append(nil)
}

// accessRows are of access records: /w is inode 1, with a record of format 1, or held by session 1 under epoch 1.
func accessRows() []opRow {
	made := []Op{with(coded("/w", 2, 1), func(o *CreateFile) { o.Access = record(0) })}
	held := then(made, open(1), open(2), Acquire{session(1), fileID(1)}, SetAccess{fileID(1), record(1)})
	f := fileID(1)
	heard := func(s int, e blocktree.Epoch, n uint64) NoteAccess {
		return NoteAccess{session(s), f, Heard{Epoch: e, Number: n, Generation: 1, Sectors: 9}}
	}
	return []opRow{
		{"first number", made, SetAccess{f, record(1)}, 0, ""},
		{"number skipped", made, SetAccess{f, record(2)}, blocktree.StaleView, "2, now 0"},
		{"the next", held, SetAccess{f, record(2)}, 0, ""},
		{"the same again", held, SetAccess{f, record(1)}, blocktree.StaleView, "1, now 1"},
		{"one without a number", held, SetAccess{f, record(0)}, blocktree.Invalid, ""},
		{"no record", held, SetAccess{f, []byte("keys")}, blocktree.Invalid, ""},
		{"an older one by attributes", held, SetAttr{File: f, Mask: AttrAccess, Access: record(0)}, blocktree.Invalid, "next number"},
		{"of nothing", held, SetAccess{fileID(9), record(2)}, blocktree.NotFound, ""},
		{"of a file without keys", []Op{coded("/w", 2, 1)}, SetAccess{f, record(1)}, blocktree.Invalid, ""},
		{"of a directory", []Op{MakeDir{Path: path("/d")}}, SetAccess{f, record(1)}, 0, ""},
		{"the first, by its name", []Op{MakeDir{Path: path("/d")}}, SetAccess{f, recordOf("/d", 1)}, 0, ""},
		{"the first, by another", []Op{MakeDir{Path: path("/d")}}, SetAccess{f, recordOf("/e", 1)}, blocktree.StaleView, "/d by now"},
		{"too large", held, SetAccess{f, append(record(2), make([]byte, AccessBytesMax)...)}, blocktree.TooLarge, ""},
		{"heard", held, heard(1, 1, 1), 0, ""},
		{"heard of what is not there", held, heard(1, 1, 2), blocktree.Invalid, "2"},
		{"heard by another", held, heard(2, 1, 1), blocktree.Fenced, ""},
		{"heard under another epoch", held, heard(1, 2, 1), blocktree.Fenced, ""},
		{"heard without a lease", made, heard(1, 1, 0), blocktree.Fenced, ""},
		{"heard of a directory", []Op{MakeDir{Path: path("/d")}, open(1)}, heard(1, 1, 0), blocktree.NotFound, ""},
	}
}

// TestAccess: what a holder said is kept when its lease ends, records are counted, and an inode without any of it is encoded as it was before.
func TestAccess(t *testing.T) {
	m := founded(t, 3)
	f := m.must(with(coded("/w", 2, 1), func(o *CreateFile) { o.Access = record(0) })).Inode.ID
	var plain wire.Encoder
	putInode(&plain, m.view().inode(f))
	if plain.Buf[16] != uint8(KindFile) {
		t.Errorf("kind %#x", plain.Buf[16])
	}
	m.must(open(1))
	m.must(Acquire{session(1), f})
	m.must(SetAccess{f, record(1)})
	if got, want := m.view().counts.access, uint64(len(record(1))); got != want {
		t.Errorf("%d bytes of records, %d are there", got, want)
	}
	said := Heard{Epoch: 1, Number: 1, Generation: 1, Sectors: 100, Rate: 7}
	m.must(NoteAccess{session(1), f, said})
	m.must(CloseSession{session(1)})
	if i := m.view().inode(f); i.Heard != said || !bytes.Equal(i.Access[:1], []byte{2}) {
		t.Errorf("%+v", i)
	}
	dir := m.must(MakeDir{Path: path("/d")}).Inode.ID
	m.must(SetAccess{dir, record(1)})
	if i := m.view().inode(dir); i.Kind != KindDir || keys.NumberOf(i.Access) != 1 {
		t.Errorf("%+v", i)
	}
	m.must(Remove{Path: path("/d")})
	m.must(Remove{Path: path("/w")})
	if got := m.view().counts.access; got != 0 {
		t.Errorf("%d bytes of records are left", got)
	}
}
