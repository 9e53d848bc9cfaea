package keys

import (
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/base32"
	"errors"
	"strings"

	"blocktree"
)

// KeyKind says which algorithm a reader key is of.
type KeyKind uint8

// The kinds, append-only: they stand in records.
const (
	X25519         KeyKind = iota + 1
	MLKEM768X25519         // hybrid: as strong as the stronger of the two, so against quantum computers too

	kindEnd // keep last
)

// PublicKeyBytes is the length of an X25519 public key, HybridKeyBytes that of an ML-KEM-768 one with X25519.
const (
	PublicKeyBytes = 32
	HybridKeyBytes = 1184 + 32
)

// secretBytes is the length of the secret half, or of the seed that makes it, of every kind.
const secretBytes = 32

// algorithm is what differs between the kinds.
type algorithm struct {
	kem               hpke.KEM
	prefix            string // of the text of a public key
	publicBytes       int
	encapsulatedBytes int
}

// algorithm returns that of a kind, and whether there is one.
func (k KeyKind) algorithm() (algorithm, bool) {
	switch k {
	case X25519:
		return algorithm{hpke.DHKEM(ecdh.X25519()), "x25519-", PublicKeyBytes, 32}, true
	case MLKEM768X25519:
		return algorithm{hpke.MLKEM768X25519(), "mlkem768x25519-", HybridKeyBytes, 1088 + 32}, true
	}
	return algorithm{}, false
}

// String names the kind as the text of its keys begins.
func (k KeyKind) String() string {
	a, ok := k.algorithm()
	if !ok {
		return "unknown"
	}
	return strings.TrimSuffix(a.prefix, "-")
}

// ParseKeyKind reads what String prints; kind Invalid for anything else.
func ParseKeyKind(s string) (KeyKind, error) {
	for k := X25519; k < kindEnd; k++ {
		if k.String() == s {
			return k, nil
		}
	}
	return 0, &blocktree.Error{Op: "kind of key", Kind: blocktree.Invalid, Err: errors.New("there is no such kind"), Hint: "x25519, or mlkem768x25519"}
}

// secretWord follows the prefix in the text of a secret key.
const secretWord = "secret-"

func text() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// PublicKey is whom a file key is wrapped to. The zero PublicKey is nobody's. It can be compared.
type PublicKey struct {
	kind KeyKind
	raw  string
}

func (p PublicKey) algorithm() algorithm {
	a, _ := p.kind.algorithm()
	return a
}

// Kind is the key's algorithm, 0 for nobody's.
func (p PublicKey) Kind() KeyKind { return p.kind }

// IsZero reports whether the key is nobody's.
func (p PublicKey) IsZero() bool { return p.kind == 0 }

// String prints the key as configs spell it: its kind, "-" and base32, lower case.
func (p PublicKey) String() string {
	a, ok := p.kind.algorithm()
	if !ok {
		return "nobody"
	}
	return a.prefix + text().EncodeToString([]byte(p.raw))
}

// Short is String cut to what people can compare, with the whole text where that is no longer.
func (p PublicKey) Short() string {
	const most = 68
	s := p.String()
	if len(s) > most {
		s = s[:most-1] + "…"
	}
	return s
}

// ParsePublicKey reads what String prints; anything else is an error of kind Invalid. It does not quote its input,
// which may be a secret key in the wrong place.
func ParsePublicKey(s string) (PublicKey, error) {
	bad := func(why string) (PublicKey, error) {
		return PublicKey{}, &blocktree.Error{Op: "reader's public key", Kind: blocktree.Invalid, Err: errors.New(why),
			Hint: "a public key is x25519- and 52 characters, or mlkem768x25519- and 1946"}
	}
	for k := X25519; k < kindEnd; k++ {
		a, _ := k.algorithm()
		encoded, ok := strings.CutPrefix(s, a.prefix)
		if !ok {
			continue
		}
		if strings.HasPrefix(encoded, secretWord) {
			return bad("this is a secret key")
		}
		raw, err := text().DecodeString(encoded)
		if err != nil || len(raw) != a.publicBytes {
			return bad("not a public key")
		}
		p := PublicKey{k, string(raw)}
		if p.String() != s { // trailing bits of the last character
			return bad("not a public key")
		}
		return p, nil
	}
	return bad("not a public key")
}
