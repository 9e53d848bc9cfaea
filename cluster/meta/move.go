package meta

import (
	"bytes"
	"cmp"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/tree"
)

// MovesMax bounds the moves that a cluster has begun and not ended: each is the space of a file that nobody uses yet, or that nobody uses any more.
const MovesMax = 64

// Move is what a cluster notes of the copy that it has of an old file in one of its directories (docs/design/0041). Until it is adopted the copy has no name.
type Move struct {
	From, To blocktree.FileID
	Path     blocktree.Path // where From has its entry, or had
	Adopted  bool
}

// BeginMove makes a copy, without content, of the old file that Path names, of CreateFile's size, sectors, code and keys, of a durability, and of integrity tree with TreeBytes. Who asks again
// is told of the same copy. NotFound (Path is not From), Exists (there is a copy of it that is another in one of these), Unavailable (MovesMax, or as CreateFile), and as CreateFile.
type BeginMove struct {
	CreateTreeFile
	From blocktree.FileID
}

// DropCopy removes a copy that nobody has adopted. NotFound, Invalid (it is adopted), Busy (leased).
type DropCopy struct{ File blocktree.FileID }

// Depart notes at its home that a file is left: the copy To, whose lease is held under CopyEpoch, has all of it. From then on nobody takes its lease and nothing of it is changed. NotFound, Invalid (its entry is in
// this cluster), Fenced (the lease is not held by Session under Epoch), Busy (somebody claims it).
type Depart struct {
	Session   SessionID
	File      blocktree.FileID
	Epoch     blocktree.Epoch
	To        blocktree.FileID
	CopyEpoch blocktree.Epoch
}

// Stay takes that back, if it was said of a copy before To, or of To under Epoch or one before: whoever said it adopts nothing any more. NotFound, Fenced (it was said later).
type Stay struct {
	File  blocktree.FileID
	To    blocktree.FileID
	Epoch blocktree.Epoch
}

// Adopt has the entry at Path, which names From, name the copy File instead, with what there is of From beside its content. Done already is a success. NotFound (no such move; Path is not From), Fenced (the lease is not held by
// Session under Epoch), Invalid.
type Adopt struct {
	Session SessionID
	File    blocktree.FileID
	Epoch   blocktree.Epoch
	From    blocktree.FileID
	Path    blocktree.Path

	Mode, UID, GID    uint32
	Created, Modified int64
	HasLength         bool
	LengthBytes       uint64
	Grants            []Grant
	Last              RightsChange
}

// RemoveLeft removes a file that is left for To. NotFound, Busy (leased), Invalid (it is not).
type RemoveLeft struct{ File, To blocktree.FileID }

// EndMove forgets an adopted move, whose old file must be gone from its home: the new one may be written to. One that is forgotten already is no error. Invalid (it is not adopted).
type EndMove struct{ File blocktree.FileID }

func (BeginMove) opcode() opcode  { return opBeginMove }
func (DropCopy) opcode() opcode   { return opDropCopy }
func (Depart) opcode() opcode     { return opDepart }
func (Stay) opcode() opcode       { return opStay }
func (Adopt) opcode() opcode      { return opAdopt }
func (RemoveLeft) opcode() opcode { return opRemoveLeft }
func (EndMove) opcode() opcode    { return opEndMove }

// doMove dispatches on an op of a move.
func (s *state) doMove(o Op) Result {
	switch o := o.(type) {
	case BeginMove:
		return s.beginMove(o)
	case DropCopy:
		return s.dropCopy(o)
	case Depart:
		return s.depart(o)
	case Stay:
		return s.stay(o)
	case Adopt:
		return s.adopt(o)
	case RemoveLeft:
		return s.removeLeft(o)
	case EndMove:
		return s.endMove(o)
	}
	return s.doAttr(o)
}

// judgeMove judges what has to do with moves: owner and grants are carried over, which is user id 0's to do.
func (s *state) judgeMove() Result {
	if !s.caller.all() {
		return refuse(blocktree.Permission, "%s has not user id 0", s.caller).hinted("files are moved by user id 0")
	}
	return Result{}
}

// left is what is noted of a file that is left.
type left struct {
	file, to  blocktree.FileID
	copyEpoch blocktree.Epoch
}

// move is what is noted of a copy, nil if it is none or its move has ended.
func (s *state) move(f blocktree.FileID) *Move {
	m := value(s, kindMove, inodeRest(f.Inode), getMovePtr)
	if m == nil || m.To != f {
		return nil
	}
	return m
}

// moves are all that have not ended, in the order in which they were begun.
func (s *state) moves() (ms []Move) {
	each(s, kindMove, getMovePtr, func(m *Move) { ms = append(ms, *m) })
	return ms
}

// moveOf is the move of an old file, nil if there is none.
func (s *state) moveOf(from blocktree.FileID) *Move {
	for _, m := range s.moves() {
		if m.From == from {
			return &m
		}
	}
	return nil
}

func (s *state) setMove(m *Move) {
	s.note(kindMove, m.To)
	store(s, kindMove, inodeRest(m.To.Inode), m, putMove)
}

// note counts what is to be noted of a file, unless it is noted already; unnote forgets it.
func (s *state) note(kind byte, f blocktree.FileID) {
	if _, there := s.get(kind, inodeRest(f.Inode)); !there {
		s.counts.moves++
	}
}

func (s *state) unnote(kind byte, f blocktree.FileID) {
	s.del(kind, inodeRest(f.Inode))
	s.counts.moves -= min(s.counts.moves, 1)
}

// renameMoves has moves go by the path that a file gets. One that was not adopted has its old file beneath, which is not renamed.
func (s *state) renameMoves(from, to blocktree.Path) {
	for _, m := range s.moves() {
		if m.Adopted && m.Path.Within(from) {
			m.Path = to + m.Path[len(from):]
			s.setMove(&m)
		}
	}
}

func (s *state) left(f blocktree.FileID) *left {
	l := value(s, kindLeft, inodeRest(f.Inode), getLeft)
	if l == nil || l.file != f {
		return nil
	}
	return l
}

// standsStill refuses what would change a file that is left, or have anybody hold it; what would have anybody but a mover, or a sector host that heals it, use a copy before it is adopted; and to hold that before its move has ended, while there are
// readers of the old file.
func (s *state) standsStill(o Op) Result {
	holds := false
	switch o.(type) {
	case Acquire, ClaimLease:
		holds = true
	case SetAttr, PutGrant, RemoveGrant, SetAccess, Resize, ResizeTree, SetLength, SetEnd, ReleaseEnd, RemoveMoved, SetTimes, SetXattr:
	default:
		return Result{}
	}
	f, _ := fileOf(o)
	if s.left(f) != nil {
		return refuse(blocktree.Busy, "file %v is moved to its directory's cluster", f).hinted("finish that: btnode dir migrate, of the file's path or a directory above it")
	}
	switch m := s.move(f); {
	case m == nil, m.Adopted && !holds:
		return Result{}
	case m.Adopted:
		return refuse(blocktree.Busy, "%s was moved here, and its old file is not gone yet", m.Path.Short()).hinted("finish that: btnode dir migrate %s, or the directory %s", m.Path.Short(), s.superblock().Dir.Short())
	case holds && (s.caller == nil || s.caller.all() || s.isHost(s.caller)):
		return Result{}
	}
	return refuse(blocktree.Busy, "file %v is a copy that is not complete", f).hinted("use the file by its path")
}

// oldEntry is where a path names a file that an older cluster keeps.
func (s *state) oldEntry(path blocktree.Path, f blocktree.FileID) (at lookup, r Result) {
	at, r = s.walk(path)
	switch {
	case r.Kind != blocktree.Other:
	case len(at.missing) > 0 || at.found.file != f:
		r = refuse(blocktree.NotFound, "%s is not file %v", path.Short(), f)
	case f.Generation == s.superblock().Generation:
		r = refuse(blocktree.Invalid, "file %v is of this cluster", f)
	}
	return at, r
}

func (s *state) beginMove(o BeginMove) Result {
	at, r := s.oldEntry(o.Path, o.From)
	if r.Kind != blocktree.Other {
		return r
	}
	if m := s.moveOf(o.From); m != nil {
		return s.begun(m, &o)
	}
	if len(s.moves()) >= MovesMax {
		return refuse(blocktree.Unavailable, "%d files are being moved", MovesMax).hinted("finish those: btnode dir migrate of the cluster's directory")
	}
	l, r := s.newLayout(o.CreateFile, o.Durability)
	if r.Kind != blocktree.Other {
		return r
	}
	var pages *stripe.Layout
	if o.TreeBytes > 0 {
		x := o.CreateFile
		x.SizeBytes, x.SectorBytes = o.TreeBytes, tree.PageBytes
		if pages, r = s.newLayout(x, o.Durability); r.Kind != blocktree.Other {
			return r
		}
	}
	if full, ok := s.room(2, len(o.Access)); !ok {
		return full
	}
	i := s.newInode(KindFile, 0, 0, 0, o.Time)
	i.SizeBytes, i.SectorBytes, i.Code, i.Suite, i.KeyID, i.Access = o.SizeBytes, o.SectorBytes, o.Code, o.Suite, o.KeyID, o.Access
	if pages != nil {
		s.addCompanion(i, pages, &o.CreateTreeFile)
	}
	s.counts.access += uint64(len(o.Access))
	s.setInode(i)
	s.set(kindParent, inodeRest(i.ID.Inode), inodeRest(at.parent)) // by which it is judged
	s.setFile(i.ID, l)
	s.setMove(&Move{From: o.From, To: i.ID, Path: o.Path})
	return Result{Inode: i, Layout: l}
}

// begun answers who asks again.
func (s *state) begun(m *Move, o *BeginMove) Result {
	i, l := s.inode(m.To), s.layout(m.To)
	if i == nil || l == nil || m.Adopted || i.SizeBytes != o.SizeBytes || i.SectorBytes != o.SectorBytes || i.Code != o.Code || i.Suite != o.Suite || i.KeyID != o.KeyID ||
		!bytes.Equal(i.Access, o.Access) || (i.Integrity == IntegrityTree) != (o.TreeBytes > 0) || l.Durability != o.Durability {
		r := refuse(blocktree.Exists, "there is another copy of file %v", m.From)
		r.Inode = i
		return r
	}
	m.Path = o.Path
	s.setMove(m)
	return Result{Inode: i, Layout: l}
}

func (s *state) dropCopy(o DropCopy) Result {
	m := s.move(o.File)
	switch {
	case m == nil:
		return refuse(blocktree.NotFound, "no copy %v", o.File)
	case m.Adopted:
		return refuse(blocktree.Invalid, "%s is that file now", m.Path.Short())
	}
	return s.dropMove(m)
}

// dropMove removes a copy that was not adopted.
func (s *state) dropMove(m *Move) Result {
	if i := s.inode(m.To); i != nil {
		if r := s.freeFile(i); r.Kind != blocktree.Other {
			return r
		}
		s.forget(i)
	}
	s.unnote(kindMove, m.To)
	return Result{}
}

func (s *state) depart(o Depart) Result {
	i := s.inode(o.File)
	if _, kept := s.keeper(o.File); i == nil || i.Kind != KindFile || i.Integrity == IntegrityCompanion || kept {
		return refuse(blocktree.NotFound, "no file %v", o.File)
	}
	held := s.lease(o.File)
	switch {
	case s.movedFrom(i) == nil:
		return refuse(blocktree.Invalid, "file %v has its entry in this cluster", o.File)
	case !s.heldBy(o.File, o.Session, o.Epoch):
		return refuse(blocktree.Fenced, "the lease is not held under epoch %d", o.Epoch)
	case s.claim(held) != nil:
		return refuse(blocktree.Busy, "%s is taking it over", held.Claimant.Short())
	}
	s.note(kindLeft, o.File)
	store(s, kindLeft, inodeRest(o.File.Inode), &left{o.File, o.To, o.CopyEpoch}, putLeft)
	return Result{Inode: i}
}

func (s *state) stay(o Stay) Result {
	if s.inode(o.File) == nil {
		return refuse(blocktree.NotFound, "no file %v", o.File)
	}
	l := s.left(o.File)
	if l == nil {
		return Result{}
	}
	if cmp.Or(cmp.Compare(l.to.Generation, o.To.Generation), cmp.Compare(l.to.Inode, o.To.Inode), cmp.Compare(l.copyEpoch, o.Epoch)) > 0 {
		return refuse(blocktree.Fenced, "file %v is moved by somebody else", o.File)
	}
	s.unnote(kindLeft, o.File)
	return Result{}
}

func (s *state) adopt(o Adopt) Result {
	m, i := s.move(o.File), s.inode(o.File)
	if m == nil || i == nil || m.From != o.From {
		return refuse(blocktree.NotFound, "no copy %v of file %v", o.File, o.From)
	}
	if m.Adopted {
		return Result{Inode: i}
	}
	at, r := s.walk(o.Path)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case len(at.missing) > 0 || at.found.file != o.From:
		return refuse(blocktree.NotFound, "%s is not file %v any more", o.Path.Short(), o.From)
	case !s.heldBy(o.File, o.Session, o.Epoch):
		return refuse(blocktree.Fenced, "the lease is not held under epoch %d", o.Epoch)
	case o.Mode > modeMax || o.HasLength && o.LengthBytes > i.SizeBytes:
		return refuse(blocktree.Invalid, "mode %#o, length %d", o.Mode, o.LengthBytes)
	}
	if r := s.guard(at.parent); r.Kind != blocktree.Other {
		return r
	}
	i.Mode, i.UID, i.GID, i.Created, i.Modified, i.HasLength, i.LengthBytes = o.Mode, o.UID, o.GID, o.Created, o.Modified, o.HasLength, o.LengthBytes
	s.noteChange(i)
	s.setInode(i)
	if len(o.Grants) > 0 || o.Last.By != "" {
		store(s, kindGranted, inodeRest(i.ID.Inode), &grantsNote{o.Grants, o.Last}, putGranted)
	}
	s.setEntry(at.parent, o.Path.Base(), entry{file: i.ID, kind: KindFile})
	m.Path, m.Adopted = o.Path, true
	s.setMove(m)
	s.tookAway(i)
	return Result{Inode: i}
}

func (s *state) removeLeft(o RemoveLeft) Result {
	i, l := s.inode(o.File), s.left(o.File)
	switch {
	case i == nil:
		return refuse(blocktree.NotFound, "no file %v", o.File)
	case l == nil || l.to != o.To:
		return refuse(blocktree.Invalid, "file %v is not left for %v", o.File, o.To)
	}
	if r := s.freeFile(i); r.Kind != blocktree.Other {
		return r
	}
	s.forget(i)
	s.unnote(kindLeft, o.File)
	return Result{}
}

func (s *state) endMove(o EndMove) Result {
	m := s.move(o.File)
	switch {
	case m == nil:
		return Result{}
	case !m.Adopted:
		return refuse(blocktree.Invalid, "copy %v is not adopted", o.File)
	}
	s.unnote(kindMove, o.File)
	return Result{}
}
