package meta

import (
	"slices"
	"strings"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/keys"
)

// found makes the superblock and the root directory, once.
func (s *state) found(o Found) Result {
	if s.superblock() != nil {
		return refuse(blocktree.Exists, "the cluster was founded before")
	}
	if o.Generation == 0 || o.Dir.Root().IsZero() {
		return refuse(blocktree.Invalid, "a cluster needs a directory and a generation")
	}
	for i, r := range o.Runtimes {
		if bad, ok := checkRuntime(r, o.Runtimes[:i]); !ok {
			return bad
		}
		if slices.ContainsFunc(o.Runtimes[:i], func(x blocktree.Runtime) bool { return x.Path == r.Path }) {
			return refuse(blocktree.Exists, "%s twice", r.Path.Short())
		}
	}
	s.setSuperblock(&Superblock{Generation: o.Generation, Dir: o.Dir, Created: o.Time})
	root := &Inode{ID: blocktree.FileID{Generation: o.Generation, Inode: RootInode}, Kind: KindDir, Mode: o.Mode,
		Created: o.Time, Modified: o.Time}
	s.setInode(root)
	s.counts.nextInode, s.counts.parents = RootInode+1, true
	for _, r := range o.Runtimes {
		s.setRuntime(&r)
		s.counts.runtimes++
	}
	return Result{Inode: root}
}

// lookup is how far a path could be followed.
type lookup struct {
	dir     blocktree.Inode // the deepest directory that exists
	missing []string        // names below it that do not exist; none: the path exists
	parent  blocktree.Inode // of what the path names; 0 for the root directory
	found   entry           // what the path names, if missing is empty
	// via is the first delegated directory that the path goes through, viaFile its inode: what is behind it is another cluster's.
	via     blocktree.Path
	viaFile blocktree.FileID
}

// walk follows a path to what it names. It is redirected where another cluster answers for that, and refused if it is outside the domain, has impossible names, or
// goes through a file.
func (s *state) walk(p blocktree.Path) (lookup, Result) { return s.walkTo(p, false) }

// walkInto is walk for what is in the directory that the path names, which is another cluster's where that is delegated.
func (s *state) walkInto(p blocktree.Path) (lookup, Result) { return s.walkTo(p, true) }

func (s *state) walkTo(p blocktree.Path, inside bool) (lookup, Result) {
	sb := s.superblock()
	if sb == nil {
		return lookup{}, refuse(blocktree.NotFound, "the cluster is not founded yet")
	}
	if r, away := s.outside(sb, p, inside); away {
		return lookup{}, r
	}
	at, r := s.follow(sb, p)
	switch {
	case at.via != "":
		return lookup{}, s.nearer(at.via, at.viaFile, p.Short())
	case r.Kind != blocktree.Other:
		return lookup{}, r
	case inside && len(at.missing) == 0 && at.found.away:
		return lookup{}, s.nearer(p, at.found.file, p.Short())
	case sb.Taking != TakingNothing:
		return lookup{}, refuse(blocktree.Unavailable, "the cluster of %s is taking its directory over", sb.Dir.Short()).hinted("ask again in a moment")
	}
	return at, r
}

// follow follows a path by the entries that there are, whoever answers for them.
func (s *state) follow(sb *Superblock, p blocktree.Path) (lookup, Result) {
	if !p.Within(sb.Dir) || len(p) > blocktree.PathBytesMax {
		return lookup{}, refuse(blocktree.Invalid, "not below %s", sb.Dir)
	}
	at := lookup{dir: RootInode, found: entry{file: blocktree.FileID{Generation: sb.Generation, Inode: RootInode}, kind: KindDir}}
	if p == sb.Dir {
		return at, Result{}
	}
	names := strings.Split(string(p[len(sb.Dir)+1:]), "/")
	if len(names) > blocktree.PathDepthMax {
		return lookup{}, refuse(blocktree.Invalid, "too deep")
	}
	for _, n := range names {
		if err := blocktree.CheckName(n); err != nil {
			return lookup{}, refuse(blocktree.KindOf(err), "%v", err)
		}
	}
	for i, n := range names {
		if at.found.kind != KindDir {
			return at, refuse(blocktree.Invalid, "%s is not a directory", strings.Join(names[:i], "/"))
		}
		if at.found.away && at.via == "" {
			at.via, at.viaFile = sb.Dir+blocktree.Path("/"+strings.Join(names[:i], "/")), at.found.file
		}
		at.dir, at.parent = at.found.file.Inode, at.found.file.Inode
		e, ok := s.entry(at.dir, n)
		if !ok {
			at.missing = names[i:]
			return at, Result{}
		}
		at.found = e
	}
	return at, Result{}
}

// stat returns the inode that a path names. Of a file of another generation it says which one that is.
func (s *state) stat(p blocktree.Path) (*Inode, Result) {
	at, r := s.walk(p)
	if r.Kind != blocktree.Other {
		return nil, r
	}
	return s.statAt(p, at)
}

func (s *state) statAt(p blocktree.Path, at lookup) (*Inode, Result) {
	if len(at.missing) > 0 {
		return nil, refuse(blocktree.NotFound, "%s does not exist", p.Short())
	}
	if f := at.found.file; f.Generation != s.superblock().Generation {
		return nil, redirect(&Redirect{Generation: f.Generation, File: f}, p.Short()+" is file "+f.String()+", which another cluster keeps")
	}
	i := s.inode(at.found.file)
	if i == nil {
		return nil, refuse(blocktree.NotFound, "%s does not exist", p.Short())
	}
	return i, Result{}
}

// room refuses inodes and bytes of access records over the bounds.
func (s *state) room(inodes, accessBytes int) (Result, bool) {
	switch {
	case s.counts.inodes+uint64(inodes) > InodesMax:
		return refuse(blocktree.NoSpace, "a cluster keeps at most %d files and directories", InodesMax), false
	case s.counts.access+uint64(accessBytes) > AccessTotalBytesMax:
		return refuse(blocktree.NoSpace, "a cluster keeps at most %d bytes of access records", uint64(AccessTotalBytesMax)), false
	}
	return Result{}, true
}

// newInode takes the next number.
func (s *state) newInode(kind InodeKind, mode, uid, gid uint32, time int64) *Inode {
	n := s.counts.nextInode
	s.counts.nextInode++
	s.counts.inodes++
	return &Inode{ID: blocktree.FileID{Generation: s.superblock().Generation, Inode: n}, Kind: kind, Mode: mode, UID: uid,
		GID: gid, Created: time, Modified: time}
}

// makeDirs makes a chain of directories below dir and returns the last.
func (s *state) makeDirs(dir blocktree.Inode, names []string, mode, uid, gid uint32, time int64) *Inode {
	var i *Inode
	for _, n := range names {
		i = s.newInode(KindDir, mode, uid, gid, time)
		s.setInode(i)
		s.setEntry(dir, n, entry{file: i.ID, kind: KindDir})
		dir = i.ID.Inode
	}
	return i
}

func (s *state) makeDir(o MakeDir) Result {
	at, r := s.walk(o.Path)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case len(at.missing) == 0 && o.Parents && at.found.kind == KindDir:
		return Result{Inode: s.inode(at.found.file)}
	case len(at.missing) == 0:
		return refuse(blocktree.Exists, "%s exists", o.Path.Short())
	case len(at.missing) > 1 && !o.Parents:
		return refuse(blocktree.NotFound, "%s does not exist", o.Path.Parent().Short())
	}
	if full, ok := s.room(len(at.missing), 0); !ok {
		return full
	}
	if r := s.guard(at.dir); r.Kind != blocktree.Other {
		return r
	}
	s.noteEntry(at.dir)
	return Result{Inode: s.makeDirs(at.dir, at.missing, o.Mode, o.UID, o.GID, o.Time)}
}

func (s *state) createFile(o CreateFile, durability stripe.Durability) Result {
	at, r := s.walk(o.Path)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case len(at.missing) == 0:
		return refuse(blocktree.Exists, "%s exists", o.Path.Short())
	case len(at.missing) > 1 && !o.Parents:
		return refuse(blocktree.NotFound, "%s does not exist", o.Path.Parent().Short())
	}
	l, r := s.newLayout(o, durability)
	if r.Kind != blocktree.Other {
		return r
	}
	if full, ok := s.room(len(at.missing), len(o.Access)); !ok {
		return full
	}
	if r := s.guard(at.dir); r.Kind != blocktree.Other {
		return r
	}
	s.counts.access += uint64(len(o.Access))
	s.noteEntry(at.dir)
	dir, n := at.dir, len(at.missing)-1
	if n > 0 {
		dirMode := o.Mode | o.Mode&0o444>>2 // who may read may search
		dir = s.makeDirs(dir, at.missing[:n], dirMode, o.UID, o.GID, o.Time).ID.Inode
	}
	i := s.newInode(KindFile, o.Mode, o.UID, o.GID, o.Time)
	i.SizeBytes, i.SectorBytes, i.Code = o.SizeBytes, o.SectorBytes, o.Code
	i.Suite, i.KeyID, i.Access = o.Suite, o.KeyID, o.Access
	s.setInode(i)
	s.setEntry(dir, at.missing[n], entry{file: i.ID, kind: KindFile})
	s.setFile(i.ID, l)
	return Result{Inode: i, Layout: l}
}

// newLayout checks the shape of a new file and chooses its hosts. The caller sets File.
func (s *state) newLayout(o CreateFile, durability stripe.Durability) (*stripe.Layout, Result) {
	sector := uint64(o.SectorBytes)
	switch {
	case o.Code.Validate() != nil:
		return nil, refuse(blocktree.Invalid, "%v", o.Code.Validate())
	case sector < blocktree.SectorBytesMin || sector > blocktree.SectorBytesMax || sector&(sector-1) != 0:
		return nil, refuse(blocktree.Invalid, "sectors of %d bytes", sector).
			hinted("a power of two from %d to %d", blocktree.SectorBytesMin, blocktree.SectorBytesMax)
	case o.SizeBytes == 0 || o.SizeBytes%sector != 0 || o.SizeBytes > blocktree.FileBytesMax:
		return nil, refuse(blocktree.Invalid, "a size of %d bytes", o.SizeBytes).
			hinted("a multiple of the sector's %d bytes, not zero, at most %d", sector, uint64(blocktree.FileBytesMax))
	case len(o.Access) > AccessBytesMax:
		return nil, refuse(blocktree.TooLarge, "access record of %d bytes", len(o.Access))
	}
	hosts, r := s.chooseHosts(o)
	if r.Kind != blocktree.Other {
		return nil, r
	}
	l := &stripe.Layout{Code: o.Code, SectorBytes: o.SectorBytes, RegionSectors: blocktree.RegionBytes / sector,
		Sectors: o.SizeBytes / sector, Hosts: hosts, Seq: 1, BaseID: 1, Durability: durability,
		Incarnations: map[blocktree.NodeID]blocktree.Incarnation{}, Marked: map[blocktree.NodeID]bool{},
		BaseOut: map[blocktree.NodeID]bool{}, Own: map[blocktree.RegionIndex]stripe.View{}}
	for _, h := range hosts {
		l.Incarnations[h] = s.incarnation(h, durability)
	}
	return l, Result{}
}

// chooseHosts returns the hosts that were asked for, or every sector host that has started, ascending.
func (s *state) chooseHosts(o CreateFile) ([]blocktree.NodeID, Result) {
	known, started := map[blocktree.NodeID]bool{}, map[blocktree.NodeID]bool{}
	draining := 0
	for _, r := range s.runtimes() {
		switch {
		case !IsSectorHost(r):
		case s.draining(r.Node):
			draining++
		default:
			known[r.Node] = true
			started[r.Node] = s.start(r.Node) != nil
		}
	}
	hosts := slices.Clone(o.Hosts)
	if len(hosts) == 0 {
		for h := range known {
			hosts = append(hosts, h)
		}
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	need := o.Code.Shards()
	if len(hosts) < need {
		return nil, refuse(blocktree.Invalid, "code %v needs %d sector hosts, there are %d", o.Code, need, len(hosts)).
			hinted("choose a code of at most %d shards, or add sector hosts; %d more are being drained and get no new files", len(hosts), draining)
	}
	var up []blocktree.NodeID
	for _, h := range hosts {
		if !known[h] {
			return nil, refuse(blocktree.Invalid, "%v is not a sector host of this cluster, or is being drained", h)
		}
		if started[h] {
			up = append(up, h)
		}
	}
	if len(up) < need || len(o.Hosts) > 0 && len(up) < len(hosts) {
		return nil, refuse(blocktree.Unavailable, "%d of %d sector hosts have started, code %v needs %d", len(up), len(hosts), o.Code, need).
			hinted("start the other sector hosts")
	}
	return up, Result{}
}

// IsSectorHost reports whether a process record is of a runtime that hosts sectors.
func IsSectorHost(r blocktree.Runtime) bool {
	return r.Node != 0 && slices.Contains(r.Services, blocktree.ServiceSector)
}

func (s *state) remove(o Remove) Result {
	i, r := s.stat(o.Path)
	if r.Kind != blocktree.Other {
		return r
	}
	if o.File != (blocktree.FileID{}) && o.File != i.ID {
		return refuse(blocktree.NotFound, "%s is another file by now", o.Path.Short())
	}
	if i.ID.Inode == RootInode {
		return refuse(blocktree.Invalid, "the cluster's own directory stays")
	}
	at, _ := s.walk(o.Path)
	if r = s.guard(at.parent, i.ID.Inode); r.Kind != blocktree.Other {
		return r
	}
	if i.Kind == KindDir {
		if r = s.checkEmpty(o.Path, i); r.Kind != blocktree.Other {
			return r
		}
	} else if r = s.freeFile(i); r.Kind != blocktree.Other {
		return r
	}
	s.noteEntry(at.parent)
	s.del(kindEntry, entryRest(at.parent, o.Path.Base()))
	s.forget(i)
	return Result{Inode: i}
}

// checkEmpty refuses to have a directory removed, or replaced, that has something in it.
func (s *state) checkEmpty(p blocktree.Path, i *Inode) Result {
	empty := true
	s.scan(kindEntry, inodeRest(i.ID.Inode), nil, func(_, _ []byte) bool {
		empty = false
		return false
	})
	switch {
	case i.Delegation != nil:
		return refuse(blocktree.Busy, "%s has a cluster of its own", p.Short()).hinted("a directory that was delegated stays")
	case len(s.below(p)) > 0:
		return refuse(blocktree.Busy, "%s has process records", p.Short()).hinted("btnode node remove takes them away one by one")
	case !empty:
		return refuse(blocktree.Busy, "%s is not empty", p.Short())
	}
	return Result{}
}

// freeFile gives back what a file that nobody holds has beside its inode.
func (s *state) freeFile(i *Inode) Result {
	if i.Kind != KindFile {
		return Result{}
	}
	l := s.lease(i.ID)
	if l == nil {
		l = s.lease(i.companion())
	}
	if l != nil {
		return inUse(l)
	}
	s.dropFile(i.ID)
	s.dropCompanion(i)
	return Result{}
}

// inUse refuses what a lease is in the way of.
func inUse(l *Lease) Result {
	return Result{Kind: blocktree.Busy, Text: "in use by " + l.Holder.Short(), Lease: l,
		Hint: "stop its user, or wait until the lease of a dead one has run out"}
}

// forget forgets an inode whose entry is gone.
func (s *state) forget(i *Inode) {
	s.del(kindInode, inodeRest(i.ID.Inode))
	s.del(kindGranted, inodeRest(i.ID.Inode))
	s.del(kindParent, inodeRest(i.ID.Inode))
	s.dropXattrs(i.ID.Inode)
	s.unkeep(i.ID.Inode)
	s.counts.inodes -= min(s.counts.inodes, 1)
	s.counts.access -= min(s.counts.access, uint64(len(i.Access)+len(i.Target)))
}

func (s *state) setAttr(o SetAttr) Result {
	i := s.inode(o.File)
	switch {
	case i == nil:
		return refuse(blocktree.NotFound, "no inode %v", o.File)
	case i.Integrity == IntegrityCompanion:
		return refuseCompanion()
	case o.Mask&AttrAccess != 0 && i.Kind != KindFile:
		return refuse(blocktree.Invalid, "it has no access record: it is no file")
	case o.Mask&AttrAccess != 0 && keys.NumberOf(i.Access) > 0:
		return refuse(blocktree.Invalid, "an access record that is numbered is replaced by the next number")
	case len(o.Access) > AccessBytesMax:
		return refuse(blocktree.TooLarge, "access record of %d bytes", len(o.Access))
	}
	if o.Mask&AttrAccess != 0 {
		if full, ok := s.room(0, max(len(o.Access)-len(i.Access), 0)); !ok {
			return full
		}
		s.counts.access -= min(s.counts.access, uint64(len(i.Access)))
		s.counts.access += uint64(len(o.Access))
	}
	if o.Mask&AttrMode != 0 {
		i.Mode = o.Mode
	}
	if o.Mask&AttrOwner != 0 {
		i.UID, i.GID = o.UID, o.GID
	}
	if o.Mask&AttrModified != 0 {
		i.Modified = o.Modified
	}
	if o.Mask&AttrAccess != 0 {
		i.Suite, i.KeyID, i.Access = o.Suite, o.KeyID, o.Access
	}
	s.noteChange(i)
	s.setInode(i)
	s.changedAttr(i, o)
	return Result{Inode: i}
}

// statInto is stat for what is in a directory.
func (s *state) statInto(dir blocktree.Path) (*Inode, Result) {
	at, r := s.walkInto(dir)
	if r.Kind != blocktree.Other {
		return nil, r
	}
	return s.statAt(dir, at)
}

// list returns entries of a directory after a name.
func (s *state) list(dir blocktree.Path, from string, limit int) ([]DirEntry, bool, Result) {
	i, r := s.statInto(dir)
	if r.Kind != blocktree.Other {
		return nil, false, r
	}
	if i.Kind != KindDir {
		return nil, false, refuse(blocktree.Invalid, "%s is not a directory", dir.Short())
	}
	if limit <= 0 || limit > blocktree.ListEntriesMax {
		limit = blocktree.ListEntriesMax
	}
	var out []DirEntry
	more := false
	s.scan(kindEntry, inodeRest(i.ID.Inode), []byte(from), func(rest, v []byte) bool {
		if more = len(out) == limit; more {
			return false
		}
		e, err := decodeEntryValue(v)
		s.check(err)
		out = append(out, DirEntry{Name: string(rest), Inode: Inode{ID: e.file, Kind: e.kind}})
		return err == nil
	})
	for n := range out {
		if v := s.inode(out[n].Inode.ID); v != nil {
			v.Access, v.Anchor = nil, nil
			out[n].Inode = *v
		}
	}
	return out, more, Result{}
}
