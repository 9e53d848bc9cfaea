package meta

import (
	"strings"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/internal/wire"
)

// RenameEntriesMax bounds what is beneath a directory that gets another name: all of it is looked at while the command is applied, some tens of milliseconds.
const RenameEntriesMax = 4096

// Rename gives what From names the name To (docs/design/0044), in the place of what has it: a file in that of a file which nobody holds, a directory in that of an empty one. Done so already, or From being To, is a
// success. A refusal is remembered as that of Remove. NotFound (From, or another file there than File; the directory of To), Exists (To, with Over zero), StaleView (To names another one than Over; or Records are not the next of what is
// moved), Invalid (a directory into itself, a file over a directory or the other way round; the root directory), Busy (what is replaced is held, or not empty; runtimes have their paths beneath; Result.Kept, also of a directory beneath), CrossDevice (another cluster
// keeps a part of it), TooLarge (RenameEntriesMax, or paths beneath would be), NoSpace (AccessTotalBytesMax).
type Rename struct {
	From, To blocktree.Path
	File     blocktree.FileID
	Over     blocktree.FileID // zero: nothing is replaced
	// Records are the next access records, of File and of all beneath, of each that has one with a number. They name the paths to be.
	Records []NextRecord
}

// NextRecord is the access record that a file or directory gets.
type NextRecord struct {
	File   blocktree.FileID
	Access []byte
}

func (Rename) opcode() opcode { return opRename }

func putRename(e *wire.Encoder, o *Rename) {
	putPath(e, o.From)
	putPath(e, o.To)
	e.File(o.File)
	e.File(o.Over)
	e.U16(uint16(len(o.Records)))
	for i := range o.Records {
		e.File(o.Records[i].File)
		e.Bytes(o.Records[i].Access)
	}
}

func getRename(d *wire.Decoder) Rename {
	o := Rename{From: getPath(d), To: getPath(d), File: d.File(), Over: d.File()}
	n := int(d.U16())
	if n > RenameEntriesMax+1 {
		bad(d, "too many records")
	}
	for ; n > 0 && d.Err() == nil; n-- {
		r := NextRecord{d.File(), getBytes(d, AccessBytesMax)}
		if len(r.Access) == 0 && d.Err() == nil {
			bad(d, "no record")
		}
		o.Records = append(o.Records, r)
	}
	return o
}

// apart refuses what would take two clusters.
func apart(format string, args ...any) Result {
	return refuse(blocktree.CrossDevice, format, args...).hinted("copy it, then remove it where it was: btnode get and put")
}

// renaming is what a Rename is about.
type renaming struct {
	Rename
	from, to lookup
	dir      blocktree.Inode // that is to have the entry
	inode    *Inode          // what is moved
	over     *Inode          // what is replaced; nil: nothing
	records  []*Inode        // that are to have another record
	keeper   SessionID       // that keeps what is replaced; zero: nobody does
}

func (s *state) rename(o Rename) Result { return s.renameOver(o, SessionID{}) }

// renameOver is rename with what is replaced kept for a session, unless that is zero.
func (s *state) renameOver(o Rename, keeper SessionID) Result {
	m := renaming{Rename: o, keeper: keeper}
	if r := s.findRenamed(&m); r.Kind != blocktree.Other || o.From == o.To {
		return r
	}
	for _, check := range []func(*renaming) Result{s.checkPlaces, s.checkMoved, s.checkRecords, s.checkKept, s.freeReplaced} { // the last one changes something
		if r := check(&m); r.Kind != blocktree.Other {
			return r
		}
	}
	s.del(kindEntry, entryRest(m.from.parent, o.From.Base()))
	s.setEntry(m.dir, o.To.Base(), m.from.found)
	s.noteEntry(m.from.parent)
	if m.dir != m.from.parent {
		s.noteEntry(m.dir)
	}
	s.renameMoves(o.From, o.To)
	for k, i := range m.records {
		s.counts.access -= min(s.counts.access, uint64(len(i.Access)))
		s.counts.access += uint64(len(o.Records[k].Access))
		i.Access = o.Records[k].Access
		s.setInode(i)
	}
	if i := s.inode(o.File); i != nil && s.notesChanges() {
		s.noteChange(i)
		s.setInode(i)
	}
	if m.dir != m.from.parent && s.caller != nil { // other grants hold; of what the cluster does by itself nobody is judged, as with modes
		s.changes.Rights = true
		s.tookAway(m.inode)
	}
	return Result{Inode: s.inode(o.File)}
}

// findRenamed follows both paths. It is redirected to the cluster of the first; that the second is another's is refused.
func (s *state) findRenamed(m *renaming) (r Result) {
	if m.from, r = s.walk(m.From); r.Kind != blocktree.Other {
		return r
	}
	switch f := m.from.found.file; {
	case len(m.from.missing) > 0:
		return refuse(blocktree.NotFound, "%s does not exist", m.From.Short())
	case m.File != f:
		return refuse(blocktree.NotFound, "%s is another file by now", m.From.Short())
	case f.Generation != s.superblock().Generation:
		return apart("%s is a file that another cluster keeps", m.From.Short())
	case m.from.parent == 0:
		return refuse(blocktree.Invalid, "the cluster's own directory stays")
	}
	if m.inode = s.inode(m.File); m.inode == nil {
		return refuse(blocktree.NotFound, "%s does not exist", m.From.Short())
	}
	if m.From == m.To {
		return Result{Inode: m.inode}
	}
	m.to, r = s.walk(m.To)
	switch {
	case r.Redirect != nil:
		return apart("another cluster keeps %s than %s", m.To.Short(), m.From.Short())
	case r.Kind != blocktree.Other:
		return r
	case len(m.to.missing) > 1:
		return refuse(blocktree.NotFound, "%s does not exist", m.To.Parent().Short())
	}
	if m.dir = m.to.dir; len(m.to.missing) == 0 {
		m.dir = m.to.parent
	}
	return Result{}
}

// checkPlaces looks at what has the name already, and whether that may be replaced by what is moved.
func (s *state) checkPlaces(m *renaming) Result {
	kind := m.inode.Kind
	if kind == KindDir && m.To.Within(m.From) {
		return refuse(blocktree.Invalid, "%s lies in %s itself", m.To.Short(), m.From.Short()).hinted("name a place outside of it")
	}
	if len(m.to.missing) > 0 {
		return Result{}
	}
	switch there := m.to.found; {
	case m.to.parent == 0:
		return refuse(blocktree.Invalid, "the cluster's own directory stays")
	case m.Over == (blocktree.FileID{}):
		return refuse(blocktree.Exists, "%s exists", m.To.Short())
	case m.Over != there.file:
		return refuse(blocktree.StaleView, "%s is another file by now", m.To.Short())
	case kind != KindDir && there.kind == KindDir:
		return refuse(blocktree.Invalid, "%s is a directory", m.To.Short()).hinted("name the file in it: %s", m.To.Join(m.From.Base()).Short())
	case kind == KindDir && there.kind != KindDir:
		return refuse(blocktree.Invalid, "%s is not a directory", m.To.Short()).hinted("a directory takes the place of an empty directory only")
	case there.file.Generation != s.superblock().Generation:
		return apart("%s is a file that another cluster keeps", m.To.Short()).hinted("remove it first")
	}
	if m.over = s.inode(m.Over); m.over != nil && m.over.Kind == KindDir {
		return s.checkEmpty(m.To, m.over)
	}
	return Result{}
}

// checkMoved looks at what is moved, and at all beneath it.
func (s *state) checkMoved(m *renaming) Result {
	if keys.NumberOf(m.inode.Access) > 0 {
		m.records = append(m.records, m.inode)
	}
	if m.inode.Kind != KindDir {
		return Result{}
	}
	if m.inode.Delegation != nil {
		return refuse(blocktree.Busy, "%s has a cluster of its own", m.From.Short()).hinted("a directory that was delegated keeps its name")
	}
	for _, r := range append(s.allBelow(), s.runtimes()...) {
		if r.Path.Within(m.From) {
			return refuse(blocktree.Busy, "%s has its path there", r.Path.Short()).hinted("a directory of runtimes keeps its name: credentials say it")
		}
	}
	b := beneath{left: RenameEntriesMax, path: m.To}
	r := s.beneath(m.File.Inode, &b)
	m.records = append(m.records, b.records...)
	return r
}

// beneath is what is looked at beneath a directory that gets another name.
type beneath struct {
	left    int            // of RenameEntriesMax
	path    blocktree.Path // the directory's to be
	records []*Inode       // that name their paths, in the order of their paths
}

func (s *state) beneath(dir blocktree.Inode, b *beneath) (r Result) {
	type named struct {
		name string
		entry
	}
	var found []named
	s.scan(kindEntry, inodeRest(dir), nil, func(rest, v []byte) bool {
		e, err := decodeEntryValue(v)
		s.check(err)
		found = append(found, named{string(rest), e})
		return err == nil && len(found) <= b.left
	})
	if b.left -= len(found); b.left < 0 {
		return refuse(blocktree.TooLarge, "more than %d files and directories are beneath it", RenameEntriesMax).hinted("make the directory anew, and move what is in it in parts")
	}
	for _, x := range found {
		p := b.path.Join(x.name)
		switch i := s.inode(x.file); {
		case x.away || x.file.Generation != s.superblock().Generation:
			what := x.name
			if d := s.inode(blocktree.FileID{Generation: s.superblock().Generation, Inode: dir}); d != nil && !s.may(s.caller, d, RightList, s.now) {
				what = "something" // the caller writes the directory above, and may not list this one
			}
			return apart("another cluster keeps %s, which is beneath it", what)
		case len(p) > blocktree.PathBytesMax || strings.Count(string(p), "/") > blocktree.PathDepthMax:
			return refuse(blocktree.TooLarge, "paths beneath it would be too long, or too deep").hinted("name a place with a shorter path")
		case i == nil: // an entry without an inode says nothing
		default:
			if keys.NumberOf(i.Access) > 0 {
				b.records = append(b.records, i)
			}
			if i.Kind != KindDir {
				continue
			}
			within := b.path
			b.path = p
			r = s.beneath(x.file.Inode, b)
			if b.path = within; r.Kind != blocktree.Other {
				return r
			}
		}
	}
	return Result{}
}

// checkRecords wants the next record of each that has one, in the order in which beneath finds them, of who may set it, and room for them.
func (s *state) checkRecords(m *renaming) Result {
	for _, i := range m.records { // also those that the caller is not told of
		if r := s.judgeFile(i.ID, RightAdmin); r.Kind != blocktree.Other {
			return r
		}
	}
	stale := refuse(blocktree.StaleView, "%d access records are not the next of the %d that name their paths", len(m.Records), len(m.records))
	if len(m.Records) != len(m.records) {
		return stale
	}
	more := 0
	for k, i := range m.records {
		r := &m.Records[k]
		if r.File != i.ID || keys.NumberOf(r.Access) != keys.NumberOf(i.Access)+1 {
			return stale
		}
		more += len(r.Access) - len(i.Access)
	}
	full, ok := s.room(0, max(more, 0))
	if !ok {
		return full
	}
	return Result{}
}

// checkKept refuses what changes a directory that another session keeps, or the path of one: its keeper answers by that, and asks nobody.
func (s *state) checkKept(m *renaming) Result {
	dirs := []blocktree.Inode{m.from.parent, m.dir}
	if m.over != nil {
		dirs = append(dirs, m.over.ID.Inode)
	}
	if m.inode.Kind == KindDir {
		return s.guardBelow(m.File.Inode, dirs...)
	}
	return s.guard(dirs...)
}

// freeReplaced gives back what is replaced, unless somebody holds it.
func (s *state) freeReplaced(m *renaming) Result {
	if m.over == nil {
		return Result{}
	}
	if m.over.Kind == KindFile && m.keeper != (SessionID{}) {
		r := s.keepable(m.over, m.keeper)
		if r.Kind == blocktree.Other {
			s.keepNameless(m.over, m.keeper)
		}
		return r
	}
	if m.over.Kind == KindFile {
		if r := s.freeFile(m.over); r.Kind != blocktree.Other {
			return r
		}
	}
	s.forget(m.over)
	return Result{}
}

// judgeRename judges a rename: write on both directories, admin on what gets another directory and on all whose record changes.
func (s *state) judgeRename(o Rename) Result {
	if r := s.judgeRemove(Remove{Path: o.From}); r.Kind != blocktree.Other {
		return r
	}
	from, r := s.walk(o.From)
	if r.Kind != blocktree.Other || len(from.missing) > 0 {
		return r // the op says so
	}
	to, r := s.walk(o.To)
	switch {
	case r.Kind != blocktree.Other:
		return Result{} // likewise
	case len(to.missing) > 0:
		r = s.judgeFile(to.found.file, RightWrite)
	default:
		to.dir = to.parent
		r = s.judgeRemove(Remove{Path: o.To})
	}
	if r.Kind == blocktree.Other && to.dir != from.parent {
		r = s.judgeFile(from.found.file, RightAdmin)
	}
	for k := 0; k < len(o.Records) && r.Kind == blocktree.Other; k++ {
		r = s.judgeFile(o.Records[k].File, RightAdmin)
	}
	return r
}
