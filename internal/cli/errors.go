package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"blocktree"
)

// The exit codes of both commands.
const (
	ExitOK      = 0 // done, or stopped by a signal as asked
	ExitFailure = 1 // the request was sensible and failed
	ExitUsage   = 2 // the request cannot succeed as typed: flags, arguments, configuration
)

// outcome is what a kind means to a person at a terminal.
type outcome struct {
	code int
	hint string // printed where the error brings no hint of its own
}

// outcomes is total over the kinds; a test counts them.
func outcomes() map[blocktree.Kind]outcome {
	return map[blocktree.Kind]outcome{
		blocktree.Other:           {ExitFailure, "run again with --log-level debug to see what led to it"},
		blocktree.Invalid:         {ExitUsage, "see --help for what is accepted"},
		blocktree.NotFound:        {ExitFailure, "check the spelling of the path; `btnode file ls / --config F` lists what there is"},
		blocktree.Exists:          {ExitFailure, "choose another name, or remove the old one first"},
		blocktree.Permission:      {ExitFailure, "use an identity that may do this, or correct the permissions of the file named above"},
		blocktree.Unauthenticated: {ExitFailure, "check domain.root, identity.key and identity.credentials in the configuration"},
		blocktree.Busy:            {ExitFailure, "another process has it; stop that process, or wait until its lease has run out"},
		blocktree.Unavailable:     {ExitFailure, "too few nodes answer; `btnode status --config F` shows which"},
		blocktree.ReadOnly:        {ExitFailure, "open it for writing, or use another export"},
		blocktree.NoSpace:         {ExitFailure, "free space on the disk, or use another directory"},
		blocktree.OutOfRange:      {ExitUsage, "stay within the size that `btnode file stat` prints"},
		blocktree.Fenced:          {ExitFailure, "another process took the file over; stop it before this one opens the file again"},
		blocktree.StaleView:       {ExitFailure, "try again: the cluster has just changed its members"},
		blocktree.StaleMember:     {ExitFailure, "try again: a node has just restarted"},
		blocktree.Corrupt:         {ExitFailure, "keep the directory as it is; the log says which record does not match"},
		blocktree.Timeout:         {ExitFailure, "it may or may not have happened; look before trying again"},
		blocktree.Canceled:        {ExitFailure, "it was stopped before it was done"},
		blocktree.Closed:          {ExitFailure, "the other side is stopping; try again when it runs"},
		blocktree.Undeliverable:   {ExitFailure, "the file was closed meanwhile; open it again"},
		blocktree.Unsupported:     {ExitUsage, "this version does not offer it; see CHANGELOG.md"},
		blocktree.TooLarge:        {ExitUsage, "stay within the limit named above"},
		blocktree.NewerFormat:     {ExitFailure, "install the version of blocktree that wrote it, or a later one"},
		blocktree.IO:              {ExitFailure, "the kernel's log says what the disk reported"},
		blocktree.Lost:            {ExitFailure, "restart clients of this file: what was acknowledged to them may be gone"},
		blocktree.Recovering:      {ExitFailure, "try again in a few seconds"},
		blocktree.NotLeader:       {ExitFailure, "try again: the nodes are electing a leader"},
		blocktree.Elsewhere:       {ExitFailure, "name the nodes of the cluster that keeps it, or those of the root directory (domain.seeds)"},
		blocktree.CrossDevice:     {ExitFailure, "copy it, then remove it where it was"},
	}
}

// ExitCode returns the exit code of a command that returned err; nil is ExitOK.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	if o, ok := outcomes()[blocktree.KindOf(err)]; ok {
		return o.code
	}
	return ExitFailure
}

// Hint returns the hint that err carries, else what its kind suggests.
func Hint(err error) string {
	if h := blocktree.HintOf(err); h != "" {
		return h
	}
	return outcomes()[blocktree.KindOf(err)].hint
}

// PrintError writes err as the two lines "name: error: …" and "name: hint: …", as Printable has them. A failing writer is ignored: there is
// nobody left to tell.
func PrintError(w io.Writer, name string, err error) {
	_, _ = fmt.Fprintf(w, "%s: error: %s\n%s: hint: %s\n", name, Printable(err.Error()), name, Printable(Hint(err)))
}

// printJSONError writes err as one line, {"error": {"kind": …, "message": …, "hint": …}}: the words of PrintError, and the kind, which a script may match as the words never.
func printJSONError(w io.Writer, err error) {
	type told struct {
		Kind    string `json:"kind"` // as blocktree.Kind prints
		Message string `json:"message"`
		Hint    string `json:"hint"`
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(map[string]told{"error": {blocktree.KindOf(err).String(), err.Error(), Hint(err)}})
}

// Printable returns text as a terminal may be shown it: what somebody else named a file moves no cursor, and says nothing in another's name. Characters that do not print are written as in Go, \x1b; lines and tabs stay
// in what has them, which names of files are shown without.
func Printable(text string) string { return escaped(text, "\n\t") }

// PrintableName is Printable of a name or path, where a tab is no column.
func PrintableName(name string) string { return escaped(name, "") }

func escaped(text, keep string) string {
	good := func(r rune) bool { return unicode.IsPrint(r) || strings.ContainsRune(keep, r) }
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !good(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, text[0])
		} else if good(r) {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[n:]
	}
	return b.String()
}

// Invalid is a request that cannot succeed as typed: kind Invalid, exit code 2, with a hint that shows how it is typed.
func Invalid(hint, format string, args ...any) error {
	return &blocktree.Error{Kind: blocktree.Invalid, Err: fmt.Errorf(format, args...), Hint: hint}
}

// WithHint adds a hint to err unless its chain has one. The kind stays. A nil err stays nil.
func WithHint(err error, hint string) error {
	if err == nil || blocktree.HintOf(err) != "" {
		return err
	}
	return &hinted{blocktree.Error{Err: err, Hint: hint}}
}

// hinted prints as the error inside it: a hint adds no words to the error line.
type hinted struct{ e blocktree.Error }

func (h *hinted) Error() string { return h.e.Err.Error() }
func (h *hinted) Unwrap() error { return &h.e }
