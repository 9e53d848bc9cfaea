package meta

import (
	"blocktree"
	"blocktree/internal/wire"
)

// NamelessMax bounds the files that are kept without a name: each takes what a file takes, and the end of the session that keeps them frees all of its own at once.
const NamelessMax = LeasesPerSessionMax

// Unlink takes the name from a file that somebody has open, and keeps the file for Session until Forget, or the session's end (docs/design/0066). A refusal is remembered as that of Remove. NotFound (Path is not File, or not any more), Fenced (there is no such session), Busy (another session holds it;
// it is on its way to another cluster; NamelessMax), Invalid (it is no file).
type Unlink struct {
	Path    blocktree.Path
	File    blocktree.FileID
	Session SessionID
}

// RenameOver is Rename in the place of a file that is kept as Unlink keeps it.
type RenameOver struct {
	Rename
	Session SessionID
}

// Forget frees a file that Session keeps without a name. NotFound (it keeps no such file), Busy (leased).
type Forget struct {
	Session SessionID
	File    blocktree.FileID
}

func (Unlink) opcode() opcode     { return opUnlink }
func (RenameOver) opcode() opcode { return opRenameOver }
func (Forget) opcode() opcode     { return opForget }

// putNamelessOp writes the fields of an op about files without names, or about directories that are kept.
func putNamelessOp(e *wire.Encoder, o Op) {
	switch o := o.(type) {
	case Unlink:
		putPath(e, o.Path)
		e.File(o.File)
		e.Raw(o.Session[:])
	case RenameOver:
		e.Raw(o.Session[:])
		putRename(e, &o.Rename)
	case Forget:
		e.Raw(o.Session[:])
		e.File(o.File)
	case MakeDirKept:
		putMakeDir(e, &o.MakeDir)
		e.Raw(o.Session[:])
	case Leave:
		putLeave(e, &o)
	case MakeSpares:
		putMakeSpares(e, &o)
	case NameFile:
		putNameFile(e, &o)
	case Want:
		e.File(o.Dir)
	}
}

// getNamelessOp reads what putNamelessOp wrote.
func getNamelessOp(d *wire.Decoder, code opcode) Op {
	switch code {
	case opUnlink:
		o := Unlink{getPath(d), d.File(), get16(d)}
		if o.File == (blocktree.FileID{}) {
			bad(d, "no file is named")
		}
		return o
	case opRenameOver:
		o := RenameOver{Session: get16(d)}
		o.Rename = getRename(d)
		return o
	case opMakeDirKept:
		o, _ := getOp(d, opMakeDir).(MakeDir) // it is
		return MakeDirKept{o, get16(d)}
	case opLeave:
		return getLeave(d)
	case opMakeSpares:
		return getMakeSpares(d)
	case opNameFile:
		return getNameFile(d)
	case opWant:
		return Want{d.File()}
	}
	return Forget{get16(d), d.File()}
}

// doNameless dispatches on an op about files without names.
func (s *state) doNameless(o Op) Result {
	switch o := o.(type) {
	case Unlink:
		return s.unlink(o)
	case RenameOver:
		return s.renameOver(o.Rename, o.Session)
	case Forget:
		return s.forgetNameless(o)
	case MakeDirKept:
		return s.makeDirKept(o)
	case Leave:
		return s.leave(o)
	case MakeSpares:
		return s.makeSpares(o)
	case NameFile:
		return s.nameFile(o)
	case Want:
		return s.want(o)
	}
	return refuse(blocktree.Unsupported, "unknown command")
}

// keeper is the session that keeps a file without a name, or the companion of one; false of any other.
func (s *state) keeper(f blocktree.FileID) (id SessionID, ok bool) {
	if s.counts.nameless == 0 {
		return id, false
	}
	if i := s.inode(f); i != nil && i.Integrity == IntegrityCompanion {
		f.Inode = i.Companion
	}
	b, ok := s.get(kindNameless, inodeRest(f.Inode))
	copy(id[:], b)
	return id, ok
}

// notFor refuses a file without a name to every session but the one that keeps it. A sector host holds it, too, to heal it.
func (s *state) notFor(id SessionID, f blocktree.FileID) Result {
	if k, ok := s.keeper(f); ok && k != id && (s.caller == nil || !s.isHost(s.caller)) {
		return refuse(blocktree.NotFound, "file %v was removed", f)
	}
	return Result{}
}

func (s *state) unlink(o Unlink) Result {
	i, r := s.stat(o.Path)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case o.File != i.ID:
		return refuse(blocktree.NotFound, "%s is another file by now", o.Path.Short())
	case i.Kind != KindFile:
		return refuse(blocktree.Invalid, "%s is no file", o.Path.Short())
	}
	if r = s.keepable(i, o.Session); r.Kind != blocktree.Other {
		return r
	}
	at, _ := s.walk(o.Path)
	if r = s.guard(at.parent); r.Kind != blocktree.Other {
		return r
	}
	s.noteEntry(at.parent)
	s.del(kindEntry, entryRest(at.parent, o.Path.Base()))
	s.keepNameless(i, o.Session)
	return Result{Inode: i}
}

// keepable refuses to keep a file for a session where another holds it.
func (s *state) keepable(i *Inode, id SessionID) Result {
	switch {
	case s.session(id) == nil:
		return refuse(blocktree.Fenced, "the session is closed or expired")
	case s.move(i.ID) != nil || s.left(i.ID) != nil:
		return refuse(blocktree.Busy, "file %v is on its way to its directory's cluster", i.ID).hinted("finish that first: btnode dir migrate")
	case s.counts.nameless-min(s.counts.nameless, s.counts.spares) >= NamelessMax:
		return refuse(blocktree.Busy, "a cluster keeps at most %d removed files for those who have them open", NamelessMax)
	}
	for _, f := range []blocktree.FileID{i.ID, i.companion()} {
		if l := s.lease(f); l != nil && l.Session != id {
			return inUse(l)
		}
	}
	return Result{}
}

// keepNameless notes that a session keeps a file whose entry is gone. Who has claimed its lease gets it no more.
func (s *state) keepNameless(i *Inode, id SessionID) {
	for _, f := range []blocktree.FileID{i.ID, i.companion()} {
		if l := s.lease(f); l != nil {
			if c := s.claim(l); c != nil && c.session != (SessionID{}) {
				s.del(kindClaim, inodeRest(f.Inode))
			}
		}
	}
	s.set(kindNameless, inodeRest(i.ID.Inode), id[:])
	s.keep(kindKept, id, i.ID.Inode, nil)
	s.counts.nameless++
	s.noteChange(i)
	s.setInode(i)
}

func (s *state) forgetNameless(o Forget) Result {
	i := s.inode(o.File)
	if k, ok := s.keeper(o.File); i == nil || !ok || k != o.Session || i.Integrity == IntegrityCompanion {
		return refuse(blocktree.NotFound, "the session keeps no file %v", o.File)
	}
	if r := s.freeFile(i); r.Kind != blocktree.Other {
		return r
	}
	s.dropNameless(i, o.Session)
	return Result{Inode: i}
}

// dropNameless forgets a file without a name, whose sectors were given back.
func (s *state) dropNameless(i *Inode, id SessionID) {
	if s.sparedBy(id, i.ID) {
		s.counts.spares -= min(s.counts.spares, 1)
	}
	s.del(kindNameless, inodeRest(i.ID.Inode))
	s.del(kindKept, heldRest(id, i.ID.Inode))
	s.counts.nameless -= min(s.counts.nameless, 1)
	s.forget(i)
}

// dropKept frees all that a session keeps, which is closed and has no leases any more. Who holds one to heal it does not any more.
func (s *state) dropKept(id SessionID) {
	if s.counts.nameless == 0 {
		return
	}
	var kept []blocktree.Inode
	s.scan(kindKept, id[:], nil, func(rest, _ []byte) bool {
		kept = append(kept, inodeOf(rest))
		return true
	})
	for _, n := range kept {
		i := s.inode(blocktree.FileID{Generation: s.superblock().Generation, Inode: n})
		if i == nil {
			continue
		}
		for _, f := range []blocktree.FileID{i.ID, i.companion()} {
			l := s.lease(f)
			if l == nil {
				continue
			}
			s.dropLease(l)
			if x := s.session(l.Session); x != nil && x.ID != id {
				x.Leases--
				s.setSession(x)
			}
		}
		_ = s.freeFile(i) // nobody holds it
		s.dropNameless(i, id)
	}
}
