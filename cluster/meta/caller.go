package meta

import (
	"slices"

	"blocktree"
	"blocktree/internal/wire"
)

// Caller is who asks for something, as verified credentials say. The zero Caller is anonymous: its uid 0 means nobody. The node that a
// caller is connected to puts it into commands and queries, and the time; the others take that from sector hosts only. No caller at all (nil)
// is the cluster itself, or a command of the version before, and is not judged.
type Caller struct {
	Principal blocktree.Principal
	Path      blocktree.Path
	UID, GID  uint32
	Groups    []uint32
	Chain     []blocktree.Principal // of every link above it; none where nobody said
}

// callerGroupsMax bounds the groups of a caller: those of one certificate.
const callerGroupsMax = 64

// Anonymous reports whether nobody in particular is meant.
func (c *Caller) Anonymous() bool { return c.Principal.IsZero() }

// all reports whether c may do everything: user id 0, but not that of an anonymous caller.
func (c *Caller) all() bool { return c.UID == 0 && !c.Anonymous() }

// in reports whether c is in a group.
func (c *Caller) in(gid uint32) bool {
	return !c.Anonymous() && (c.GID == gid || slices.Contains(c.Groups, gid))
}

// equal compares all fields.
func (c *Caller) equal(o *Caller) bool {
	return c.Principal == o.Principal && c.Path == o.Path && c.UID == o.UID && c.GID == o.GID && slices.Equal(c.Groups, o.Groups) &&
		slices.Equal(c.Chain, o.Chain)
}

// String names a caller in words for people: its path, or that it has none.
func (c *Caller) String() string {
	if c == nil {
		return "the cluster"
	}
	if c.Anonymous() {
		return "an anonymous caller"
	}
	return c.Path.Short()
}

func putCaller(e *wire.Encoder, c *Caller) {
	e.Raw(c.Principal[:])
	putPath(e, c.Path)
	e.U32(c.UID)
	e.U32(c.GID)
	e.U16(uint16(len(c.Groups)))
	for _, g := range c.Groups {
		e.U32(g)
	}
	e.U16(uint16(len(c.Chain)))
	for _, p := range c.Chain {
		e.Raw(p[:])
	}
}

func getCaller(d *wire.Decoder) *Caller {
	c := &Caller{Principal: getPrincipal(d), Path: getPath(d), UID: d.U32(), GID: d.U32()}
	groups := int(d.U16())
	if groups > callerGroupsMax {
		bad(d, "too many groups")
	}
	for ; groups > 0 && d.Err() == nil; groups-- {
		c.Groups = append(c.Groups, d.U32())
	}
	links := int(d.U16())
	if links > blocktree.CredentialLinksMax {
		bad(d, "too many links")
	}
	for ; links > 0 && d.Err() == nil; links-- {
		c.Chain = append(c.Chain, getPrincipal(d))
	}
	if c.Anonymous() && !c.equal(&Caller{}) {
		bad(d, "an anonymous caller with attributes")
	}
	return c
}

func getPrincipal(d *wire.Decoder) (p blocktree.Principal) {
	copy(p[:], d.Raw(len(p)))
	return p
}
