package meta

import (
	"crypto/sha256"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"
)

// Bounds of spares, each with its reason.
const (
	// SparesPerSessionMax bounds the spares of a session: what a service has given away unnamed, and a few more. They are leases of it, too, and its end frees all of them by one command.
	SparesPerSessionMax = 64
	// MakeSparesMax bounds the files of one command: each is as much work for every member as to make one.
	MakeSparesMax = 32
	// sparesMax bounds those of all sessions. They take no room of files that are removed while they are open (NamelessMax).
	sparesMax = 2048
)

// MakeSpares makes N files without names (docs/design/0066) that Session keeps, and holds under their first epoch, of length 0. Result.Inode, Layout and Lease are those of the first; the others have the numbers after it, and the like. Refusals are Invalid (the shape, N), Fenced (there is no such session), Busy (it was renewed since: AcquireStaleAfter; too many have no name), Unavailable (SparesPerSessionMax,
// LeasesPerSessionMax, or as CreateFile), NoSpace, Permission (who is neither a sector host nor user id 0).
type MakeSpares struct {
	Session     SessionID
	SizeBytes   uint64
	SectorBytes uint32
	Code        blocktree.Code
	Durability  stripe.Durability
	N           uint8
	Time        int64
}

// KeyFound is what was found of the key that a new file is wrapped to: the nearest directory that has an access record, or may have one that is not told, as QueryUnkeyed says, and the SHA-256 of that record. All is zero where none has.
type KeyFound struct {
	At     blocktree.Path
	Record [sha256.Size]byte // zero: it is not told, or another cluster keeps it
}

// NameFile gives a spare that Session keeps, and holds under Epoch, a name: as CreateFile does at its Path, but for size, hosts and Parents, and the right to hold it as of CreateHeld, without which it is refused. Its end moves to End, and with Release the lease goes. Asked again, of a file that has this name, it moves the end and releases, if the session holds it under Epoch; else it is done, and changes nothing. A refusal other than Busy says whether the session keeps the file as a spare yet (Result.Kept); if not, and the session is there, it has had its name. Refusals are Exists, NotFound (Path is not in the directory Dir any more), StaleView
// (Key is not what counts for an encrypted file), Fenced (the session does not keep, or not hold, the file), Busy (also where the session was renewed since: AcquireStaleAfter), NoSpace, Invalid, TooLarge, Permission.
type NameFile struct {
	Session SessionID
	File    blocktree.FileID
	Epoch   blocktree.Epoch
	Dir     blocktree.FileID
	CreateFile
	Key     KeyFound
	End     uint64
	Release bool
	Wrote   int64 // when it was last written
}

func (MakeSpares) opcode() opcode { return opMakeSpares }
func (NameFile) opcode() opcode   { return opNameFile }

func putMakeSpares(e *wire.Encoder, o *MakeSpares) {
	e.Raw(o.Session[:])
	e.U64(o.SizeBytes)
	e.U32(o.SectorBytes)
	putCode(e, o.Code)
	e.U8(uint8(o.Durability))
	e.U8(o.N)
	e.U64(uint64(o.Time))
}

func getMakeSpares(d *wire.Decoder) MakeSpares {
	o := MakeSpares{Session: get16(d), SizeBytes: d.U64(), SectorBytes: d.U32(), Code: getCode(d), Durability: stripe.Durability(d.U8()), N: d.U8(), Time: int64(d.U64())}
	if o.Durability > stripe.DurabilityFlush || o.N == 0 || o.N > MakeSparesMax {
		bad(d, "an unknown durability, no spares, or too many")
	}
	return o
}

func putNameFile(e *wire.Encoder, o *NameFile) {
	e.Raw(o.Session[:])
	e.File(o.File)
	e.U64(uint64(o.Epoch))
	e.File(o.Dir)
	putCreateFile(e, &o.CreateFile)
	putPath(e, o.Key.At)
	e.Raw(o.Key.Record[:])
	e.U64(o.End)
	e.Bool(o.Release)
	e.U64(uint64(o.Wrote))
}

func getNameFile(d *wire.Decoder) NameFile {
	o := NameFile{Session: get16(d), File: d.File(), Epoch: blocktree.Epoch(d.U64()), Dir: d.File(), CreateFile: getCreateFile(d)}
	o.Key.At = getPath(d)
	copy(o.Key.Record[:], d.Raw(len(o.Key.Record)))
	o.End, o.Release, o.Wrote = d.U64(), d.Bool(), int64(d.U64())
	return o
}

// judgeKept is judge of what makes something in a directory that is kept, or to be put there. Spares makes who speaks for others, as nobody's right to make anything anywhere is asked for.
func (s *state) judgeKept(o Op) (Op, Result) {
	c := s.caller
	switch o := o.(type) {
	case MakeDirKept:
		o.UID, o.GID = c.Owns(o.UID, o.GID)
		return o, s.judgeNew(o.Path, o.Mode)
	case NameFile:
		o.UID, o.GID = c.Owns(o.UID, o.GID)
		return o, s.judgeNew(o.Path, o.Mode)
	}
	if !c.all() && !s.isHost(c) {
		return o, refuse(blocktree.Permission, "%s has not user id 0, and is no sector host", c).hinted("files are made ahead by filesystem services")
	}
	return o, Result{}
}

func (s *state) makeSpares(o MakeSpares) Result {
	x := s.session(o.Session)
	if r := s.fresh(x); r.Kind != blocktree.Other {
		return r
	}
	switch {
	case s.counts.spares+uint32(o.N) > sparesMax:
		return refuse(blocktree.Busy, "%d files have no name yet", s.counts.spares)
	case x.Leases+uint32(o.N) > LeasesPerSessionMax:
		return refuse(blocktree.Unavailable, "the session holds %d leases", x.Leases)
	}
	if r, ok := s.believed(x.Path, x.Principal); !ok {
		return r
	}
	kept := 0
	s.scanKept(kindKept, o.Session, func(_, v []byte) bool { // NamelessMax bounds what it keeps beside
		if isSpare(v) {
			kept++
		}
		return kept < SparesPerSessionMax
	})
	if kept+int(o.N) > SparesPerSessionMax {
		return refuse(blocktree.Unavailable, "the session keeps %d spares", kept)
	}
	l, r := s.newLayout(CreateFile{SizeBytes: o.SizeBytes, SectorBytes: o.SectorBytes, Code: o.Code}, o.Durability)
	if r.Kind != blocktree.Other {
		return r
	}
	if full, ok := s.room(int(o.N), 0); !ok {
		return full
	}
	var uid, gid uint32
	if s.caller != nil {
		uid, gid = s.caller.Owns(0, 0)
	}
	var first Result
	for range o.N {
		i := s.newInode(KindFile, 0o600, uid, gid, o.Time)
		i.SizeBytes, i.SectorBytes, i.Code, i.HasLength = o.SizeBytes, o.SectorBytes, o.Code, true
		s.noteChange(i)
		s.setInode(i)
		own := *l
		s.setFile(i.ID, &own)
		held := s.grant(x, &own, s.id)
		s.set(kindNameless, inodeRest(i.ID.Inode), o.Session[:])
		s.keep(kindKept, o.Session, i.ID.Inode, spareNote)
		s.counts.nameless++
		s.counts.spares++
		if first.Inode == nil {
			first = held
			first.Inode = i
		}
	}
	x.Leases += uint32(o.N)
	s.setSession(x)
	return first
}

// spareNote is noted of a spare beside which session keeps it; of a file that had a name, nothing is.
var spareNote = []byte{1}

func isSpare(note []byte) bool { return len(note) > 0 }

// sparedBy reports whether a session keeps a file that never had a name.
func (s *state) sparedBy(id SessionID, f blocktree.FileID) bool {
	if s.counts.spares == 0 || f.Generation != s.superblock().Generation {
		return false
	}
	note, ok := s.get(kindKept, heldRest(id, f.Inode))
	return ok && isSpare(note)
}

// dropSpare frees a file that never had a name, and that no other session than the one that keeps it holds.
func (s *state) dropSpare(f blocktree.FileID, id SessionID) {
	i := s.inode(f)
	if i == nil || !s.sparedBy(id, f) {
		return
	}
	if l := s.lease(f); l != nil {
		x := s.session(l.Session)
		if x == nil || x.ID != id { // a host that heals it: it goes with the session
			return
		}
		s.dropLease(l)
		x.Leases--
		s.setSession(x)
	}
	_ = s.freeFile(i) // nobody holds it
	s.dropNameless(i, id)
}

func (s *state) nameFile(o NameFile) Result {
	r := s.nameSpare(o)
	if r.Kind != blocktree.Other && r.Kind != blocktree.Busy && r.Redirect == nil {
		r.Kept = s.sparedBy(o.Session, o.File)
	}
	return r
}

func (s *state) nameSpare(o NameFile) Result {
	at, r := s.walk(o.Path)
	i, x := s.inode(o.File), s.session(o.Session)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case len(at.missing) == 0 && i != nil && at.found.file == o.File:
		return s.nameAgain(o, i)
	case x == nil:
		return refuse(blocktree.Fenced, "the session is closed or expired")
	}
	if r, ok := s.believed(x.Path, x.Principal); !ok {
		return r
	}
	switch {
	case len(at.missing) == 0:
		return refuse(blocktree.Exists, "%s exists", o.Path.Short())
	case len(at.missing) > 1 || o.Dir != at.found.file:
		return refuse(blocktree.NotFound, "%s is not in that directory any more", o.Path.Short())
	case i == nil || !s.sparedBy(o.Session, o.File) || !s.heldBy(o.File, o.Session, o.Epoch):
		return refuse(blocktree.Fenced, "the session does not hold file %v under epoch %d, without a name", o.File, o.Epoch)
	}
	if r := s.fresh(x); r.Kind != blocktree.Other {
		return r
	}
	if r := s.checkNamed(&o, i); r.Kind != blocktree.Other {
		return r
	}
	if r := s.guard(at.dir); r.Kind != blocktree.Other {
		return r
	}
	was := *i
	i.Mode, i.UID, i.GID = o.Mode, o.UID, o.GID
	s.set(kindParent, inodeRest(i.ID.Inode), inodeRest(at.dir)) // by which it is judged
	if !s.may(s.caller, i, RightsHold, s.now) {
		r := s.denied(s.caller, i, RightsHold, s.now)
		s.del(kindParent, inodeRest(i.ID.Inode))
		*i = was
		return r
	}
	s.counts.access += uint64(len(o.Access))
	i.Suite, i.KeyID, i.Access, i.Created, i.Modified = o.Suite, o.KeyID, o.Access, o.CreateFile.Time, s.notLater(o.Wrote)
	i.HasLength, i.LengthBytes = true, o.End
	s.noteChange(i)
	s.setInode(i)
	s.noteEntry(at.dir)
	s.setEntry(at.dir, at.missing[0], entry{file: i.ID, kind: KindFile})
	s.del(kindNameless, inodeRest(i.ID.Inode))
	s.del(kindKept, heldRest(o.Session, i.ID.Inode))
	s.counts.nameless -= min(s.counts.nameless, 1)
	s.counts.spares -= min(s.counts.spares, 1)
	return s.namedAs(o, i)
}

// checkNamed looks whether a spare may be what it is to be.
func (s *state) checkNamed(o *NameFile, i *Inode) Result {
	switch {
	case o.SectorBytes != i.SectorBytes || o.Code != i.Code:
		return refuse(blocktree.Invalid, "file %v is of another shape", o.File)
	case o.End > i.SizeBytes:
		return refuse(blocktree.Invalid, "an end at byte %d", o.End).hinted("a file ends at its size at most: make that larger first")
	case len(o.Access) > AccessBytesMax:
		return refuse(blocktree.TooLarge, "access record of %d bytes", len(o.Access))
	}
	if full, ok := s.room(0, len(o.Access)); !ok {
		return full
	}
	if len(o.Access) == 0 {
		return Result{}
	}
	key, r := s.keyFound(o.Path.Parent())
	if r.Kind != blocktree.Other {
		return r
	}
	if sb := s.superblock(); key.At != o.Key.At || key.At.Within(sb.Dir) && key.Record != o.Key.Record {
		return refuse(blocktree.StaleView, "the key of the directory of %s is another by now", o.Path.Short())
	}
	return Result{}
}

// keyFound is what counts of the key for a new file in dir, as the caller may be told.
func (s *state) keyFound(dir blocktree.Path) (key KeyFound, r Result) {
	if key.At, r = s.unkeyed(&Query{Path: dir, Caller: s.caller, Time: s.now}); r.Kind != blocktree.Other || key.At == "" {
		return key, r
	}
	if i, bad := s.stat(key.At); bad.Kind == blocktree.Other && len(i.Access) > 0 && s.rights(s.caller, i, s.now)&rightsRecord(i) != 0 {
		key.Record = sha256.Sum256(i.Access)
	}
	return key, Result{}
}

// nameAgain is NameFile of what has the name already. Its end is moved under the lease only: who had it since may have moved it on.
func (s *state) nameAgain(o NameFile, i *Inode) Result {
	if x := s.session(o.Session); x == nil || !s.heldBy(o.File, o.Session, o.Epoch) {
		return Result{Inode: i}
	} else if r, ok := s.believed(x.Path, x.Principal); !ok {
		return r
	}
	switch {
	case !s.may(s.caller, i, RightsHold, s.now):
		return s.denied(s.caller, i, RightsHold, s.now)
	case o.End > i.SizeBytes:
		return refuse(blocktree.Invalid, "an end at byte %d", o.End).hinted("a file ends at its size at most: make that larger first")
	}
	i.HasLength, i.LengthBytes, i.Modified = true, o.End, s.notLater(o.Wrote)
	s.noteChange(i)
	s.setInode(i)
	return s.namedAs(o, i)
}

// namedAs is the answer to a NameFile that is done, but for the lease.
func (s *state) namedAs(o NameFile, i *Inode) Result {
	if o.Release {
		s.release(Release{Session: o.Session, File: o.File, Epoch: o.Epoch}) // it is held so
		return Result{Inode: i}
	}
	return Result{Inode: i, Lease: s.lease(o.File)}
}
