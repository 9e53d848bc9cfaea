package nbd

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"

	"blocktree"
)

// Identity is who a client has proved to be, by a certificate that the listener's authority signed. The zero Identity is anybody.
type Identity struct {
	Principal   blocktree.Principal // of the certificate's key, where that is an Ed25519 one
	Fingerprint [sha256.Size]byte   // SHA-256 of the certificate
	Subject     string              // what the authority calls it: for people, nothing goes by it
}

// IsZero reports whether nothing was proved.
func (i Identity) IsZero() bool { return i.Fingerprint == [sha256.Size]byte{} }

// String is how a configuration names the client: by its principal, else by its certificate; empty for nobody.
func (i Identity) String() string {
	switch {
	case !i.Principal.IsZero():
		return i.Principal.String()
	case i.IsZero():
		return ""
	}
	return "sha256:" + hex.EncodeToString(i.Fingerprint[:])
}

// identityOf reads the client's certificate, which the handshake has verified.
func identityOf(s tls.ConnectionState) Identity {
	if len(s.VerifiedChains) == 0 || len(s.PeerCertificates) == 0 {
		return Identity{}
	}
	leaf := s.PeerCertificates[0]
	i := Identity{Fingerprint: sha256.Sum256(leaf.Raw), Subject: leaf.Subject.String()}
	if key, ok := leaf.PublicKey.(ed25519.PublicKey); ok {
		i.Principal = blocktree.PrincipalOf(key)
	}
	return i
}

// Access is what a client may do with an export.
type Access uint8

// The values of Access.
const (
	NoAccess    Access = iota // it is told that there is no such export
	ReadAccess                // the export is read-only for it
	WriteAccess               // whatever the export allows
)

// Rights says what a client may do with the export of a name, one that is there or could be opened. It does not block.
type Rights func(who Identity, export string) Access
