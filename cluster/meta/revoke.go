package meta

import (
	"bytes"
	"time"

	"blocktree"
	"blocktree/internal/wire"
)

// Bounds of revocations.
const (
	// RevokedMax bounds them: each is looked at by every connection that begins, and in memory.
	RevokedMax = 16384
	// RevokedAfter is how long one is kept beyond its end, for clocks that differ.
	RevokedAfter = 24 * time.Hour
	// RevokedPageMax bounds an answer: of the longest paths it fits a frame.
	RevokedPageMax = 100
	// ProofBytesMax bounds the credentials that prove where a principal is.
	ProofBytesMax = blocktree.CredentialBytesMax
)

// Revocation is a principal that is believed no more, in whichever place of a chain (docs/design/0025-credentials.md). It cannot be taken back.
type Revocation struct {
	Principal blocktree.Principal
	Path      blocktree.Path // where it is, as was proven; "" if only its principal is known
	By        blocktree.Path // who said so
	Time      int64          // when, nanoseconds since 1970
	Until     int64          // until when it is kept, likewise: all that was issued to it has ended by then
}

// RevokePrincipal adds one. The node that takes the command has verified Proof, encoded credentials with Principal in them at Path, which
// are not looked at here, and that By may. One that is there already is kept until the later end. Invalid (nobody, or an end before Time), NoSpace
// (RevokedMax).
type RevokePrincipal struct {
	Revocation
	Proof []byte
}

func (RevokePrincipal) opcode() opcode { return opRevokePrincipal }

func putRevocation(e *wire.Encoder, r *Revocation) {
	e.Raw(r.Principal[:])
	putPath(e, r.Path)
	putPath(e, r.By)
	e.U64(uint64(r.Time))
	e.U64(uint64(r.Until))
}

func getRevocation(d *wire.Decoder) *Revocation {
	r := new(Revocation)
	copy(r.Principal[:], d.Raw(len(r.Principal)))
	r.Path, r.By, r.Time, r.Until = getPath(d), getPath(d), int64(d.U64()), int64(d.U64())
	return r
}

func putRevoke(e *wire.Encoder, o *RevokePrincipal) {
	putRevocation(e, &o.Revocation)
	e.Bytes(o.Proof)
}

func getRevoke(d *wire.Decoder) RevokePrincipal {
	return RevokePrincipal{Revocation: *getRevocation(d), Proof: getBytes(d, ProofBytesMax)}
}

// revokePrincipal adds a revocation, and forgets those that have ended.
func (s *state) revokePrincipal(o RevokePrincipal) Result {
	r := o.Revocation
	if r.Principal.IsZero() || r.Until <= r.Time {
		return refuse(blocktree.Invalid, "nobody is revoked, or for no time")
	}
	if old := s.revocation(r.Principal); old != nil {
		r.Until = max(r.Until, old.Until)
		if old.Path != "" { // what is known of it stays
			r.Path = old.Path
		}
		r.By, r.Time = old.By, old.Time
	} else if kept := s.forgetRevoked(r.Time); kept >= RevokedMax {
		return refuse(blocktree.NoSpace, "%d principals are revoked", kept).
			hinted("the first ends its time when `btnode credential revoked` says so; to revoke what issued many of them needs one place only")
	}
	store(s, kindRevoked, r.Principal[:], &r, putRevocation)
	s.changes.Revoked = append(s.changes.Revoked, r)
	return Result{}
}

// forgetRevoked forgets those that ended so long before now that no clock takes what was issued to them for valid, and returns how many are kept.
func (s *state) forgetRevoked(now int64) (kept int) {
	var ended []blocktree.Principal
	each(s, kindRevoked, getRevocation, func(r *Revocation) {
		if r.Until < now-int64(RevokedAfter) {
			ended = append(ended, r.Principal)
			return
		}
		kept++
	})
	for _, p := range ended {
		s.del(kindRevoked, p[:])
	}
	return kept
}

// revocation returns that of a principal, or nil.
func (s *state) revocation(p blocktree.Principal) *Revocation {
	return value(s, kindRevoked, p[:], getRevocation)
}

// believed refuses whoever has one of the principals, if one is revoked.
func (s *state) believed(principals ...blocktree.Principal) (Result, bool) {
	for _, p := range principals {
		if s.revocation(p) != nil {
			return refuse(blocktree.Unauthenticated, "principal %v was revoked", p).hinted(RevokedHint), false
		}
	}
	return Result{}, true
}

// RevokedHint is for whoever meets a revocation.
const RevokedHint = "make a new key and have credentials issued for it: what was revoked is never believed again"

// revokedAfter returns up to limit revocations of principals after one, ascending by principal, and whether there are more.
func (s *state) revokedAfter(from string, limit int) (page []Revocation, more bool, r Result) {
	if limit <= 0 || limit > RevokedPageMax {
		limit = RevokedPageMax
	}
	var after blocktree.Principal
	if from != "" {
		p, err := blocktree.ParsePrincipal(from)
		if err != nil {
			return nil, false, refuse(blocktree.Invalid, "not after a principal")
		}
		after = p
	}
	each(s, kindRevoked, getRevocation, func(x *Revocation) {
		switch {
		case bytes.Compare(x.Principal[:], after[:]) <= 0:
		case len(page) == limit:
			more = true
		default:
			page = append(page, *x)
		}
	})
	return page, more, Result{}
}

// Revoked returns all revocations as applied here, ascending by principal.
func (g *Group) Revoked() (all []Revocation, err error) {
	err = g.view("meta.Revoked", func(s *state) error {
		each(s, kindRevoked, getRevocation, func(r *Revocation) { all = append(all, *r) })
		return nil
	})
	return all, err
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
