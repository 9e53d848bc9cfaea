package meta

import (
	"encoding/binary"
	"slices"

	"blocktree"
	"blocktree/internal/wire"
)

// PutBelow adds or replaces the process record of a runtime directly in a directory whose inode this cluster keeps: a sector host makes the directory one that has, or is to get, a cluster of
// its own. In the root directory it is PutRuntime. NotFound (no such directory), Invalid (a file; no path), Exists (another record has its store; a member of the root cluster has another), Busy (a founder that has not every entry yet is to get another store), TooLarge (HostsMax, RuntimesMax).
type PutBelow struct{ Runtime blocktree.Runtime }

// RemoveBelow removes such a record. NotFound, Busy (it is the last sector host of a delegated directory, or that of a founder that has not every entry yet).
type RemoveBelow struct{ Path blocktree.Path }

// AssignGeneration gives the cluster that a store founds in a directory its number. Who asks again is told the same. TooLarge (GenerationsMax, FoundersMax), Invalid.
type AssignGeneration struct {
	Dir     blocktree.Path
	Founder blocktree.NodeID
}

// Delegate has the entries of a directory kept by the cluster of a generation, once. It is done already if it was done so. Exists (another cluster has it; Inode says which), NotFound, Invalid (a file; the
// cluster's own directory; the founder is no sector host below).
type Delegate struct {
	Dir        blocktree.Path
	Generation blocktree.Generation
	Founder    blocktree.NodeID
}

// HandOver says that the cluster of a generation has every entry of a directory, as its founder alone knows. Fenced (the directory is not delegated to it).
type HandOver struct {
	Dir        blocktree.Path
	Generation blocktree.Generation
}

// DropMoved drops up to DropEntriesMax entries that were handed over. Fenced (they were not).
type DropMoved struct {
	Dir        blocktree.Path
	Generation blocktree.Generation
}

// RemoveMoved removes a file whose entry another cluster has. NotFound, Busy (leased), Invalid (it has its entry here).
type RemoveMoved struct{ File blocktree.FileID }

// DropEntry removes the entry of a file of another generation, which must be gone from its home. NotFound, Invalid (a file of this cluster).
type DropEntry struct {
	Path blocktree.Path
	File blocktree.FileID
}

func (PutBelow) opcode() opcode         { return opPutBelow }
func (RemoveBelow) opcode() opcode      { return opRemoveBelow }
func (AssignGeneration) opcode() opcode { return opAssignGeneration }
func (Delegate) opcode() opcode         { return opDelegate }
func (HandOver) opcode() opcode         { return opHandOver }
func (DropMoved) opcode() opcode        { return opDropMoved }
func (RemoveMoved) opcode() opcode      { return opRemoveMoved }
func (DropEntry) opcode() opcode        { return opDropEntry }

// below are the records of runtimes directly in dir, ascending by path.
func (s *state) below(dir blocktree.Path) (out []blocktree.Runtime) {
	prefix := append([]byte(dir), '/')
	s.scan(kindBelow, prefix, nil, func(rest, b []byte) bool {
		if slices.Contains(rest, '/') {
			return true
		}
		d := wire.NewDecoder(b)
		d.Format(formatValue)
		r := getRuntime(d)
		if err := d.Finish(); err != nil {
			s.check(blocktree.E("meta: read", blocktree.Corrupt, err))
			return false
		}
		out = append(out, r)
		return true
	})
	return out
}

// allBelow are all records below.
func (s *state) allBelow() (out []blocktree.Runtime) {
	each(s, kindBelow, getRuntimePtr, func(v *blocktree.Runtime) { out = append(out, *v) })
	return out
}

// hostBelow reports whether c is a sector host directly in dir, by the records here.
func (s *state) hostBelow(c *Caller, dir blocktree.Path) bool {
	if c == nil {
		return true
	}
	_, ok := s.believed(c.Path, c.Chain...)
	return ok && !c.Anonymous() && slices.ContainsFunc(s.below(dir), func(r blocktree.Runtime) bool {
		return IsSectorHost(r) && r.Principal == c.Principal && r.Path == c.Path
	})
}

// judgeRecord judges the making and changing of a process record: user id 0, and of its addresses the sector host itself whose record it is.
func (s *state) judgeRecord(r blocktree.Runtime) Result {
	c, dir := s.caller, r.Path.Parent()
	if c.all() {
		return Result{}
	}
	refused := refuse(blocktree.Permission, "%s has not user id 0", c).hinted("nodes are added and removed by user id 0")
	if r.Path != c.Path || r.Principal != c.Principal || c.Anonymous() {
		return refused
	}
	at, bad := s.walk(dir)
	if bad.Kind != blocktree.Other {
		return bad
	}
	records := s.below(dir)
	if at.found.file.Inode == RootInode {
		records = s.runtimes()
	}
	if !slices.ContainsFunc(records, func(x blocktree.Runtime) bool {
		return IsSectorHost(x) && x.Path == r.Path && x.Principal == r.Principal && x.Node == r.Node && slices.Equal(x.Services, r.Services)
	}) {
		return refused
	}
	return Result{}
}

// founded reports whether c's store, by the records here, founded the cluster of dir.
func (s *state) founded(c *Caller, dir blocktree.Path) bool {
	i, r := s.stat(dir)
	return r.Kind == blocktree.Other && i.Delegation != nil && slices.ContainsFunc(s.below(dir), func(x blocktree.Runtime) bool {
		return x.Path == c.Path && x.Node == i.Delegation.Founder
	})
}

func (s *state) putBelow(o PutBelow) Result {
	r, dir := o.Runtime, o.Runtime.Path.Parent()
	if r.Path == "" || r.Path == blocktree.RootPath(r.Path.Root()) {
		return refuse(blocktree.Invalid, "a process record needs a path")
	}
	i, bad := s.stat(dir)
	switch {
	case bad.Kind != blocktree.Other:
		return bad
	case i.Kind != KindDir:
		return refuse(blocktree.Invalid, "%s is not a directory", dir.Short())
	case s.spent(r.Node):
		return refuse(blocktree.Exists, "store %v was of a cluster whose directory was taken back", r.Node).hinted("draw another id: btnode node add without --store does")
	case i.ID.Inode == RootInode:
		own := s.runtimes()
		if j := slices.IndexFunc(own, func(x blocktree.Runtime) bool { return x.Path == r.Path && x.Node != 0 && x.Node != r.Node }); j >= 0 {
			return refuse(blocktree.Exists, "%s has store %v", r.Path.Short(), own[j].Node).hinted("btnode node replace gives a node another store; to change its addresses say --store %v", own[j].Node)
		}
		return s.putRuntime(r)
	}
	others := s.below(dir)
	if bad, ok := checkRuntime(r, others); !ok {
		return bad
	}
	if bad := s.keepsFounder(i, others, r.Path, &r); bad.Kind != blocktree.Other {
		return bad
	}
	all := append(s.allBelow(), s.runtimes()...)
	if j := slices.IndexFunc(all, func(x blocktree.Runtime) bool { return x.Path != r.Path && r.Node != 0 && x.Node == r.Node }); j >= 0 {
		return refuse(blocktree.Exists, "%s has store %v", all[j].Path.Short(), r.Node).hinted("draw another id: btnode node add without --store does")
	}
	if len(all) >= RuntimesMax && !slices.ContainsFunc(others, func(x blocktree.Runtime) bool { return x.Path == r.Path }) {
		return refuse(blocktree.TooLarge, "a cluster keeps at most %d process records", RuntimesMax)
	}
	store(s, kindBelow, []byte(r.Path), &r, putRuntime)
	return Result{Inode: i}
}

func (s *state) removeBelow(o RemoveBelow) Result {
	dir := o.Path.Parent()
	i, bad := s.stat(dir)
	if bad.Kind != blocktree.Other {
		return bad
	}
	if _, there := s.get(kindBelow, []byte(o.Path)); !there {
		return refuse(blocktree.NotFound, "no process record of %s", o.Path.Short())
	}
	others := slices.ContainsFunc(s.below(dir), func(r blocktree.Runtime) bool { return r.Path != o.Path && IsSectorHost(r) })
	if i.Delegation != nil && !others {
		return refuse(blocktree.Busy, "it is the last sector host of %s, which nobody would find", dir.Short())
	}
	if r := s.keepsFounder(i, s.below(dir), o.Path, nil); r.Kind != blocktree.Other {
		return r
	}
	s.del(kindBelow, []byte(o.Path))
	return Result{}
}

// keepsFounder refuses to take the founder of a directory its record, or its place in that, before it has said that it has every entry: only it may take them, and nobody else founds the cluster.
func (s *state) keepsFounder(dir *Inode, records []blocktree.Runtime, p blocktree.Path, next *blocktree.Runtime) Result {
	d := dir.Delegation
	if d == nil || d.HandedOver || next != nil && next.Node == d.Founder && IsSectorHost(*next) ||
		!slices.ContainsFunc(records, func(r blocktree.Runtime) bool { return r.Path == p && r.Node == d.Founder }) {
		return Result{}
	}
	return refuse(blocktree.Busy, "%s founds the cluster of its directory, with store %v", p.Short(), d.Founder).
		hinted("start it, with that store's id and a directory that may be empty; once it has taken the directory over, nodes come and go")
}

// generationOf is what the root cluster remembers of a number.
type generationOf struct {
	Dir     blocktree.Path
	Founder blocktree.NodeID
}

func putGenerationOf(e *wire.Encoder, g *generationOf) {
	putPath(e, g.Dir)
	e.U64(uint64(g.Founder))
}

func getGenerationOf(d *wire.Decoder) *generationOf {
	return &generationOf{getPath(d), blocktree.NodeID(d.U64())}
}

// generation says for which directory a number was given, nil if it was not.
func (s *state) generation(g blocktree.Generation) *generationOf {
	return value(s, kindGeneration, u64(uint64(g)), getGenerationOf)
}

func founderRest(dir blocktree.Path, founder blocktree.NodeID) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(dir), 0), uint64(founder))
}

func (s *state) assignGeneration(o AssignGeneration) Result {
	sb := s.superblock()
	if o.Founder == 0 || !o.Dir.Within(sb.Dir) || o.Dir == sb.Dir || len(o.Dir) > blocktree.PathBytesMax {
		return refuse(blocktree.Invalid, "a generation is of a directory below the root directory, and of a store")
	}
	if b, ok := s.get(kindFounder, founderRest(o.Dir, o.Founder)); ok && len(b) == 8 {
		return Result{Generation: blocktree.Generation(binary.BigEndian.Uint64(b))}
	}
	founders := 0
	s.scan(kindFounder, append([]byte(o.Dir), 0), nil, func(_, _ []byte) bool {
		founders++
		return founders < FoundersMax
	})
	next := sb.Generation + 1
	if b, ok := s.get(kindGeneration, nil); ok && len(b) == 8 {
		next = blocktree.Generation(binary.BigEndian.Uint64(b))
	}
	switch {
	case founders >= FoundersMax:
		return refuse(blocktree.TooLarge, "%d stores have tried to found the cluster of %s", founders, o.Dir.Short())
	case uint64(next-sb.Generation) > GenerationsMax:
		return refuse(blocktree.TooLarge, "a domain has at most %d clusters", GenerationsMax)
	}
	s.set(kindFounder, founderRest(o.Dir, o.Founder), u64(uint64(next)))
	store(s, kindGeneration, u64(uint64(next)), &generationOf{o.Dir, o.Founder}, putGenerationOf)
	s.set(kindGeneration, nil, u64(uint64(next+1)))
	return Result{Generation: next}
}

// directory is the inode of a directory below the cluster's own, and where it was found.
func (s *state) directory(p blocktree.Path) (*Inode, lookup, Result) {
	at, r := s.walk(p)
	if r.Kind != blocktree.Other {
		return nil, at, r
	}
	if len(at.missing) > 0 {
		return nil, at, refuse(blocktree.NotFound, "%s does not exist", p.Short())
	}
	i := s.inode(at.found.file)
	if i == nil || i.Kind != KindDir || at.parent == 0 {
		return nil, at, refuse(blocktree.Invalid, "%s is not a directory below the cluster's own", p.Short())
	}
	return i, at, Result{}
}

func (s *state) delegate(o Delegate) Result {
	i, at, r := s.directory(o.Dir)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case i.Delegation != nil && i.Delegation.Generation == o.Generation && i.Delegation.Founder == o.Founder:
		return Result{Inode: i}
	case i.Delegation != nil:
		r = refuse(blocktree.Exists, "%s has the cluster that store %v founded", o.Dir.Short(), i.Delegation.Founder)
		r.Inode = i
		return r
	case o.Generation == 0 || o.Generation == s.superblock().Generation:
		return refuse(blocktree.Invalid, "generation %d is no other cluster's", o.Generation)
	}
	if !slices.ContainsFunc(s.below(o.Dir), func(x blocktree.Runtime) bool {
		return IsSectorHost(x) && x.Node == o.Founder && (s.caller == nil || x.Path == s.caller.Path)
	}) {
		return refuse(blocktree.Invalid, "store %v is not that of a sector host in %s", o.Founder, o.Dir.Short())
	}
	if sb := s.superblock(); !sb.Child { // it knows what it gave to whom
		if g := s.generation(o.Generation); g == nil || g.Dir != o.Dir || g.Founder != o.Founder {
			return refuse(blocktree.Invalid, "generation %d was not given to store %v for %s", o.Generation, o.Founder, o.Dir.Short())
		}
	}
	if r = s.guardBelow(i.ID.Inode, at.parent); r.Kind != blocktree.Other {
		return r
	}
	i.Delegation = &Delegation{Generation: o.Generation, Founder: o.Founder}
	s.setInode(i)
	at.found.away = true
	s.setEntry(at.parent, o.Dir.Base(), at.found)
	s.tookAway(i) // the anonymous have nothing beneath any more
	return Result{Inode: i}
}

func (s *state) handOver(o HandOver) Result {
	i, _, r := s.directory(o.Dir)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case i.Delegation == nil || i.Delegation.Generation != o.Generation:
		return refuse(blocktree.Fenced, "%s is not that of generation %d", o.Dir.Short(), o.Generation)
	}
	i.Delegation.HandedOver = true
	s.setInode(i)
	return Result{Inode: i}
}

func (s *state) dropMoved(o DropMoved) Result {
	i, _, r := s.directory(o.Dir)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case i.Delegation == nil || i.Delegation.Generation != o.Generation || !i.Delegation.HandedOver:
		return refuse(blocktree.Fenced, "%s was not handed over to generation %d", o.Dir.Short(), o.Generation)
	}
	s.del(kindWhole, inodeRest(i.ID.Inode))
	s.dropBelow(i.ID.Inode, i.ID.Inode, o.Dir, DropEntriesMax)
	s.tookAway(i)
	return Result{Inode: i}
}

// dropBelow drops up to budget entries of dir, and of the directories in it, whose files belong to the delegated directory from now on. It returns what is left of
// the budget.
func (s *state) dropBelow(delegated, dir blocktree.Inode, p blocktree.Path, budget int) int {
	type named struct {
		name string
		entry
	}
	var found []named
	s.scan(kindEntry, inodeRest(dir), nil, func(rest, v []byte) bool {
		e, err := decodeEntryValue(v)
		s.check(err)
		found = append(found, named{string(rest), e})
		return err == nil && len(found) < budget
	})
	for _, x := range found {
		if x.kind == KindDir && !x.away {
			if budget = s.dropBelow(delegated, x.file.Inode, p.Join(x.name), budget); budget <= 0 {
				return 0
			}
		}
		s.del(kindEntry, entryRest(dir, x.name))
		switch {
		case x.kind == KindLink:
			if i := s.inode(x.file); i != nil {
				s.forget(i)
			}
		case x.kind == KindDir:
			s.dropDir(x.file, p.Join(x.name))
		case x.file.Generation == s.superblock().Generation:
			s.set(kindParent, inodeRest(x.file.Inode), inodeRest(delegated))
		}
		if budget--; budget <= 0 {
			return 0
		}
	}
	return budget
}

// dropDir forgets a directory that is another cluster's from now on, and the records below it.
func (s *state) dropDir(f blocktree.FileID, p blocktree.Path) {
	if i := s.inode(f); i != nil {
		s.counts.access -= min(s.counts.access, uint64(len(i.Access)))
	}
	for _, r := range s.below(p) {
		s.del(kindBelow, []byte(r.Path))
	}
	s.del(kindInode, inodeRest(f.Inode))
	s.del(kindGranted, inodeRest(f.Inode))
	s.del(kindParent, inodeRest(f.Inode))
	s.del(kindWhole, inodeRest(f.Inode))
	s.unkeep(f.Inode)
	s.dropXattrs(f.Inode)
	s.counts.inodes -= min(s.counts.inodes, 1)
}

func (s *state) removeMoved(o RemoveMoved) Result {
	i := s.inode(o.File)
	if _, kept := s.keeper(o.File); i == nil || i.Kind != KindFile || kept {
		return refuse(blocktree.NotFound, "no file %v", o.File)
	}
	if d := s.movedFrom(i); d == nil {
		return refuse(blocktree.Invalid, "file %v has its entry in this cluster", o.File)
	} else if !d.Delegation.HandedOver || s.whole(d.ID.Inode, d.Delegation.Generation) { // the entry is here, and may stay
		return refuse(blocktree.Unavailable, "the directory of file %v is on its way to a cluster of its own", o.File).hinted("ask again in a moment, by its path")
	}
	if r := s.freeFile(i); r.Kind != blocktree.Other {
		return r
	}
	s.forget(i)
	return Result{Inode: i}
}

// movedFrom is the delegated directory that a moved file was in; nil for one that has its entry here.
func (s *state) movedFrom(i *Inode) *Inode {
	up, ok := s.parent(i.ID.Inode)
	if !ok {
		return nil
	}
	d := s.inode(blocktree.FileID{Generation: i.ID.Generation, Inode: up})
	if d == nil || d.Delegation == nil {
		return nil
	}
	return d
}

func (s *state) dropEntry(o DropEntry) Result {
	at, r := s.oldEntry(o.Path, o.File)
	if r.Kind != blocktree.Other {
		return r
	}
	if r = s.guard(at.parent); r.Kind != blocktree.Other {
		return r
	}
	if m := s.moveOf(o.File); m != nil && !m.Adopted {
		if r := s.dropMove(m); r.Kind != blocktree.Other {
			return r
		}
	}
	s.noteEntry(at.parent)
	s.del(kindEntry, entryRest(at.parent, o.Path.Base()))
	return Result{}
}
