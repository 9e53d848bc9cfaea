package cred

import (
	"crypto/ed25519"
	"encoding/base32"
	"errors"
	"strings"

	"blocktree"
)

// publicPrefix begins the text of a public key.
const publicPrefix = "ed25519-"

func publicEncoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// PublicText prints a public key: "ed25519-" and 52 characters of base32, lower case.
func PublicText(p ed25519.PublicKey) string { return publicPrefix + publicEncoding().EncodeToString(p) }

// ParsePublic reads what PublicText prints; anything else is an error of kind Invalid. It does not quote its input, which may be a secret
// in the wrong place.
func ParsePublic(s string) (ed25519.PublicKey, error) {
	encoded, ok := strings.CutPrefix(s, publicPrefix)
	raw, err := publicEncoding().DecodeString(encoded)
	if !ok || err != nil || len(raw) != ed25519.PublicKeySize || PublicText(raw) != s {
		return nil, &blocktree.Error{Op: "public key", Kind: blocktree.Invalid, Err: errors.New("not a public key"),
			Hint: "it is " + publicPrefix + " and 52 characters; `btnode credential key` and `btnode credential show` print it"}
	}
	return raw, nil
}
