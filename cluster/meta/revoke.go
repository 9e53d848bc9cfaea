package meta

import (
	"slices"
	"strconv"
	"time"

	"blocktree"
	"blocktree/internal/wire"
)

// Bounds of revocations.
const (
	// RevokedMax bounds them, as every member has all of them in memory. Those of scopes below the root directory may take RevokedBelowMax: whoever
	// has user id 0 somewhere must not keep the domain from revoking.
	RevokedMax      = 16384
	RevokedBelowMax = RevokedMax * 3 / 4
	// RevokedAfter is how long one is kept beyond its end, for clocks that differ.
	RevokedAfter = 24 * time.Hour
	// RevokedPageMax bounds an answer: of the longest paths it fits a frame.
	RevokedPageMax = 100
)

// Revocation is a principal that nobody at or below Scope has in its chain, in whichever place, and is believed (docs/design/0025-credentials.md).
// It cannot be taken back.
type Revocation struct {
	Principal blocktree.Principal
	Scope     blocktree.Path // of the runtime that said so
	Time      int64          // when, nanoseconds since 1970
	Until     int64          // until when it is kept, likewise: all that was issued to it has ended by then
}

// Covers reports whether r says of a runtime at a path, with the principals in its chain, that it is not believed.
func (r *Revocation) Covers(at blocktree.Path, chain []blocktree.Principal) bool {
	return at.Within(r.Scope) && slices.Contains(chain, r.Principal)
}

// RevokePrincipal adds one. One that is there already is kept until the later end. Invalid (nobody, nowhere, or an end before Time), NoSpace
// (RevokedMax).
type RevokePrincipal struct{ Revocation }

func (RevokePrincipal) opcode() opcode { return opRevokePrincipal }

func putRevocation(e *wire.Encoder, r *Revocation) {
	e.Raw(r.Principal[:])
	putPath(e, r.Scope)
	e.U64(uint64(r.Time))
	e.U64(uint64(r.Until))
}

func getRevocation(d *wire.Decoder) *Revocation {
	r := new(Revocation)
	copy(r.Principal[:], d.Raw(len(r.Principal)))
	r.Scope, r.Time, r.Until = getPath(d), int64(d.U64()), int64(d.U64())
	return r
}

func revokedRest(p blocktree.Principal, scope blocktree.Path) []byte { return append(p[:], scope...) }

// revokePrincipal adds a revocation, and forgets those that have ended.
func (s *state) revokePrincipal(o RevokePrincipal) Result {
	r := o.Revocation
	if root := r.Scope.Root(); r.Principal.IsZero() || root.IsZero() || r.Principal == root || r.Until <= r.Time {
		return refuse(blocktree.Invalid, "nobody is revoked, or nowhere, or for no time, or the root principal itself")
	}
	rest := revokedRest(r.Principal, r.Scope)
	if old := value(s, kindRevoked, rest, getRevocation); old != nil {
		r.Until, r.Time = max(r.Until, old.Until), old.Time
	} else {
		most := RevokedMax
		if r.Scope != blocktree.RootPath(r.Scope.Root()) {
			most = RevokedBelowMax
		}
		if kept := s.forgetRevoked(r.Time); kept >= most {
			return refuse(blocktree.NoSpace, "%d revocations are kept", kept).
				hinted("`btnode credential revoked` says when the first ends; to revoke the one that issued many takes one place")
		}
	}
	store(s, kindRevoked, rest, &r, putRevocation)
	s.changes.Revoked = append(s.changes.Revoked, r)
	s.tookAway(nil)
	return Result{}
}

// forgetRevoked forgets those that ended so long before now that no clock takes what was issued to them for valid, and returns how many are kept.
func (s *state) forgetRevoked(now int64) (kept int) {
	var ended [][]byte
	each(s, kindRevoked, getRevocation, func(r *Revocation) {
		if r.Until < now-int64(RevokedAfter) {
			ended = append(ended, revokedRest(r.Principal, r.Scope))
			return
		}
		kept++
	})
	for _, rest := range ended {
		s.del(kindRevoked, rest)
	}
	return kept
}

// believed refuses a runtime at a path that has the principals in its chain, if one of them is revoked there.
func (s *state) believed(at blocktree.Path, chain ...blocktree.Principal) (r Result, ok bool) {
	ok = true
	for _, p := range chain {
		s.scan(kindRevoked, p[:], nil, func(scope, _ []byte) bool {
			if at.Within(blocktree.Path(scope)) {
				r, ok = refuse(blocktree.Unauthenticated, "principal %v was revoked", p).hinted(RevokedHint), false
			}
			return ok
		})
	}
	return r, ok
}

// RevokedHint is for whoever meets a revocation.
const RevokedHint = "make a new key and have credentials issued for it: what was revoked is never believed again"

// revokedAfter returns up to limit revocations after so many, ascending by principal and scope, and whether there are more.
func (s *state) revokedAfter(skip string, limit int) (page []Revocation, more bool, r Result) {
	if limit <= 0 || limit > RevokedPageMax {
		limit = RevokedPageMax
	}
	left := 0
	if skip != "" {
		n, err := strconv.ParseUint(skip, 10, 16)
		if err != nil {
			return nil, false, refuse(blocktree.Invalid, "not after a number")
		}
		left = int(n)
	}
	each(s, kindRevoked, getRevocation, func(x *Revocation) {
		switch {
		case left > 0:
			left--
		case len(page) == limit:
			more = true
		default:
			page = append(page, *x)
		}
	})
	return page, more, Result{}
}

// Revoked returns all revocations as applied here, ascending by principal and scope.
func (g *Group) Revoked() (all []Revocation, err error) {
	err = g.view("meta.Revoked", func(s *state) error {
		all = s.allRevoked()
		return nil
	})
	return all, err
}

func (s *state) allRevoked() (all []Revocation) {
	each(s, kindRevoked, getRevocation, func(r *Revocation) { all = append(all, *r) })
	return all
}

func putRevoked(e *wire.Encoder, rs []Revocation) {
	e.U16(uint16(len(rs)))
	for i := range rs {
		putRevocation(e, &rs[i])
	}
}

func getRevoked(d *wire.Decoder) (rs []Revocation) {
	n := int(d.U16())
	if n > RevokedPageMax || n == 0 && d.Err() == nil {
		bad(d, "no revocations, or too many")
	}
	for i := 0; i < n && d.Err() == nil; i++ {
		rs = append(rs, *getRevocation(d))
	}
	return rs
}
