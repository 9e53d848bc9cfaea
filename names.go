package blocktree

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// principalEd25519 is the algorithm prefix of a principal whose key is Ed25519.
const principalEd25519 = 'e'

// Principal is the id of a key pair: an algorithm prefix and the SHA-256 of (algorithm, public key). The zero
// Principal is nobody (an anonymous caller).
type Principal [1 + sha256.Size]byte

var principalText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// PrincipalOf returns the principal of an Ed25519 public key.
func PrincipalOf(ed25519PublicKey []byte) Principal {
	var p Principal
	p[0] = principalEd25519
	sum := sha256.Sum256(append([]byte("blocktree principal ed25519\x00"), ed25519PublicKey...))
	copy(p[1:], sum[:])
	return p
}

// IsZero reports whether p is nobody.
func (p Principal) IsZero() bool { return p == Principal{} }

// String prints the algorithm letter and 52 characters of base32, all lower case.
func (p Principal) String() string {
	if p.IsZero() {
		return "anonymous"
	}
	return string(rune(p[0])) + principalText.EncodeToString(p[1:])
}

// ParsePrincipal reads what String prints.
func ParsePrincipal(s string) (Principal, error) {
	bad := func() (Principal, error) {
		return Principal{}, &Error{Op: "parse principal", Kind: Invalid, Err: fmt.Errorf("%q is not the id of a principal", s)}
	}
	if len(s) != 53 || s[0] != principalEd25519 {
		return bad()
	}
	sum, err := principalText.DecodeString(s[1:])
	if err != nil || len(sum) != sha256.Size {
		return bad()
	}
	var p Principal
	p[0] = s[0]
	copy(p[1:], sum)
	if p.String() != s { // trailing bits of the last character
		return bad()
	}
	return p, nil
}

// Path names a file, directory or runtime: "/<root principal>/vm/disk0", absolute, clean, self-certifying.
type Path string

// Scope is the path of a directory that a query or message starts from.
type Scope = Path

// ParsePath reads a path. One whose first name is not a principal is taken below root, the short form inside a
// configured domain: "/vm/disk0". A zero root refuses the short form.
func ParsePath(s string, root Principal) (Path, error) {
	bad := func(why string) (Path, error) {
		return "", &Error{Op: "parse path", Path: s, Kind: Invalid, Err: errors.New(why)}
	}
	if len(s) > PathBytesMax {
		return "", &Error{Op: "parse path", Kind: TooLarge, Err: fmt.Errorf("%d bytes, at most %d", len(s), PathBytesMax)}
	}
	if !strings.HasPrefix(s, "/") {
		return bad("a path starts with a slash")
	}
	names := strings.Split(strings.TrimSuffix(s[1:], "/"), "/")
	if s == "/" {
		names = nil
	}
	if len(names) > PathDepthMax {
		return bad("too deep")
	}
	for _, n := range names {
		if err := CheckName(n); err != nil {
			return "", &Error{Op: "parse path", Path: s, Err: err}
		}
	}
	if len(names) > 0 {
		if _, err := ParsePrincipal(names[0]); err == nil {
			return Path("/" + strings.Join(names, "/")), nil
		}
	}
	if root.IsZero() {
		return bad("a path starts with the id of its domain's root principal")
	}
	return Path("/" + strings.Join(append([]string{root.String()}, names...), "/")), nil
}

// CheckName refuses names that no directory entry may have.
func CheckName(n string) error {
	switch {
	case n == "" || n == "." || n == "..":
		return E("name", Invalid, fmt.Errorf("%q is not a name", n))
	case len(n) > NameBytesMax:
		return E("name", TooLarge, fmt.Errorf("%d bytes, at most %d", len(n), NameBytesMax))
	case strings.ContainsAny(n, "/\x00\n"):
		return E("name", Invalid, fmt.Errorf("%q has a slash, a newline or a zero byte", n))
	}
	return nil
}

// RootPath is the path of a domain's root directory.
func RootPath(root Principal) Path { return Path("/" + root.String()) }

// Root returns the root principal that the path starts with, the zero Principal if it has none.
func (p Path) Root() Principal {
	first, _, _ := strings.Cut(strings.TrimPrefix(string(p), "/"), "/")
	root, _ := ParsePrincipal(first)
	return root
}

// Short returns the path without its root principal: "/vm/disk0"; "/" for the root directory.
func (p Path) Short() string {
	_, rest, _ := strings.Cut(strings.TrimPrefix(string(p), "/"), "/")
	return "/" + rest
}

// Parent returns the directory that the path lies in; the root directory is its own parent.
func (p Path) Parent() Path {
	if i := strings.LastIndexByte(string(p), '/'); i > 0 {
		return p[:i]
	}
	return p
}

// Base returns the last name of the path.
func (p Path) Base() string { return string(p[strings.LastIndexByte(string(p), '/')+1:]) }

// Join returns the path of name inside directory p.
func (p Path) Join(name string) Path { return p + "/" + Path(name) }

// Within reports whether p is scope or lies below it.
func (p Path) Within(scope Scope) bool {
	rest, ok := strings.CutPrefix(string(p), string(scope))
	return ok && (rest == "" || rest[0] == '/')
}
