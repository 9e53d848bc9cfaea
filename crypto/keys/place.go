package keys

import (
	"slices"

	"blocktree"
)

// WithPath is the next record, of the same key and readers, of another path: of what gets another name. It takes no key, as WithOwner.
func (a *Access) WithPath(p blocktree.Path) *Access {
	n := a.next()
	n.Path = p
	return n
}

// Inherits reports whether the key is wrapped to that of a directory above.
func (a *Access) Inherits() bool { return len(a.Named()) < len(a.Readers) }

// Disinherited is the next record wrapped to those alone who are named, which takes no key either.
func (a *Access) Disinherited() *Access {
	n := a.next()
	n.Readers = slices.DeleteFunc(n.Readers, func(w Wrapped) bool { return w.Inherited })
	return n
}

// PathOf is the path that an encoded record names; none of one of the first format, or of what is no record.
func PathOf(record []byte) blocktree.Path {
	a, err := DecodeAccess(record)
	if err != nil {
		return ""
	}
	return a.Path
}
