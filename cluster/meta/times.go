package meta

import (
	"blocktree"
	"blocktree/internal/wire"
)

// Touch says when the holder of a file last wrote to it (docs/design/0058): no later than the command, nobody's clock makes it so. It is done again when it is asked again. NotFound, Fenced (the lease is not held so).
type Touch struct {
	Session SessionID
	File    blocktree.FileID
	Epoch   blocktree.Epoch
	Time    int64
}

// ReleaseAt is Release by a holder that says when it last wrote, if it still may hold the file.
type ReleaseAt struct {
	Release
	Time int64
}

// SetTimes sets when something was last modified; with Now to when the command was taken. NotFound.
type SetTimes struct {
	File     blocktree.FileID
	Now      bool
	Modified int64 // without Now, or where nobody noted when the command was taken
}

func (Touch) opcode() opcode     { return opTouch }
func (ReleaseAt) opcode() opcode { return opReleaseAt }
func (SetTimes) opcode() opcode  { return opSetTimes }

func putTouch(e *wire.Encoder, o *Touch) {
	e.Raw(o.Session[:])
	e.File(o.File)
	e.U64(uint64(o.Epoch))
	e.U64(uint64(o.Time))
}

func getTouch(d *wire.Decoder) Touch {
	return Touch{Session: get16(d), File: d.File(), Epoch: blocktree.Epoch(d.U64()), Time: int64(d.U64())}
}

func putSetTimes(e *wire.Encoder, o *SetTimes) {
	e.File(o.File)
	e.Bool(o.Now)
	e.U64(uint64(o.Modified))
}

func getSetTimes(d *wire.Decoder) SetTimes {
	return SetTimes{File: d.File(), Now: d.Bool(), Modified: int64(d.U64())}
}

func (s *state) touch(o Touch) Result {
	i := s.inode(o.File)
	switch {
	case i == nil || i.Kind != KindFile || i.Integrity == IntegrityCompanion:
		return refuse(blocktree.NotFound, "no file %v", o.File)
	case !s.heldBy(o.File, o.Session, o.Epoch):
		return refuse(blocktree.Fenced, "the lease is not held under epoch %d", o.Epoch)
	}
	s.written(i, o.Time)
	return Result{}
}

// written notes when a file was written to.
func (s *state) written(i *Inode, at int64) {
	i.Modified = s.notLater(at)
	s.noteChange(i)
	s.setInode(i)
}

// notLater is a time that somebody says, or that of the command where it would be later.
func (s *state) notLater(at int64) int64 {
	if s.now == 0 {
		return at
	}
	return min(at, s.now)
}

// said is notLater where changes are noted: members of a version before take any.
func (s *state) said(at int64) int64 {
	if !s.notesChanges() {
		return at
	}
	return s.notLater(at)
}

func (s *state) releaseAt(o ReleaseAt) Result {
	r := s.release(o.Release)
	if r.Kind != blocktree.Other {
		return r
	}
	if i := s.inode(o.File); i != nil && i.Kind == KindFile && i.Integrity != IntegrityCompanion && s.mayHold(s.caller, i, s.now) {
		s.written(i, o.Time)
	}
	return r
}

func (s *state) setTimes(o SetTimes) Result {
	i := s.inode(o.File)
	if i == nil || i.Integrity == IntegrityCompanion {
		return refuse(blocktree.NotFound, "no inode %v", o.File)
	}
	if i.Modified = o.Modified; o.Now && s.now != 0 {
		i.Modified = s.now
	}
	s.noteChange(i)
	s.setInode(i)
	return Result{Inode: i}
}

// notesChanges reports whether it is noted that an inode changes: where it is known when, and no member of a version before would note something else.
func (s *state) notesChanges() bool { return s.counts.times && s.now != 0 }

// noteChange notes that i changes now. The caller sets it.
func (s *state) noteChange(i *Inode) {
	if s.notesChanges() {
		i.Changed = s.now
	}
}

// noteEntry notes that an entry of a directory changes now.
func (s *state) noteEntry(dir blocktree.Inode) {
	if !s.notesChanges() {
		return
	}
	if i := s.inode(blocktree.FileID{Generation: s.superblock().Generation, Inode: dir}); i != nil {
		i.Modified, i.Changed = s.now, s.now
		s.setInode(i)
	}
}

// ChangedAt is when anything of the inode last changed: when it was modified, where nobody has noted that.
func (i *Inode) ChangedAt() int64 {
	if i.Changed != 0 {
		return i.Changed
	}
	return i.Modified
}

// timesFlag is set in the kind of an inode where the time of its last change follows the others. Versions before refuse such an inode: there is no such kind.
const timesFlag = 0x10

func timesFlags(i *Inode) uint8 {
	if i.Changed != 0 {
		return timesFlag
	}
	return 0
}

// getChanged reads a time that is there.
func getChanged(d *wire.Decoder, i *Inode) {
	if i.Changed = int64(d.U64()); i.Changed == 0 {
		bad(d, "a time that says nothing")
	}
}
