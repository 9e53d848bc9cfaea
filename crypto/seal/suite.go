package seal

import (
	"fmt"

	"blocktree"
)

// Suite says how the sectors of a file are sealed. Numbers are append-only: they are stored and authenticated. Zero is
// no suite, so that a forgotten field cannot mean "not encrypted".
type Suite uint8

// The suites.
const (
	XAES256GCM Suite = 1 // encrypted and authenticated, the default
	None       Suite = 2 // not encrypted: the leaf is a checksum against accidents, not against people
)

// Valid reports whether s is a suite of this version.
func (s Suite) Valid() bool { return s == XAES256GCM || s == None }

// SuiteOf returns the suite of a stored number. Zero and numbers of later versions are an error of kind Unsupported.
func SuiteOf(stored uint8) (Suite, error) {
	if s := Suite(stored); s.Valid() {
		return s, nil
	}
	return 0, blocktree.E("encryption", blocktree.Unsupported, fmt.Errorf("%v is not known here", Suite(stored)))
}

// String is how configs and commands spell the suite.
func (s Suite) String() string {
	switch s {
	case XAES256GCM:
		return "xaes-256-gcm"
	case None:
		return "none"
	}
	return fmt.Sprintf("suite(%d)", uint8(s))
}

// ParseSuite reads what String prints; other names are an error of kind Invalid.
func ParseSuite(name string) (Suite, error) {
	for s := XAES256GCM; s.Valid(); s++ {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, blocktree.E("encryption", blocktree.Invalid, fmt.Errorf("%q is neither %v nor %v", name, XAES256GCM, None))
}
