package meta

import (
	"slices"

	"blocktree"
	"blocktree/internal/wire"
)

// FoundChild is Found of the cluster of a delegated directory. It answers for no path before EndTaking.
type FoundChild struct{ Found }

// SetAbove tells a child what its parent says. It is refused as StaleView if the child knows what is newer.
type SetAbove struct{ Above Above }

// TakeEntries puts entries of the directory Dir, which has to be there, into a child that is taking over; what is there already stays. Invalid (it is not taking over), NotFound (Dir), NoSpace.
type TakeEntries struct {
	Dir     blocktree.Path
	Entries []TakenEntry
	Below   []blocktree.Runtime // records of runtimes directly in delegated directories among Entries
}

// EndTaking says that a child has every entry; with Answer, that its parent has handed them over, so that it answers for its paths from now on. Unavailable without what is above, Invalid where it
// has not every entry.
type EndTaking struct{ Answer bool }

func (FoundChild) opcode() opcode  { return opFoundChild }
func (SetAbove) opcode() opcode    { return opSetAbove }
func (TakeEntries) opcode() opcode { return opTakeEntries }
func (EndTaking) opcode() opcode   { return opEndTaking }

// TakenEntry is an entry on its way from a parent to its child: of a directory all that there is, of a file which one it is.
type TakenEntry struct {
	Name   string
	Inode  Inode // of a file ID and Kind only
	Grants []Grant
	Last   RightsChange
}

// Above is what a child knows of what is above it.
type Above struct {
	// Number is the parent's log index, and Generation the parent's: of two the one with the later generation is newer (a parent is replaced only by one that is nearer), then that with the greater number.
	Number     uint64
	Generation blocktree.Generation
	Parent     blocktree.Path
	Runtimes   []blocktree.Runtime // the parent's sector hosts, at most RedirectRuntimesMax
	Levels     []Level             // from the root directory down to the child's own
}

// Level is what counts of a directory for those beneath it.
type Level struct {
	Mode     uint32
	UID, GID uint32
	Grants   []Grant
	Last     RightsChange
}

func putLevel(e *wire.Encoder, l *Level) {
	e.U32(l.Mode)
	e.U32(l.UID)
	e.U32(l.GID)
	putGranted(e, &grantsNote{l.Grants, l.Last})
}

func getLevel(d *wire.Decoder) (l Level) {
	l.Mode, l.UID, l.GID = d.U32(), d.U32(), d.U32()
	a := getGranted(d)
	l.Grants, l.Last = a.grants, a.last
	return l
}

func putAbove(e *wire.Encoder, a *Above) {
	e.U64(a.Number)
	e.U64(uint64(a.Generation))
	putPath(e, a.Parent)
	putRuntimes(e, a.Runtimes[:min(len(a.Runtimes), RedirectRuntimesMax)])
	e.U16(uint16(len(a.Levels)))
	for i := range a.Levels {
		putLevel(e, &a.Levels[i])
	}
}

func getAbove(d *wire.Decoder) *Above {
	a := &Above{Number: d.U64(), Generation: blocktree.Generation(d.U64()), Parent: getPath(d), Runtimes: getRuntimes(d)}
	n := int(d.U16())
	if d.Err() == nil && (n == 0 || n > blocktree.PathDepthMax+1 || len(a.Runtimes) > RedirectRuntimesMax) {
		bad(d, "an impossible way up")
	}
	for ; n > 0 && d.Err() == nil; n-- {
		a.Levels = append(a.Levels, getLevel(d))
	}
	return a
}

func putTaken(e *wire.Encoder, x *TakenEntry) {
	e.String(x.Name)
	putInode(e, &x.Inode)
	putGranted(e, &grantsNote{x.Grants, x.Last})
}

func getTaken(d *wire.Decoder) (x TakenEntry) {
	x.Name, x.Inode = d.String(blocktree.NameBytesMax), *getInode(d)
	a := getGranted(d)
	x.Grants, x.Last = a.grants, a.last
	return x
}

func putTakens(e *wire.Encoder, xs []TakenEntry) {
	e.U16(uint16(len(xs)))
	for i := range xs {
		putTaken(e, &xs[i])
	}
}

func getTakens(d *wire.Decoder) (xs []TakenEntry) {
	n := int(d.U16())
	if n > TakeEntriesMax {
		bad(d, "too many entries")
	}
	for ; n > 0 && d.Err() == nil; n-- {
		xs = append(xs, getTaken(d))
	}
	return xs
}

// above is what the cluster knows of what is above it; nil in the root cluster, and in one that was told nothing yet.
func (s *state) above() *Above { return value(s, kindAbove, nil, getAbove) }

func (s *state) foundChild(o FoundChild) Result {
	r := s.found(o.Found)
	if r.Kind == blocktree.Other {
		sb := s.superblock()
		sb.Child, sb.Taking = true, TakingEntries
		s.setSuperblock(sb)
	}
	return r
}

func (s *state) setAbove(o SetAbove) Result {
	sb, old := s.superblock(), s.above()
	switch {
	case !sb.Child || len(o.Above.Levels) == 0 || !sb.Dir.Within(o.Above.Parent) || sb.Dir == o.Above.Parent:
		return refuse(blocktree.Invalid, "%s has nothing of that above it", sb.Dir.Short())
	case old != nil && (o.Above.Generation < old.Generation || o.Above.Generation == old.Generation && o.Above.Number < old.Number):
		return refuse(blocktree.StaleView, "what is above is known as of %d of generation %d", old.Number, old.Generation)
	}
	store(s, kindAbove, nil, &o.Above, putAbove)
	if i := s.inode(blocktree.FileID{Generation: sb.Generation, Inode: RootInode}); i != nil {
		own := o.Above.Levels[len(o.Above.Levels)-1]
		i.Mode, i.UID, i.GID = own.Mode, own.UID, own.GID
		s.setInode(i)
	}
	s.tookAway(nil)
	return Result{}
}

func (s *state) takeEntries(o TakeEntries) Result {
	sb := s.superblock()
	if !sb.Child || sb.Taking != TakingEntries {
		return refuse(blocktree.Invalid, "the cluster is not taking over")
	}
	at, r := s.follow(sb, o.Dir)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case len(at.missing) > 0 || at.found.kind != KindDir:
		return refuse(blocktree.NotFound, "no directory %s", o.Dir.Short())
	}
	bytes := 0
	for i := range o.Entries {
		bytes += len(o.Entries[i].Inode.Access) + len(o.Entries[i].Inode.Target) + xattrBytes(o.Entries[i].Inode.Xattrs)
	}
	if full, ok := s.room(len(o.Entries), bytes); !ok {
		return full
	}
	for i := range o.Entries {
		s.takeEntry(at.found.file.Inode, &o.Entries[i])
	}
	for i := range o.Below {
		store(s, kindBelow, []byte(o.Below[i].Path), &o.Below[i], putRuntime)
	}
	return Result{}
}

func (s *state) takeEntry(dir blocktree.Inode, x *TakenEntry) {
	if _, there := s.entry(dir, x.Name); there {
		return
	}
	if x.Inode.Kind == KindFile {
		s.setEntry(dir, x.Name, entry{file: x.Inode.ID, kind: x.Inode.Kind})
		return
	}
	from := &x.Inode
	s.counts.times = s.counts.times || from.Kind == KindLink || from.Changed != 0 || len(from.Xattrs) > 0 // versions before know none of that
	i := s.newInode(from.Kind, from.Mode, from.UID, from.GID, from.Created)
	i.Modified, i.Changed, i.Access, i.Heard, i.Delegation, i.Target = from.Modified, from.Changed, from.Access, from.Heard, from.Delegation, from.Target
	s.counts.access += uint64(len(i.Access) + len(i.Target))
	s.setInode(i)
	s.putXattrs(i.ID.Inode, from.Xattrs)
	s.setEntry(dir, x.Name, entry{i.ID, i.Kind, i.Delegation != nil})
	if len(x.Grants) > 0 || x.Last.By != "" {
		store(s, kindGranted, inodeRest(i.ID.Inode), &grantsNote{x.Grants, x.Last}, putGranted)
	}
}

func (s *state) endTaking(o EndTaking) Result {
	sb := s.superblock()
	switch {
	case !sb.Child || o.Answer && sb.Taking == TakingEntries:
		return refuse(blocktree.Invalid, "the cluster has not taken everything over")
	case s.above() == nil:
		return refuse(blocktree.Unavailable, "the cluster does not know what is above it")
	case o.Answer:
		sb.Taking = TakingNothing
	case sb.Taking == TakingEntries:
		sb.Taking = TakingAnswers
	}
	s.setSuperblock(sb)
	s.changes.Rights = true
	return Result{}
}

// aboveOf is what the child of the directory p is to know.
func (s *state) aboveOf(p blocktree.Path) (*Above, Result) {
	i, _, r := s.directory(p)
	if r.Kind != blocktree.Other {
		return nil, r
	}
	sb := s.superblock()
	out := &Above{Number: s.applied, Generation: sb.Generation, Parent: sb.Dir}
	for _, r := range s.runtimes() {
		if IsSectorHost(r) && len(out.Runtimes) < RedirectRuntimesMax {
			out.Runtimes = append(out.Runtimes, r)
		}
	}
	own := s.above()
	s.upward(i.ID.Inode, func(n blocktree.Inode) bool {
		if n == RootInode && own != nil {
			return false
		}
		if d := s.inode(blocktree.FileID{Generation: sb.Generation, Inode: n}); d != nil {
			l := Level{Mode: d.Mode, UID: d.UID, GID: d.GID}
			if a := s.granted(n); a != nil {
				l.Grants, l.Last = a.grants, a.last
			}
			out.Levels = append(out.Levels, l)
		}
		return true
	})
	slices.Reverse(out.Levels)
	if own != nil {
		out.Levels = append(slices.Clone(own.Levels), out.Levels...)
	}
	out.fit()
	return out, Result{}
}

// fit leaves grants out where there are too many for a command: those of the levels that have most, so that the others hold beneath. Rights that are not told of are not had; a child that was told
// nothing any more would go by rights that have been taken away.
func (a *Above) fit() {
	for {
		var e wire.Encoder
		putAbove(&e, a)
		if len(e.Buf) <= aboveBytesMax {
			return
		}
		most, at := 0, -1
		for i := range a.Levels {
			var l wire.Encoder
			putGrants(&l, a.Levels[i].Grants)
			if len(a.Levels[i].Grants) > 0 && len(l.Buf) > most {
				most, at = len(l.Buf), i
			}
		}
		if at < 0 {
			return // 64 levels and 16 runtimes without any are far below
		}
		a.Levels[at].Grants = nil
	}
}

// take answers QueryTake: entries of the directory q.Path, at or below the delegated one that the caller is a host of, after a name.
func (s *state) take(q *Query) (xs []TakenEntry, below []blocktree.Runtime, more bool, r Result) {
	at, r := s.follow(s.superblock(), q.Path)
	switch {
	case r.Kind != blocktree.Other:
		return nil, nil, false, r
	case len(at.missing) > 0 || at.found.kind != KindDir:
		return nil, nil, false, refuse(blocktree.NotFound, "no directory %s", q.Path.Short())
	}
	limit, bytes := TakeEntriesMax, 0
	if q.Limit > 0 {
		limit = min(limit, q.Limit)
	}
	var found []TakenEntry
	s.scan(kindEntry, inodeRest(at.found.file.Inode), []byte(q.After), func(rest, v []byte) bool {
		if more = len(found) == limit; more {
			return false
		}
		e, err := decodeEntryValue(v)
		s.check(err)
		found = append(found, TakenEntry{Name: string(rest), Inode: Inode{ID: e.file, Kind: e.kind}})
		return err == nil
	})
	for _, x := range found {
		var records []blocktree.Runtime
		if x.Inode.Kind != KindFile {
			x, records = s.taken(x, q.Path)
		}
		var e wire.Encoder
		putTaken(&e, &x)
		putRuntimes(&e, records)
		if bytes += len(e.Buf); bytes > takeBytesMax && len(xs) > 0 {
			return xs, below, true, Result{}
		}
		xs, below = append(xs, x), append(below, records...)
	}
	return xs, below, more, Result{}
}

// taken adds to the entry of a directory in p all that there is of it, with the records below it.
func (s *state) taken(x TakenEntry, p blocktree.Path) (TakenEntry, []blocktree.Runtime) {
	i := s.inode(x.Inode.ID)
	if i == nil {
		return x, nil
	}
	x.Inode = *i
	if a := s.granted(i.ID.Inode); a != nil {
		x.Grants, x.Last = a.grants, a.last
	}
	x.Inode.Xattrs = s.xattrs(i.ID.Inode)
	return x, s.below(p.Join(x.Name))
}
