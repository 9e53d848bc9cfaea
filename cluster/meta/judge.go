package meta

import "blocktree"

// modeMax is the greatest mode: permission bits only.
const modeMax = 0o777

// judge says whether the caller of the command that is applied may have o done, and who owns what it makes. What a session or a start says is
// judged by the node that took the command: whose they are does not change.
func (s *state) judge(o Op) (Op, Result) {
	c := s.caller
	if c != nil {
		if r, ok := s.believed(c.Path, c.Chain...); !ok { // its node had not heard of it yet
			return o, r
		}
	}
	if r := s.elsewhere(o); r.Kind != blocktree.Other || c == nil {
		return o, r
	}
	switch o := o.(type) {
	case MakeDir:
		o.UID, o.GID = c.Owns(o.UID, o.GID)
		return o, s.judgeNew(o.Path, o.Mode)
	case CreateFile:
		o.UID, o.GID = c.Owns(o.UID, o.GID)
		return o, s.judgeNew(o.Path, o.Mode)
	case CreateFlushFile:
		o.UID, o.GID = c.Owns(o.UID, o.GID)
		return o, s.judgeNew(o.Path, o.Mode)
	case MakeDirKept, NameFile, MakeSpares:
		return s.judgeKept(o)
	case CreateHeld:
		o.UID, o.GID = c.Owns(o.UID, o.GID)
		return o, s.judgeNew(o.Path, o.Mode)
	case CreateTreeFile:
		o.UID, o.GID = c.Owns(o.UID, o.GID)
		return o, s.judgeNew(o.Path, o.Mode)
	case Remove:
		return o, s.judgeRemove(o)
	case SetAttr:
		return o, s.judgeAttr(o)
	case PutGrant, RemoveGrant, SetAccess:
		f, _ := fileOf(o)
		return o, s.judgeFile(f, RightAdmin)
	case Resize, ResizeTree, SetLength, SetEnd, ReleaseEnd, AskShrink, AskShrinkTree:
		f, _ := fileOf(o)
		return o, s.judgeFile(f, RightWrite)
	case Acquire, ClaimLease, NoteAccess, Anchor, Touch:
		f, _ := fileOf(o)
		return o, s.judgeHolder(f)
	case Want:
		return o, s.judgeWant(o)
	case ChangeView:
		return o, s.judgeHolder(o.Change.File)
	case Symlink:
		o.UID, o.GID = c.Owns(o.UID, o.GID)
		return o, s.judgeNew(o.Path, linkMode)
	case SetTimes, SetXattr, PutXattrs:
		return o, s.judgeAttributes(o)
	case ReplaceHost, RetireHost, DrainHost:
		if !c.all() {
			return o, refuse(blocktree.Permission, "%s has not user id 0", c).hinted("nodes are replaced, drained and removed by user id 0")
		}
	case RevokePrincipal:
		if !c.all() || o.Scope != c.Path {
			return o, refuse(blocktree.Permission, "%s may not revoke below %s", c, o.Scope.Short()).hinted("user id 0 revokes, at and below its own path")
		}
	case OpenSession:
		if c.Anonymous() {
			return o, refuse(blocktree.Permission, "an anonymous caller holds nothing").hinted("a session takes credentials of the domain")
		}
	case PutBelow, RemoveBelow, AssignGeneration, Delegate, HandOver, HandOverSum, DropMoved, TakeBack, RemoveMoved, DropEntry, SetAbove, TakeEntries, EndTaking, BeginMove, DropCopy, Depart, Stay, Adopt, RemoveLeft, EndMove, Rename, Unlink, RenameOver:
		return o, s.judgeDelegation(o)
	case Found, FoundChild, PutRuntime, RemoveRuntime, StartNode, StartVolatile, LeaveViews, RenewSession, CloseSession, Release, ReleaseAt, Forget, Leave: // see above
	default: // the leader's own, and what nobody has thought of
		return o, refuse(blocktree.Permission, "%s may not ask for a %T", c, o).hinted("the cluster does that by itself")
	}
	return o, Result{}
}

// Owns is who owns what c makes: who it says, if it has user id 0; else itself, with one of its groups.
func (c *Caller) Owns(uid, gid uint32) (uint32, uint32) {
	switch {
	case c.all():
		return uid, gid
	case c.in(gid):
		return c.UID, gid
	}
	return c.UID, c.GID
}

// judgeNew judges the making of a path: write on the nearest directory that is there.
func (s *state) judgeNew(p blocktree.Path, mode uint32) Result {
	if mode > modeMax {
		return refuse(blocktree.Invalid, "mode %#o", mode).hinted("a mode is at most 0777")
	}
	at, r := s.walk(p)
	if r.Kind != blocktree.Other {
		return r
	}
	if len(at.missing) == 0 { // it exists, which is said to whoever may know that
		i := s.inode(at.found.file)
		if i == nil || s.nameable(s.caller, i, s.now) {
			return Result{}
		}
		return s.denied(s.caller, i, RightList, s.now)
	}
	return s.judgeFile(at.found.file, RightWrite)
}

// judgeRemove judges a removal: write on the directory.
func (s *state) judgeRemove(o Remove) Result {
	at, r := s.walk(o.Path)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case len(at.missing) > 0:
		return s.judgeMissing(s.caller, at, s.now)
	case at.parent == 0: // the root directory, which stays
		return Result{}
	}
	return s.judgeFile(blocktree.FileID{Generation: s.superblock().Generation, Inode: at.parent}, RightWrite)
}

// judgeDelegation judges what has to do with delegated directories, and what came after that. Sector hosts speak for the directory that they are in, at the parent and in the child.
func (s *state) judgeDelegation(o Op) Result {
	c := s.caller
	host := func(dir blocktree.Path) Result {
		if at, r := s.walk(dir); r.Kind != blocktree.Other || len(at.missing) > 0 {
			return r // the op says so
		}
		if !s.hostBelow(c, dir) {
			return refuse(blocktree.Permission, "%s is no sector host in %s", c, dir.Short()).hinted("add its process record first: btnode node add")
		}
		return Result{}
	}
	switch o := o.(type) {
	case PutBelow:
		return s.judgeRecord(o.Runtime)
	case RemoveBelow:
		if !c.all() {
			return refuse(blocktree.Permission, "%s has not user id 0", c).hinted("nodes are added and removed by user id 0")
		}
	case AssignGeneration:
		if !c.all() && c.Path.Parent() != o.Dir || c.Anonymous() {
			return refuse(blocktree.Permission, "%s is not in %s", c, o.Dir.Short()).hinted("a node founds the cluster of the directory that it is in")
		}
	case Delegate:
		return host(o.Dir)
	case HandOverSum:
		return s.judgeDelegation(HandOver{o.Dir, o.Generation})
	case HandOver: // others would have entries dropped that nobody has
		if r := host(o.Dir); r.Kind != blocktree.Other || s.founded(c, o.Dir) {
			return r
		}
		return refuse(blocktree.Permission, "%s does not found the cluster of %s", c, o.Dir.Short()).hinted("its founder says that by itself")
	case DropMoved:
		return host(o.Dir)
	case TakeBack:
		switch {
		case c.all():
		case o.Try:
			return host(o.Dir)
		default:
			return refuse(blocktree.Permission, "%s has not user id 0", c).hinted("directories are taken back by user id 0")
		}
	case RemoveMoved:
		if i := s.inode(o.File); i != nil && !s.may(c, i, RightAdmin, s.now) {
			if d := s.movedFrom(i); d == nil || !s.may(c, d, RightWrite, s.now) {
				return s.denied(c, i, RightAdmin, s.now)
			}
		}
	case DropEntry:
		return s.judgeRemove(Remove{Path: o.Path})
	case BeginMove, DropCopy, Depart, Stay, Adopt, RemoveLeft, EndMove:
		return s.judgeMove()
	case Rename:
		return s.judgeRename(o)
	case RenameOver:
		return s.judgeRename(o.Rename)
	case Unlink:
		return s.judgeRemove(Remove{Path: o.Path, File: o.File})
	default: // the child's own
		if !s.isHost(c) {
			return refuse(blocktree.Permission, "%s is no sector host of the cluster", c).hinted("the cluster does that by itself")
		}
	}
	return Result{}
}

// judgeMissing refuses to say that something does not exist to who may not list where it would be.
func (s *state) judgeMissing(c *Caller, at lookup, now int64) Result {
	if d := s.inode(at.found.file); d != nil && d.Kind == KindDir && !s.may(c, d, RightList, now) {
		return s.denied(c, d, RightList, now)
	}
	return Result{}
}

// judgeFile judges by rights on an inode. That there is none is for the op to say.
func (s *state) judgeFile(f blocktree.FileID, want Rights) Result {
	if i := s.inode(f); i != nil && !s.may(s.caller, i, want, s.now) {
		return s.denied(s.caller, i, want, s.now)
	}
	return Result{}
}

// judgeHolder judges who is to hold a file.
func (s *state) judgeHolder(f blocktree.FileID) Result {
	if i := s.inode(f); i != nil && !s.mayHold(s.caller, i, s.now) {
		return s.denied(s.caller, i, RightsHold, s.now)
	}
	return Result{}
}

// judgeAttr judges by what is set.
func (s *state) judgeAttr(o SetAttr) Result {
	c, i := s.caller, s.inode(o.File)
	if i == nil {
		return Result{}
	}
	want := Rights(0)
	if o.Mask&(AttrMode|AttrOwner|AttrAccess) != 0 {
		want |= RightAdmin
	}
	if o.Mask&AttrModified != 0 {
		want |= RightWrite
	}
	if o.Mask&AttrModified != 0 && s.notesChanges() { // as SetTimes; members of a version before do not want that
		want |= RightAdmin
	}
	switch {
	case o.Mask == 0: // whose answer would be for everybody
		return refuse(blocktree.Invalid, "nothing is set").hinted("say what is to be set")
	case o.Mask&AttrMode != 0 && o.Mode > modeMax:
		return refuse(blocktree.Invalid, "mode %#o", o.Mode).hinted("a mode is at most 0777")
	case !s.may(c, i, want, s.now):
		return s.denied(c, i, want, s.now)
	case c.all() || o.Mask&AttrOwner == 0:
		return Result{}
	case o.UID != i.UID:
		return refuse(blocktree.Permission, "%s has not user id 0", c).hinted("only user id 0 gives a file to another user")
	case o.GID != i.GID && !c.in(o.GID):
		return refuse(blocktree.Permission, "%s is not in group %d", c, o.GID).hinted("a file is given to a group that its owner is in")
	}
	return Result{}
}
