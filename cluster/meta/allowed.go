package meta

import (
	"blocktree"
	"blocktree/internal/wire"
)

// Allowed is what an Answer to QueryAllowed or QueryToRead says beside the inode: what the caller may do with it, and who has been granted what on it (to a
// caller that has some right on it).
type Allowed struct {
	Rights Rights
	Grants []Grant
	Last   RightsChange // By is empty if nothing was changed yet
	Number uint64       // changes that can take a right away, until now
}

func putAnswerAllowed(e *wire.Encoder, a *Allowed) {
	e.U8(uint8(a.Rights))
	e.U64(a.Number)
	putGranted(e, &grantsNote{a.Grants, a.Last})
}

func getAnswerAllowed(d *wire.Decoder) *Allowed {
	a := &Allowed{Rights: Rights(d.U8()), Number: d.U64()}
	x := getGranted(d)
	a.Grants, a.Last = x.grants, x.last
	return a
}

// judged answers q if its caller may have the answer.
func (s *state) judged(q Query) Answer {
	if q.Caller == nil {
		return s.answer(q)
	}
	a := s.answer(q)
	if a.Redirect != nil && !q.Caller.Anonymous() { // who is redirected is judged there
		if r, ok := s.believed(q.Caller.Path, q.Caller.Chain...); ok {
			return a
		} else if r.Kind != blocktree.Other {
			a = Answer{}
			a.refused(r)
			return a
		}
	}
	if r := s.judgeAnswer(&q, &a); r.Kind != blocktree.Other {
		a = Answer{}
		a.refused(r)
	}
	return a
}

// judgeAnswer judges whether q's caller may be told a, and takes out what it may not.
func (s *state) judgeAnswer(q *Query, a *Answer) Result {
	switch q.Kind {
	case QueryStat:
		if a.Inode == nil {
			return s.judgeNotFound(q, a)
		}
		return s.judgeInode(q, a.Inode)
	case QueryStatID, QueryAllowed, QueryToRead, QueryLayout, QueryLease, QueryShrink:
		if a.Inode == nil && q.Kind == QueryAllowed && q.Path != "" {
			return s.judgeNotFound(q, a)
		}
		i := a.Inode
		if i == nil {
			if i = s.inode(q.File); i == nil {
				return Result{}
			}
		}
		if want := q.Want; want != 0 && !s.may(q.Caller, i, want, q.Time) {
			return s.denied(q.Caller, i, want, q.Time)
		}
		return s.judgeInode(q, i)
	case QueryList, QueryFiles:
		i, r := s.statInto(q.Path)
		if r.Kind != blocktree.Other {
			return s.judgeNotFound(q, a)
		}
		if !s.may(q.Caller, i, RightList, q.Time) {
			return s.denied(q.Caller, i, RightList, q.Time)
		}
	case QueryXattrs:
		return s.judgeXattrs(q, a)
	case QueryAbove:
		return s.judgeHost(q, q.Path)
	case QueryKnown: // it names grants
		return s.judgeKnown(q)
	case QueryMoves: // it names files
		if _, ok := s.believed(q.Caller.Path, q.Caller.Chain...); !ok || !q.Caller.all() {
			return refuse(blocktree.Permission, "%s has not user id 0", q.Caller).hinted("files are moved by user id 0")
		}
	case QueryTake:
		at, r := s.follow(s.superblock(), q.Path)
		if dir := at.via; r.Kind == blocktree.Other {
			if dir == "" {
				dir = q.Path
			}
			return s.judgeHost(q, dir)
		}
		return refuse(blocktree.Permission, "%s may not take that over", q.Caller)
	default:
		if q.Caller.Anonymous() {
			return refuse(blocktree.Permission, "an anonymous caller may not ask for that").hinted("ask with credentials of the domain")
		}
		if r, ok := s.believed(q.Caller.Path, q.Caller.Chain...); !ok {
			return r
		}
	}
	return Result{}
}

// judgeXattrs judges whether extended attributes may be told, and that there is none of a name.
func (s *state) judgeXattrs(q *Query, a *Answer) Result {
	i := a.Inode
	if a.Inode = nil; i == nil {
		if q.Path != "" {
			return s.judgeNotFound(q, a)
		}
		return Result{}
	}
	if want := rightsXattr(i); !s.may(q.Caller, i, want, q.Time) {
		return s.denied(q.Caller, i, want, q.Time)
	}
	return Result{}
}

// judgeHost judges what sector hosts of a directory are told alone.
func (s *state) judgeHost(q *Query, dir blocktree.Path) Result {
	if !s.hostBelow(q.Caller, dir) {
		return refuse(blocktree.Permission, "%s is no sector host in %s", q.Caller, dir.Short()).hinted("add its process record first: btnode node add")
	}
	return Result{}
}

// judgeInode judges whether what there is of i may be told. Who has no use for its access record is not given that.
func (s *state) judgeInode(q *Query, i *Inode) Result {
	host := q.Kind == QueryStatID || q.Kind == QueryLayout || q.Kind == QueryLease // which settling and copying up takes
	if !s.nameable(q.Caller, i, q.Time) && (!host || !s.isHost(q.Caller)) {
		want := RightRead
		if i.Kind == KindDir {
			want = RightList
		}
		return s.denied(q.Caller, i, want, q.Time)
	}
	if s.rights(q.Caller, i, q.Time)&rightsRecord(i) == 0 {
		i.Access = nil
	}
	return Result{}
}

// judgeNotFound judges whether it may be told that there is nothing at a path. Who may make it finds out anyway.
func (s *state) judgeNotFound(q *Query, a *Answer) Result {
	at, r := s.walk(q.Path)
	if r.Kind != blocktree.Other {
		return Result{} // outside the cluster, or no path
	}
	if d := s.inode(at.found.file); d != nil && d.Kind == KindDir && s.may(q.Caller, d, RightWrite, q.Time) {
		return Result{}
	}
	return s.judgeMissing(q.Caller, at, q.Time)
}

// allowedOf answers QueryAllowed, and for QueryToRead.
func (s *state) allowedOf(q Query) (*Inode, *Allowed, Result) {
	i, r := s.inode(q.File), refuse(blocktree.NotFound, "no inode %v", q.File)
	if q.Path != "" {
		i, r = s.stat(q.Path)
	}
	if i == nil {
		return nil, nil, r
	}
	out := &Allowed{Rights: s.rights(q.Caller, i, q.Time), Number: s.counts.rights}
	if a := s.granted(i.ID.Inode); a != nil && out.Rights != 0 {
		out.Grants, out.Last = a.grants, a.last
	}
	return i, out, Result{}
}

// Judged is what a caller may do with a file.
type Judged struct {
	Rights  Rights
	Until   int64 // when one of the grants ends that this goes by, nanoseconds since 1970; 0: none does
	Refusal error // why it may not all that was asked for, nil if it may
}

// Judge says what a caller may do with a file at a time, as applied here, for the data path. NotFound, Closed, IO, Unavailable.
func (g *Group) Judge(c *Caller, f blocktree.FileID, want Rights, now int64) (j Judged, err error) {
	err = g.view("meta.Judge", func(s *state) error {
		i := s.inode(f)
		if i == nil {
			return blocktree.E("meta.Judge", blocktree.NotFound, nil)
		}
		if j.Rights, j.Until = s.rightsUntil(c, i, now); j.Rights&want != want {
			r := s.denied(c, i, want, now)
			j.Refusal = r.Err("cluster")
		}
		return nil
	})
	return j, err
}
