package meta

import (
	"testing"

	"blocktree"
	"blocktree/internal/wire"
)

// TestLength: a length is at most the size, stays when the file grows, and goes with what is cut; who may write the file sets it, nobody else.
func TestLength(t *testing.T) {
	m := granted(t, 0o755, 0o600)
	f, owner := fileID(3), somebody(7, 70)
	size := m.view().inode(f).SizeBytes
	if i := m.view().inode(f); i.HasLength || i.Length() != size {
		t.Errorf("a new file: %+v", i)
	}
	for _, x := range []struct {
		op   SetLength
		want blocktree.Kind
	}{{SetLength{f, 0, 5}, 0}, {SetLength{f, size, 6}, 0}, {SetLength{f, size + 1, 7}, blocktree.Invalid}, {SetLength{f, 1234, 8}, 0},
		{SetLength{fileID(2), 0, 9}, blocktree.Invalid}, {SetLength{fileID(99), 0, 9}, blocktree.NotFound}} {
		if r := m.do(x.op); r.Kind != x.want || r.Kind != 0 && x.want == blocktree.Invalid && r.Hint == "" {
			t.Errorf("%+v: %v", x.op, r.Err("set"))
		}
	}
	if i := m.view().inode(f); i.Length() != 1234 || i.Modified != 8 || i.SizeBytes != size {
		t.Errorf("%+v", i)
	}
	if r := m.as(somebody(10, 10), 2, SetLength{f, 1, 9}); r.Kind != blocktree.Permission {
		t.Errorf("a stranger's: %v", r.Kind)
	}
	m.mustAs(owner, SetLength{f, size - 1, 9})
	grow := Resize{File: f, Seq: m.view().layout(f).Seq, SizeBytes: 2 * size}
	m.must(grow)
	if i := m.view().inode(f); i.Length() != size-1 {
		t.Errorf("grown: %+v", i)
	}
	m.mustAs(owner, OpenSession{Session: session(7), Principal: owner.Principal, Path: owner.Path})
	l := m.mustAs(owner, Acquire{session(7), f}).Lease
	m.must(Resize{File: f, Seq: m.view().layout(f).Seq, SizeBytes: size / 2, Session: session(7), Epoch: l.Epoch})
	if i := m.view().inode(f); i.Length() != size/2 || !i.HasLength {
		t.Errorf("cut: %+v", i)
	}
}

// TestLengthComesBack: an inode with a length has a kind that versions before refuse; one without is written as ever.
func TestLengthComesBack(t *testing.T) {
	plain := *someResult().Inode
	for _, i := range []Inode{plain, with(plain, func(i *Inode) { i.HasLength = true }), with(plain, func(i *Inode) { i.HasLength, i.LengthBytes = true, i.SizeBytes }),
		with(plain, func(i *Inode) {
			i.HasLength, i.LengthBytes, i.Integrity, i.Companion = true, 1, IntegrityTree, 9
		})} {
		var e wire.Encoder
		putInode(&e, &i)
		d := wire.NewDecoder(e.Buf)
		got := getInode(d)
		if err := d.Finish(); err != nil || got.HasLength != i.HasLength || got.LengthBytes != i.LengthBytes || got.Integrity != i.Integrity || got.Length() > i.SizeBytes {
			t.Errorf("%+v became %+v, %v", i, got, err)
		}
	}
	for _, i := range []Inode{with(plain, func(i *Inode) { i.HasLength, i.LengthBytes = true, i.SizeBytes+1 }), {Kind: KindDir, HasLength: true}} {
		var e wire.Encoder
		putInode(&e, &i)
		e.U64(0) // what a directory would have
		d := wire.NewDecoder(e.Buf)
		getInode(d)
		if d.Err() == nil {
			t.Errorf("%+v was read", i)
		}
	}
}
