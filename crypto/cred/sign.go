package cred

import "crypto/ed25519"

// Sign signs a message that begins with what it is used for, as that of no other use does (certificates begin so, too).
func (k Key) Sign(message []byte) []byte { return ed25519.Sign(k.private(), message) }
