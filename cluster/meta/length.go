package meta

import (
	"blocktree"
	"blocktree/internal/wire"
)

// SetLength gives a file a length in bytes (docs/design/0030): where reading it as bytes ends, at most its size. Devices do not look at it, and nothing behind it is cleared. NotFound, Invalid (a
// directory, or longer than the file's size).
type SetLength struct {
	File  blocktree.FileID
	Bytes uint64
	Time  int64
}

func (SetLength) opcode() opcode { return opSetLength }

func putSetLength(e *wire.Encoder, o *SetLength) {
	e.File(o.File)
	e.U64(o.Bytes)
	e.U64(uint64(o.Time))
}

func getSetLength(d *wire.Decoder) SetLength {
	return SetLength{File: d.File(), Bytes: d.U64(), Time: int64(d.U64())}
}

func (s *state) setLength(o SetLength) Result {
	i := s.inode(o.File)
	switch {
	case i == nil || i.Integrity == IntegrityCompanion:
		return refuse(blocktree.NotFound, "no inode %v", o.File)
	case i.Kind != KindFile || o.Bytes > i.SizeBytes:
		return refuse(blocktree.Invalid, "a length of %d bytes", o.Bytes).hinted("a file has one, of at most its size: make that larger first")
	}
	i.HasLength, i.LengthBytes, i.Modified = true, o.Bytes, s.said(o.Time)
	s.noteChange(i)
	s.setInode(i)
	return Result{Inode: i}
}

// Length is where reading the file as bytes ends; of a symbolic link the length of its target.
func (i *Inode) Length() uint64 {
	switch {
	case i.HasLength:
		return i.LengthBytes
	case i.Kind == KindLink:
		return uint64(len(i.Target))
	}
	return i.SizeBytes
}

// lengthFlag is set in the kind of an inode where a length follows the rest. Versions before refuse such an inode: they would take what is behind it for content.
const lengthFlag = 0x40

func lengthFlags(i *Inode) uint8 {
	if i.HasLength {
		return lengthFlag
	}
	return 0
}

// getLength reads a length that is there.
func getLength(d *wire.Decoder, i *Inode) {
	i.HasLength, i.LengthBytes = true, d.U64()
	if d.Err() == nil && (i.Kind != KindFile || i.LengthBytes > i.SizeBytes) {
		bad(d, "an impossible length")
	}
}
