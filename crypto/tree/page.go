package tree

import (
	"crypto/sha256"
	"encoding/binary"

	"blocktree"
)

// Page is the content of a page: Fanout entries.
type Page [PageBytes]byte

// entry is the i-th entry of the page, aliasing it.
func (p *Page) entry(i uint64) []byte { return p[i*EntryBytes : (i+1)*EntryBytes : (i+1)*EntryBytes] }

// Ref says which page one is: its place, 0 for none (all that is beneath is none), and 31 bytes of its hash.
type Ref [EntryBytes]byte

// Place is 1 or 2, or 0 for no page.
func (r Ref) Place() uint8 { return r[0] }

// valid reports whether r is no page, or one in either place.
func (r Ref) valid() bool { return r == Ref{} || r[0] == 1 || r[0] == 2 }

// refOf is what refers to a page of a file.
func refOf(file blocktree.FileID, id PageID, place uint8, p *Page) Ref {
	const title = "blocktree tree page 1\x00"
	var b [len(title) + 8 + 8 + 1 + 1 + 8 + PageBytes]byte
	at := copy(b[:], title)
	binary.BigEndian.PutUint64(b[at:], uint64(file.Generation))
	binary.BigEndian.PutUint64(b[at+8:], uint64(file.Inode))
	b[at+16], b[at+17] = byte(id.Tree), id.Level
	binary.BigEndian.PutUint64(b[at+18:], id.Index)
	copy(b[at+26:], p[:])
	sum := sha256.Sum256(b[:])
	r := Ref{place}
	copy(r[1:], sum[:])
	return r
}

// Floor is the version that a sector has at least, and the beginning of the leaf that it has then. The zero Floor says nothing: the sector may be absent.
type Floor struct {
	Version blocktree.Version
	Leaf    [16]byte
}

// FloorOf is the floor that a sector of a version with a leaf gives.
func FloorOf(v blocktree.Version, leaf blocktree.Leaf) Floor { return Floor{v, [16]byte(leaf[:16])} }

// IsZero reports whether the floor says nothing.
func (f Floor) IsZero() bool { return f == Floor{} }

// put writes the floor into an entry.
func (f Floor) put(e []byte) {
	binary.BigEndian.PutUint64(e, uint64(f.Version.Epoch))
	binary.BigEndian.PutUint64(e[8:], uint64(f.Version.Sequence))
	copy(e[16:], f.Leaf[:])
}

func floorFrom(e []byte) Floor {
	var f Floor
	f.Version.Epoch = blocktree.Epoch(binary.BigEndian.Uint64(e))
	f.Version.Sequence = blocktree.Sequence(binary.BigEndian.Uint64(e[8:]))
	copy(f.Leaf[:], e[16:])
	return f
}

// Verdict is what a floor says of a sector that was read.
type Verdict uint8

// The verdicts.
const (
	Fresh  Verdict = iota // at or above the floor
	Older                 // older than the floor, or absent though there is one
	Forged                // of the floor's version, with another leaf
)

// String names the verdict.
func (v Verdict) String() string {
	return [...]string{"fresh", "older than it was", "not what was written"}[v]
}

// Judge says whether a sector of a version with a leaf may be believed.
func (f Floor) Judge(v blocktree.Version, leaf blocktree.Leaf) Verdict {
	switch {
	case v.Less(f.Version):
		return Older
	case v == f.Version && !f.IsZero() && f.Leaf != [16]byte(leaf[:16]):
		return Forged
	}
	return Fresh
}

// JudgeFloor is Judge of a sector of which version and leaf are known as a floor of its own.
func (f Floor) JudgeFloor(is Floor) Verdict {
	var leaf blocktree.Leaf
	copy(leaf[:], is.Leaf[:])
	return f.Judge(is.Version, leaf)
}

// JudgeAbsent says whether it may be believed that a sector was never written.
func (f Floor) JudgeAbsent() Verdict {
	if f.IsZero() {
		return Fresh
	}
	return Older
}
