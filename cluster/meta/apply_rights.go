package meta

import (
	"fmt"
	"slices"

	"blocktree"
	"blocktree/internal/wire"
)

// PutGrant gives a subject rights on an inode, in place of those that it has been given there. NotFound, Invalid (no such grant, or it has ended),
// NoSpace (GrantsMax).
type PutGrant struct {
	File  blocktree.FileID
	Grant Grant
}

// RemoveGrant takes what a subject was given on an inode. NotFound (the inode, or such a grant).
type RemoveGrant struct {
	File    blocktree.FileID
	Subject Subject
}

func (PutGrant) opcode() opcode    { return opPutGrant }
func (RemoveGrant) opcode() opcode { return opRemoveGrant }

func (s *state) putGrant(o PutGrant) Result {
	i := s.inode(o.File)
	switch {
	case i == nil:
		return refuse(blocktree.NotFound, "no inode %v", o.File)
	case i.Integrity == IntegrityCompanion:
		return refuseCompanion()
	case !o.Grant.holds(s.now):
		return refuse(blocktree.Invalid, "the grant ends before it begins")
	}
	a := s.granted(o.File.Inode)
	if a == nil {
		a = &grantsNote{}
	}
	// Those that have ended give nothing, and take no room.
	a.grants = slices.DeleteFunc(a.grants, func(g Grant) bool { return !g.holds(s.now) && g.Subject != o.Grant.Subject })
	at := slices.IndexFunc(a.grants, func(g Grant) bool { return g.Subject == o.Grant.Subject })
	narrowed := at >= 0 && !a.grants[at].within(&o.Grant)
	switch {
	case at >= 0:
		a.grants[at] = o.Grant
	case len(a.grants) >= GrantsMax:
		return refuse(blocktree.NoSpace, "%d grants are on it", len(a.grants)).hinted("at most %d; grant to a path above several runtimes, or on a directory above", GrantsMax)
	default:
		a.grants = append(a.grants, o.Grant)
	}
	s.setGranted(i, a, fmt.Sprintf("granted %s to it", o.Grant.Rights), o.Grant.Subject)
	if narrowed {
		s.tookAway(i)
	}
	return Result{Inode: i}
}

func (s *state) removeGrant(o RemoveGrant) Result {
	i, a := s.inode(o.File), s.granted(o.File.Inode)
	if i == nil {
		return refuse(blocktree.NotFound, "no inode %v", o.File)
	}
	at := -1
	if a != nil {
		at = slices.IndexFunc(a.grants, func(g Grant) bool { return g.Subject == o.Subject })
	}
	if at < 0 {
		return refuse(blocktree.NotFound, "%s has been granted nothing on it", &o.Subject).
			hinted("btnode file stat shows the grants; what a mode gives, btnode chmod takes, and a grant on a directory above is revoked there")
	}
	what := fmt.Sprintf("revoked %s", a.grants[at].Rights)
	a.grants = slices.Delete(a.grants, at, at+1)
	s.setGranted(i, a, what, o.Subject)
	s.tookAway(i)
	return Result{Inode: i}
}

// setGranted stores the grants of an inode, and who changed what.
func (s *state) setGranted(i *Inode, a *grantsNote, what string, subject Subject) {
	a.last = RightsChange{Time: s.now, What: what, Subject: subject}
	if s.caller != nil {
		a.last.By = s.caller.Path
	}
	store(s, kindGranted, inodeRest(i.ID.Inode), a, putGranted)
	if s.notesChanges() {
		s.noteChange(i)
		s.setInode(i)
	}
	s.changes.Rights = true
}

// changedAttr notes what a SetAttr did about the rights on an inode.
func (s *state) changedAttr(i *Inode, o SetAttr) {
	if o.Mask&(AttrMode|AttrOwner) == 0 || s.caller == nil {
		return
	}
	what := ""
	if o.Mask&AttrMode != 0 {
		what = fmt.Sprintf("set mode %#o", i.Mode)
	}
	if o.Mask&AttrOwner != 0 {
		what += fmt.Sprintf("set owner %d:%d", i.UID, i.GID)
	}
	a := s.granted(i.ID.Inode)
	if a == nil {
		a = &grantsNote{}
	}
	s.setGranted(i, a, what, Subject{})
	s.tookAway(i)
}

// tookAway counts a change that can take a right away, and judges the leases on i, or beneath it, anew; of nil, all leases.
func (s *state) tookAway(i *Inode) {
	s.counts.rights++
	s.changes.Rights = true
	if i != nil && i.Kind == KindFile {
		s.judgeLease(i.ID.Inode)
		if f := i.companion(); f != (blocktree.FileID{}) {
			s.judgeLease(f.Inode)
		}
		return
	}
	var held []blocktree.Inode
	s.scan(kindLease, nil, nil, func(rest, _ []byte) bool {
		held = append(held, inodeOf(rest))
		return true
	})
	for _, n := range held {
		beneath := i == nil
		if !beneath {
			s.upward(s.judgedAs(n), func(up blocktree.Inode) bool {
				beneath = up == i.ID.Inode
				return !beneath
			})
		}
		if beneath {
			s.judgeLease(n)
		}
	}
}

// judgedAs is the inode by which one with a lease is judged: of a companion its file's.
func (s *state) judgedAs(n blocktree.Inode) blocktree.Inode {
	if l := value(s, kindLease, inodeRest(n), getLease); l != nil {
		if i := s.inode(l.File); i != nil && i.Integrity == IntegrityCompanion {
			return i.Companion
		}
	}
	return n
}

// judgeLease has nobody claim a lease whose holder may not hold the file any more: it is confirmed no more, and the leader ends it a term later, when
// the holder does not believe in it either.
func (s *state) judgeLease(n blocktree.Inode) {
	l := value(s, kindLease, inodeRest(n), getLease)
	if l == nil {
		return
	}
	i := s.inode(l.File)
	if c := s.claim(l); i == nil || c != nil && c.session == (SessionID{}) || s.mayHold(s.callerOf(l.Session), i, s.now) {
		return
	}
	store(s, kindClaim, inodeRest(n), &claim{epoch: l.Epoch, first: 1, asked: 1, id: s.id}, putClaim)
	s.set(kindClaimed, l.Session[:], nil)
	s.evicted = append(s.evicted, *l)
}

// callerOf is who opened or renewed a session last. Of one that an older version has kept until now only principal and path are known, which is as
// somebody whom only grants help.
func (s *state) callerOf(id SessionID) *Caller {
	if c := value(s, kindCaller, id[:], getCaller); c != nil {
		return c
	}
	const nobody = 1<<32 - 1
	c := &Caller{UID: nobody, GID: nobody}
	if x := s.session(id); x != nil {
		c.Principal, c.Path = x.Principal, x.Path
	}
	return c
}

// noteCaller keeps who opens or renews a session. Where it has other attributes than before, its leases are judged anew.
func (s *state) noteCaller(id SessionID) {
	if s.caller == nil {
		return
	}
	old := value(s, kindCaller, id[:], getCaller)
	if old != nil && old.equal(s.caller) {
		return
	}
	store(s, kindCaller, id[:], s.caller, putCaller)
	if old == nil {
		return
	}
	for _, n := range s.held(id) {
		s.judgeLease(n)
	}
}

func putGrantOp(e *wire.Encoder, o *PutGrant) {
	e.File(o.File)
	putGrant(e, &o.Grant)
}

func putRemoveGrant(e *wire.Encoder, o *RemoveGrant) {
	e.File(o.File)
	putSubject(e, &o.Subject)
}

func getRemoveGrant(d *wire.Decoder) RemoveGrant {
	o := RemoveGrant{d.File(), getSubject(d)}
	if d.Err() == nil && !o.Subject.valid() {
		bad(d, "a grant to nobody")
	}
	return o
}
