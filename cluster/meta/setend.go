package meta

import (
	"blocktree"
	"blocktree/internal/wire"
)

// SetEnd is SetLength by who has the file open for writing (docs/design/0059): under the lease that Session has at Epoch alone, and only if the length is Was, so that no copy of it moves the end of anybody later. NotFound, Invalid (longer
// than the file's size), Fenced (the lease is not held so), StaleView (another length; Result.Inode).
type SetEnd struct {
	File       blocktree.FileID
	Session    SessionID
	Epoch      blocktree.Epoch
	Was, Bytes uint64
	Time       int64
}

func (SetEnd) opcode() opcode { return opSetEnd }

func putSetEnd(e *wire.Encoder, o *SetEnd) {
	e.File(o.File)
	e.Raw(o.Session[:])
	e.U64(uint64(o.Epoch))
	e.U64(o.Was)
	e.U64(o.Bytes)
	e.U64(uint64(o.Time))
}

func getSetEnd(d *wire.Decoder) SetEnd {
	return SetEnd{File: d.File(), Session: get16(d), Epoch: blocktree.Epoch(d.U64()), Was: d.U64(), Bytes: d.U64(), Time: int64(d.U64())}
}

func (s *state) setEnd(o SetEnd) Result {
	i := s.inode(o.File)
	switch {
	case i == nil || i.Integrity == IntegrityCompanion:
		return refuse(blocktree.NotFound, "no inode %v", o.File)
	case i.Kind != KindFile || o.Bytes > i.SizeBytes:
		return refuse(blocktree.Invalid, "an end at byte %d", o.Bytes).hinted("a file ends at its size at most: make that larger first")
	case !s.heldBy(o.File, o.Session, o.Epoch):
		r := refuse(blocktree.Fenced, "the lease is not held under epoch %d", o.Epoch)
		r.Lease = s.lease(o.File)
		return r
	case i.Length() != o.Was:
		r := refuse(blocktree.StaleView, "it ends at byte %d, not %d", i.Length(), o.Was)
		r.Inode = i
		return r
	}
	return s.setLength(SetLength{File: o.File, Bytes: o.Bytes, Time: s.notLater(o.Time)})
}
