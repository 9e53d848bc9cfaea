package meta

import (
	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/internal/wire"
)

// SetAccess replaces the access record of a file or directory by the one after it (docs/design/0027). NotFound, StaleView (the record there has another
// number than the one before), Invalid (it is no numbered record, or of a file that is not encrypted), TooLarge, NoSpace (AccessTotalBytesMax).
type SetAccess struct {
	File   blocktree.FileID
	Access []byte
}

// NoteAccess is what the holder of a file's lease says of its access record. NotFound, Fenced (the lease is not held so), Invalid (there is no
// record of that number).
type NoteAccess struct {
	Session SessionID
	File    blocktree.FileID
	Heard   Heard
}

func (SetAccess) opcode() opcode  { return opSetAccess }
func (NoteAccess) opcode() opcode { return opNoteAccess }

func putSetAccess(e *wire.Encoder, o *SetAccess) {
	e.File(o.File)
	e.Bytes(o.Access)
}

func getSetAccess(d *wire.Decoder) SetAccess {
	return SetAccess{File: d.File(), Access: getBytes(d, AccessBytesMax)}
}

func putNoteAccess(e *wire.Encoder, o *NoteAccess) {
	e.Raw(o.Session[:])
	e.File(o.File)
	putHeard(e, &o.Heard)
}

func getNoteAccess(d *wire.Decoder) NoteAccess {
	return NoteAccess{Session: get16(d), File: d.File(), Heard: getHeard(d)}
}

func putHeard(e *wire.Encoder, h *Heard) {
	e.U64(uint64(h.Epoch))
	e.U64(h.Number)
	e.U32(h.Generation)
	e.U64(h.Sectors)
	e.U64(h.Rate)
}

func getHeard(d *wire.Decoder) Heard {
	return Heard{Epoch: blocktree.Epoch(d.U64()), Number: d.U64(), Generation: d.U32(), Sectors: d.U64(), Rate: d.U64()}
}

// accessFlag is set in the kind of an inode where a directory's record, or what a file's holder said, follows the times. Versions before
// refuse such an inode: there is no such kind.
const accessFlag = 0x80

func accessFlags(i *Inode) uint8 {
	if i.Heard != (Heard{}) || i.Kind == KindDir && len(i.Access) > 0 {
		return accessFlag
	}
	return 0
}

func putFollowing(e *wire.Encoder, i *Inode) {
	if i.Kind == KindDir {
		e.Bytes(i.Access)
	} else {
		putHeard(e, &i.Heard)
	}
}

func getFollowing(d *wire.Decoder, i *Inode) {
	if i.Kind == KindDir {
		i.Access = getBytes(d, AccessBytesMax)
	} else {
		i.Heard = getHeard(d)
	}
	if d.Err() == nil && accessFlags(i) == 0 {
		bad(d, "nothing follows")
	}
}

func (s *state) setRecord(o SetAccess) Result {
	i := s.inode(o.File)
	n := keys.NumberOf(o.Access)
	switch {
	case i == nil:
		return refuse(blocktree.NotFound, "no inode %v", o.File)
	case len(o.Access) > AccessBytesMax:
		return refuse(blocktree.TooLarge, "access record of %d bytes", len(o.Access))
	case n == 0 || i.Kind == KindLink || i.Kind == KindFile && len(i.Access) == 0:
		return refuse(blocktree.Invalid, "not an access record with a number, of something that has keys")
	case n != keys.NumberOf(i.Access)+1:
		return refuse(blocktree.StaleView, "access record %d, now %d", n, keys.NumberOf(i.Access))
	}
	if r := s.checkFirst(o, n); r.Kind != blocktree.Other {
		return r
	}
	if full, ok := s.room(0, max(len(o.Access)-len(i.Access), 0)); !ok {
		return full
	}
	s.counts.access -= min(s.counts.access, uint64(len(i.Access)))
	s.counts.access += uint64(len(o.Access))
	i.Access = o.Access
	s.noteChange(i)
	s.setInode(i)
	return Result{Inode: i}
}

// checkFirst refuses the first record that names a path where that is not the path any more: before it nothing says that a rename needs another one (docs/design/0044).
func (s *state) checkFirst(o SetAccess, number uint64) Result {
	if number != 1 {
		return Result{}
	}
	named := keys.PathOf(o.Access)
	if named == "" {
		return Result{}
	}
	switch at, r := s.follow(s.superblock(), named); {
	case at.via != "" || !named.Within(s.superblock().Dir): // what is there another cluster knows
	case r.Kind != blocktree.Other || len(at.missing) > 0 || at.found.file != o.File:
		now := "something else"
		if p, known := s.pathOf(o.File); known { // in a long directory it is not
			now = p.Short()
		}
		return refuse(blocktree.StaleView, "it is %s by now, not %s", now, named.Short()).hinted("it was renamed; say it again by its new name")
	}
	return Result{}
}

func (s *state) noteAccess(o NoteAccess) Result {
	i := s.inode(o.File)
	switch {
	case i == nil || i.Kind != KindFile:
		return refuse(blocktree.NotFound, "no file %v", o.File)
	case !s.heldBy(o.File, o.Session, o.Heard.Epoch):
		return refuse(blocktree.Fenced, "the lease is not held under epoch %d", o.Heard.Epoch)
	case o.Heard.Number > keys.NumberOf(i.Access):
		return refuse(blocktree.Invalid, "there is no access record %d", o.Heard.Number)
	}
	i.Heard = o.Heard
	s.setInode(i)
	return Result{Inode: i}
}
