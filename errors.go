package blocktree

import (
	"errors"
	"strings"
)

// Kind says what went wrong in a word that every layer and every runtime understands. Kinds are append-only: the
// number of a kind is its wire code.
type Kind uint8

// The kinds. A new one goes to the end, and into the tables that a totality test checks (kindNames here, NBD errno
// in blockdev/nbd, exit code in internal/cli).
const (
	Other           Kind = iota // none of the below
	Invalid                     // the request makes no sense: bad size, code, alignment, name
	NotFound                    // no such file, directory, export or record
	Exists                      // it is there already
	Permission                  // authenticated, but not allowed
	Unauthenticated             // who are you?
	Busy                        // another holder, process or user has it
	Unavailable                 // too few members answer; trying later may help
	ReadOnly                    // a write to something that is read-only
	NoSpace                     // a disk is full
	OutOfRange                  // past the end of the file
	Fenced                      // a later epoch exists: this holder may change nothing any more
	StaleView                   // a later view exists: learn it and ask again
	StaleMember                 // the incarnation asked for is gone
	Corrupt                     // stored bytes do not match their checksum, leaf or tag
	Timeout                     // no answer in time; the outcome is unknown
	Canceled                    // the caller gave up
	Closed                      // the file, connection or process is stopping
	Undeliverable               // the addressee of a message does not exist
	Unsupported                 // understood, but not offered
	TooLarge                    // over a limit of limits.go
	NewerFormat                 // written by a newer version of this software
	IO                          // a disk failed
	Lost                        // acknowledged data may be gone; reopen with --accept-loss
	Recovering                  // a new holder is deciding what was written; ask again
	NotLeader                   // another member of the Raft group leads
	Elsewhere                   // another cluster answers for it
	CrossDevice                 // it would take two clusters to do

	kindEnd // keep last
)

var kindNames = [kindEnd]string{
	Other: "error", Invalid: "invalid", NotFound: "not found", Exists: "already exists", Permission: "permission denied",
	Unauthenticated: "not authenticated", Busy: "busy", Unavailable: "unavailable", ReadOnly: "read-only",
	NoSpace: "no space", OutOfRange: "out of range", Fenced: "fenced by a later holder", StaleView: "stale view",
	StaleMember: "stale incarnation", Corrupt: "corrupt", Timeout: "timed out", Canceled: "canceled", Closed: "closed",
	Undeliverable: "undeliverable", Unsupported: "unsupported", TooLarge: "too large",
	NewerFormat: "newer format", IO: "i/o error", Lost: "acknowledged data may be lost", Recovering: "recovering",
	NotLeader: "not the leader", Elsewhere: "kept by another cluster", CrossDevice: "across clusters",
}

// String names the kind in lower case, most often the only text an error needs.
func (k Kind) String() string {
	if k < kindEnd {
		return kindNames[k]
	}
	return "unknown kind"
}

// Valid reports whether k is one of the kinds of this version; a decoder maps others to Other.
func (k Kind) Valid() bool { return k < kindEnd }

// Kinds returns how many kinds there are, for totality tests of tables keyed by kind.
func Kinds() int { return int(kindEnd) }

// Error is the one error type that crosses a package boundary. Zero fields are left out of the text.
type Error struct {
	Op      string // what was tried, "cluster.ReadSectors"
	Path    string // the file or directory, or a local file's name
	Runtime string // the runtime that failed, where it was another one
	Kind    Kind   // Other takes the kind of Err
	Err     error  // the cause, or nil
	Hint    string // what the user can do about it; printed on its own line by the commands
}

// Error prints the fields from the general to the specific: "op path (runtime): kind: cause".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Path != "" {
		b.WriteString(" " + e.Path)
	}
	if e.Runtime != "" {
		b.WriteString(" (" + e.Runtime + ")")
	}
	var inner *Error
	kindSaid := errors.As(e.Err, &inner) && inner.Kind == e.Kind
	if e.Kind != Other && !kindSaid {
		b.WriteString(": " + e.Kind.String())
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return strings.TrimPrefix(b.String(), ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the outermost Error in err's chain that has one, Other for foreign errors.
func KindOf(err error) Kind {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return Other
		}
		if e.Kind != Other {
			return e.Kind
		}
		err = e.Err
	}
	return Other
}

// HintOf returns the hint of the outermost Error in err's chain that has one.
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}

// E makes an Error of op, kind and cause; err may be nil.
func E(op string, kind Kind, err error) *Error { return &Error{Op: op, Kind: kind, Err: err} }
