package meta

import (
	"encoding/binary"

	"blocktree"
	"blocktree/internal/wire"
)

// Bounds of directories whose names sessions keep, each with its reason.
const (
	// KeptDirsPerSessionMax bounds those of one session: its end leaves all of them by one command.
	KeptDirsPerSessionMax = 1024
	// LeaveMax bounds what is left by one command.
	LeaveMax = 1024
	// WantedMax bounds the wanted directories that one answer tells of; which of more is drawn by the command.
	WantedMax = 64
)

// MakeDirKept is MakeDir of one directory whose names Session keeps from the first (docs/design/0079): until it leaves it, or ends, no command of anybody else changes its entries. Where the session keeps too many the directory is made, and not kept (Result.Kept). Refusals are those of MakeDir, Invalid (Parents), Fenced (there is no such session) and Busy (it was renewed since: AcquireStaleAfter), so that no late copy makes a directory that nobody asks for any more.
type MakeDirKept struct {
	MakeDir
	Session SessionID
}

// Leave gives back the names of directories, and frees spares that have no name yet, of those that Session keeps; of others it does nothing. It is done again when it is asked again.
type Leave struct {
	Session SessionID
	Dirs    []blocktree.FileID
	Spares  []blocktree.FileID
}

// Want notes that somebody wants a directory whose names another session keeps, as he was told that there is nothing of a name in it, or listed it (docs/design/0086): Busy, and Result.Kept, until it is left; then, and where nobody keeps it, it is done, and changes nothing. It is done again when it is asked again. Permission (who may neither list the directory nor write in it, and so is told neither).
type Want struct{ Dir blocktree.FileID }

// KeptBy is a directory whose names a session keeps: only its client knows all of them.
type KeptBy struct {
	Dir     blocktree.FileID
	Session SessionID
	Wanted  bool // somebody wants it, which its keeper is told with each answer
}

func (MakeDirKept) opcode() opcode { return opMakeDirKept }
func (Leave) opcode() opcode       { return opLeave }
func (Want) opcode() opcode        { return opWant }

func putLeave(e *wire.Encoder, o *Leave) {
	e.Raw(o.Session[:])
	for _, files := range [][]blocktree.FileID{o.Dirs, o.Spares} {
		putFileIDs(e, files)
	}
}

func getLeave(d *wire.Decoder) Leave {
	return Leave{Session: get16(d), Dirs: getFileIDs(d, LeaveMax), Spares: getFileIDs(d, LeaveMax)}
}

func putFileIDs(e *wire.Encoder, files []blocktree.FileID) {
	e.U16(uint16(len(files)))
	for _, f := range files {
		e.File(f)
	}
}

func getFileIDs(d *wire.Decoder, most int) (files []blocktree.FileID) {
	n := int(d.U16())
	if n > most {
		bad(d, "too many files")
	}
	for ; n > 0 && d.Err() == nil; n-- {
		files = append(files, d.File())
	}
	return files
}

// asksAsKeeper is the session that a command says to come from, which its node has made sure of; zero: none. Who names a file tells its session beside.
func asksAsKeeper(c *Command) SessionID {
	if o, ok := c.Op.(NameFile); ok {
		return o.Session
	}
	return c.Keeper
}

// tellsWanted is the session that is told in the answer to a command which directories of its are wanted; zero: none.
func tellsWanted(c *Command) SessionID {
	if c.Keeper != (SessionID{}) {
		return c.Keeper
	}
	switch o := c.Op.(type) {
	case RenewSession:
		return o.Session
	case MakeDirKept:
		return o.Session
	case MakeSpares:
		return o.Session
	}
	return asksAsKeeper(c)
}

// keeps is the session that keeps the names of a directory; false: none does.
func (s *state) keeps(dir blocktree.Inode) (id SessionID, ok bool) {
	if s.counts.keptDirs == 0 {
		return id, false
	}
	b, ok := s.get(kindKeptDir, inodeRest(dir))
	copy(id[:], b)
	return id, ok
}

// guard refuses to change the entries of directories, or those directories themselves, of which another session keeps one than the one that asks, and notes that this is wanted. Each op asks before it changes anything.
func (s *state) guard(dirs ...blocktree.Inode) Result {
	if s.counts.keptDirs == 0 {
		return Result{}
	}
	r := Result{}
	for _, dir := range dirs {
		id, ok := s.keeps(dir)
		if !ok || id == s.keeperAsks {
			continue
		}
		if _, noted := s.get(kindWanted, heldRest(id, dir)); !noted {
			s.set(kindWanted, heldRest(id, dir), nil)
			s.counts.wanted++
		}
		by := "another session"
		if x := s.session(id); x != nil {
			by = x.Path.Short()
		}
		r = refuse(blocktree.Busy, "the names in the directory are kept by %s", by).hinted("it gives them back within a second or two, or loses them when it has been silent for %v: ask again", blocktree.LeaseTerm)
		r.Kept = true
	}
	return r
}

// want refuses for as long as another session keeps the directory. One that is not there is nobody's.
func (s *state) want(o Want) Result {
	if o.Dir.Generation != s.superblock().Generation {
		return Result{}
	}
	return s.guard(o.Dir.Inode)
}

// judgeWant judges who wants a directory: whoever may be told what is in it, or that there is nothing of a name (judgeNotFound). Others learn from no answer that it is kept, and take it from nobody.
func (s *state) judgeWant(o Want) Result {
	i := s.inode(o.Dir)
	if i == nil || s.may(s.caller, i, RightList, s.now) || s.may(s.caller, i, RightWrite, s.now) {
		return Result{}
	}
	return s.denied(s.caller, i, RightList, s.now)
}

// keptFrom is the directory whose names a session keeps in which a query, that was answered with a kind, has found nothing of a name, or which it lists; nil: there is none. Queries that look for directories alone are not told: who keeps one makes directories in it by commands. Nor is Files: how files are is known of those that have names, and who asks does so of all directories.
func (s *state) keptFrom(q *Query, answered blocktree.Kind) *KeptBy {
	lists := answered == blocktree.Other && q.Kind == QueryList
	if s.counts.keptDirs == 0 || !lists && answered != blocktree.NotFound { // what was found is looked for once
		return nil
	}
	switch q.Kind {
	case QueryStat, QueryAllowed, QueryXattrs, QueryList:
	default:
		return nil
	}
	at, r := s.follow(s.superblock(), q.Path)
	if r.Kind != blocktree.Other || !lists && len(at.missing) == 0 {
		return nil
	}
	dir := at.found.file // the last that there is
	id, ok := s.keeps(dir.Inode)
	if !ok || dir.Generation != s.superblock().Generation {
		return nil
	}
	_, wanted := s.get(kindWanted, heldRest(id, dir.Inode))
	return &KeptBy{Dir: dir, Session: id, Wanted: wanted}
}

// guardBelow is guard of the directories others, and of all that are kept at or below dir.
func (s *state) guardBelow(dir blocktree.Inode, others ...blocktree.Inode) Result {
	if s.counts.keptDirs == 0 {
		return Result{}
	}
	var kept []blocktree.Inode
	s.scan(kindKeptDir, nil, nil, func(rest, _ []byte) bool {
		kept = append(kept, inodeOf(rest))
		return true
	})
	for _, n := range kept {
		s.upward(n, func(up blocktree.Inode) bool {
			if up == dir {
				others = append(others, n)
			}
			return up != dir
		})
	}
	return s.guard(others...)
}

// wantedOf are directories that a session keeps and others want. Of too many for one answer each answer tells others, so that none of them, which is not left, hides the rest.
func (s *state) wantedOf(id SessionID) (dirs []blocktree.FileID) {
	if s.counts.wanted == 0 || id == (SessionID{}) {
		return nil
	}
	g := s.superblock().Generation
	s.scan(kindWanted, id[:], nil, func(rest, _ []byte) bool { // KeptDirsPerSessionMax bounds them
		dirs = append(dirs, blocktree.FileID{Generation: g, Inode: inodeOf(rest)})
		return true
	})
	if n := len(dirs); n > WantedMax {
		first := int(binary.BigEndian.Uint32(s.id[12:]) % uint32(n)) // drawn by who asks
		dirs = append(dirs[first:], dirs[:first]...)[:WantedMax]
	}
	return dirs
}

func (s *state) makeDirKept(o MakeDirKept) Result {
	if o.Parents {
		return refuse(blocktree.Invalid, "one directory is made and kept, not those above it")
	}
	if _, r := s.walk(o.Path); r.Kind != blocktree.Other { // first of all, who has the path
		return r
	}
	x := s.session(o.Session)
	if r := s.fresh(x); r.Kind != blocktree.Other {
		return r
	}
	r := s.makeDir(o.MakeDir)
	if r.Kind != blocktree.Other {
		return r
	}
	if _, ok := s.believed(x.Path, x.Principal); !ok {
		return r
	}
	kept := 0
	s.scanKept(kindKeeps, o.Session, func(_, _ []byte) bool {
		kept++
		return kept < KeptDirsPerSessionMax
	})
	if kept >= KeptDirsPerSessionMax {
		return r
	}
	dir := r.Inode.ID.Inode
	s.set(kindKeptDir, inodeRest(dir), o.Session[:])
	s.keep(kindKeeps, o.Session, dir, nil)
	s.counts.keptDirs++
	r.Kept = true
	return r
}

// fresh refuses what is to make something for a session that is gone, or was renewed long since the command was drawn: nobody asks for it any more.
func (s *state) fresh(x *Session) Result {
	switch {
	case x == nil:
		return refuse(blocktree.Fenced, "the session is closed or expired")
	case s.id.drawn()+uint64(AcquireStaleAfter) < s.renewed(x.ID):
		return refuse(blocktree.Busy, "asked for too long ago").hinted("ask again")
	}
	return Result{}
}

func (s *state) leave(o Leave) Result {
	for _, f := range o.Dirs {
		if id, ok := s.keeps(f.Inode); ok && id == o.Session && f.Generation == s.superblock().Generation {
			s.unkeep(f.Inode)
		}
	}
	for _, f := range o.Spares {
		s.dropSpare(f, o.Session)
	}
	return Result{}
}

// unkeep has nobody keep the names of a directory any more.
func (s *state) unkeep(dir blocktree.Inode) {
	id, ok := s.keeps(dir)
	if !ok {
		return
	}
	s.del(kindKeptDir, inodeRest(dir))
	s.del(kindKeeps, heldRest(id, dir))
	s.counts.keptDirs -= min(s.counts.keptDirs, 1)
	if _, noted := s.get(kindWanted, heldRest(id, dir)); noted {
		s.del(kindWanted, heldRest(id, dir))
		s.counts.wanted -= min(s.counts.wanted, 1)
	}
}

// dropKeeps leaves all directories that a session keeps, which ends.
func (s *state) dropKeeps(id SessionID) {
	if s.counts.keptDirs == 0 {
		return
	}
	var dirs []blocktree.Inode
	s.scan(kindKeeps, id[:], nil, func(rest, _ []byte) bool {
		dirs = append(dirs, inodeOf(rest))
		return true
	})
	for _, dir := range dirs {
		s.unkeep(dir)
	}
}
