// Package cred has the identities of runtimes: keys, credentials, and the one constructor of TLS configurations.
//
// A Key is an Ed25519 key pair; its principal is the hash of its public half. A Certificate is one signed link: an
// issuer says which path, attributes and services another key has. Credentials are the links from the root principal
// of a domain to a runtime. TLS knows nothing of them: it carries exactly one self-signed Ed25519 certificate, which
// proves a key, and the credentials follow as the first frame of the connection (internal/bttp), where Verify turns
// them into an Identity for the key that TLS proved.
//
// Rules of Verify.
//  1. The first link is issued by the root principal, each later one by the subject of the link before it.
//  2. A link's path is at or below its issuer's; the root principal's is the root directory of its domain.
//  3. A link narrows, never widens: its services are among the issuer's (the root principal has all), and unless the
//     issuer has user id 0 its user id is the issuer's and its groups are among the issuer's.
//  4. Every link is valid now. An Identity says when the first of them ends.
//  5. At most CredentialLinksMax links, at most CredentialBytesMax bytes.
//
// Rules of TLS. Version 1.3 only, no session tickets and no early data, so nothing is ever resumed; what the peer must
// be is checked in VerifyConnection, which runs on every handshake. A caller without credentials is anonymous: it too
// proves a key, one made for the occasion, and presents an empty chain.
//
// A key file may have a passphrase (argon2id, AES-256-GCM), for keys that people issue with; a runtime's has none.
//
// What the package refuses to be: an authority. It has no set of revoked principals (cluster/meta has it, Identity.Chain is what
// it is compared with), no names beyond paths and no third party. Nothing
// here starts a goroutine; values are immutable once made and safe for many goroutines. Every package above layer 2 may
// import it.
package cred
