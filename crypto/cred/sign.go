package cred

import (
	"crypto/ed25519"
	"errors"
	"time"

	"blocktree"
)

// Sign signs a message that others than the peer of a connection will verify. The message must begin with a context of its own, ended by a zero
// byte, so that a signature over it means nothing else. k is not the zero Key.
func (k Key) Sign(message []byte) []byte { return ed25519.Sign(k.private(), message) }

// VerifySigned checks what Sign made, by the holder of encoded credentials as they were at a time, and returns what those say. Whoever signed told that
// time; that the credentials have ended since, or are believed no more, is not looked at. It fails with the kinds of Decode and Verify,
// Unauthenticated for another signature.
func VerifySigned(credentials []byte, root blocktree.Principal, message, signature []byte, at time.Time) (Identity, error) {
	chain, err := Decode(credentials)
	if err != nil {
		return Identity{}, err
	}
	id, err := Verify(chain, root, at)
	if err != nil {
		return Identity{}, err
	}
	if !ed25519.Verify(chain[len(chain)-1].Subject, message, signature) {
		return Identity{}, blocktree.E("cred.VerifySigned", blocktree.Unauthenticated, errors.New("bad signature"))
	}
	return id, nil
}
