package meta

import (
	"fmt"
	"strings"

	"blocktree"
	"blocktree/internal/wire"
)

// Rights is a set of rights on a file or directory.
type Rights uint8

// The rights, append-only.
const (
	RightRead  Rights = 1 << iota // a file's sectors
	RightWrite                    // a file's sectors and size; a directory's entries
	RightList                     // a directory's entries
	RightLease                    // to hold a file
	RightAdmin                    // mode, grants, access record
	rightsAll  = RightRead | RightWrite | RightList | RightLease | RightAdmin

	// RightsHold is what holding a file takes: a holder also reads, to copy up.
	RightsHold = RightRead | RightWrite | RightLease
)

// rightsRecord are those any of which has a use for an inode's access record. Of a directory list is one, which is what r of a mode is there: whoever reads what is
// beneath opens it by way of this record.
func rightsRecord(i *Inode) Rights {
	r := RightRead | RightWrite | RightAdmin
	if i.Kind == KindDir {
		r |= RightList
	}
	return r
}

var rightNames = []struct {
	right Rights
	name  string
}{{RightRead, "read"}, {RightWrite, "write"}, {RightList, "list"}, {RightLease, "lease"}, {RightAdmin, "admin"}}

// String lists the rights with commas, "none" if there are none.
func (r Rights) String() string {
	var names []string
	for _, x := range rightNames {
		if r&x.right != 0 {
			names = append(names, x.name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ",")
}

// ParseRights reads what String prints. It fails with Invalid and a hint.
func ParseRights(s string) (Rights, error) {
	var r Rights
	for _, name := range strings.Split(s, ",") {
		found := Rights(0)
		for _, x := range rightNames {
			if x.name == strings.TrimSpace(name) {
				found = x.right
			}
		}
		if found == 0 {
			return 0, &blocktree.Error{Op: "rights", Kind: blocktree.Invalid, Err: fmt.Errorf("%q is not a right", name),
				Hint: "rights are read, write, list, lease and admin, with commas between them"}
		}
		r |= found
	}
	return r, nil
}

// Subject is who a grant is for: a principal, or every runtime at or below a path. One of the two is set.
type Subject struct {
	Principal blocktree.Principal
	Path      blocktree.Path
}

// valid reports whether s is one or the other.
func (s *Subject) valid() bool {
	return s.Principal.IsZero() != (s.Path == "") && (s.Path == "" || !s.Path.Root().IsZero())
}

// covers reports whether c is meant.
func (s *Subject) covers(c *Caller) bool {
	switch {
	case c.Anonymous():
		return false
	case s.Path != "":
		return c.Path.Within(s.Path)
	}
	return s.Principal == c.Principal
}

// String is the path, in its short form, or the principal.
func (s *Subject) String() string {
	if s.Path != "" {
		return s.Path.Short()
	}
	return s.Principal.String()
}

// Grant gives rights on an inode, and on all beneath it, to a subject.
type Grant struct {
	Subject Subject
	Rights  Rights
	Until   int64 // nanoseconds since 1970; 0: for ever
}

// holds reports whether g has not ended at a time.
func (g *Grant) holds(now int64) bool { return g.Until == 0 || now < g.Until }

// within reports whether o gives all that g does, for as long.
func (g *Grant) within(o *Grant) bool {
	return g.Rights&^o.Rights == 0 && (o.Until == 0 || g.Until != 0 && g.Until <= o.Until)
}

// RightsChange is what was done last about the rights on an inode. Subject is zero unless it was about one.
type RightsChange struct {
	By      blocktree.Path
	Time    int64
	What    string // "revoked read,write", "mode 0640"
	Subject Subject
}

// rightsWordsMax bounds RightsChange.What.
const rightsWordsMax = 128

// grantsNote is the record of an inode's grants; Last.By is empty if nothing was changed yet.
type grantsNote struct {
	grants []Grant
	last   RightsChange
}

func putSubject(e *wire.Encoder, s *Subject) {
	e.Raw(s.Principal[:])
	putPath(e, s.Path)
}

func getSubject(d *wire.Decoder) Subject { return Subject{getPrincipal(d), getPath(d)} }

func putGrant(e *wire.Encoder, g *Grant) {
	putSubject(e, &g.Subject)
	e.U8(uint8(g.Rights))
	e.U64(uint64(g.Until))
}

// getGrant refuses rights of a newer version: a member that left them out would judge otherwise than the others.
func getGrant(d *wire.Decoder) Grant {
	g := Grant{Subject: getSubject(d), Rights: Rights(d.U8()), Until: int64(d.U64())}
	if d.Err() == nil && (!g.Subject.valid() || g.Rights == 0 || g.Rights&^rightsAll != 0 || g.Until < 0) {
		bad(d, "an impossible grant")
	}
	return g
}

func putGrants(e *wire.Encoder, gs []Grant) {
	e.U16(uint16(len(gs)))
	for i := range gs {
		putGrant(e, &gs[i])
	}
}

func getGrants(d *wire.Decoder) (gs []Grant) {
	n := int(d.U16())
	if n > GrantsMax {
		bad(d, "too many grants")
	}
	for ; n > 0 && d.Err() == nil; n-- {
		gs = append(gs, getGrant(d))
	}
	return gs
}

func putGranted(e *wire.Encoder, a *grantsNote) {
	putGrants(e, a.grants)
	putPath(e, a.last.By)
	e.U64(uint64(a.last.Time))
	e.String(a.last.What)
	putSubject(e, &a.last.Subject)
}

func getGranted(d *wire.Decoder) *grantsNote {
	return &grantsNote{getGrants(d), RightsChange{By: getPath(d), Time: int64(d.U64()), What: d.String(rightsWordsMax), Subject: getSubject(d)}}
}
