// Package keys makes the keys of files and directories and wraps them to their readers.
//
// A file has one random key per key generation. It is never used itself: HKDF derives a key for each use. Whoever may read
// the file has a reader key (X25519, or ML-KEM-768 with X25519); the file key is wrapped to each of them with HPKE (RFC 9180: DHKEM(X25519,
// HKDF-SHA256) or MLKEM768-X25519, HKDF-SHA256, AES-256-GCM). The Access of a file - its suite, key id, key generation and wraps - is kept with
// the inode, so nodes store it and cannot open it. A directory has one too: its key is the seed of a pair, whose public half is a reader of what is made beneath.
//
// An Access has a number, a path and an owner, and is signed. The keys of generations before are sealed under the newest, until nothing is sealed under them
// (docs/design/0027).
//
// At creation a file has no FileID yet, so a wrap is bound to a random KeyID that lies beside it, and to suite and
// generation; the seal's own additional data binds the FileID (crypto/seal).
//
// Order at creation. 1. Create draws the file key and wraps it. 2. Path and Owner are set, and Sign completes it. 3. The Access is stored with the new inode. 4. The file key
// derives the sealing key. Order at opening. 1. The Access is decoded. 2. Verify and Follows say whether to believe it. 3. Open unwraps with the reader's key. 4. as above.
//
// It refuses to be a trust store: it knows no credentials, and its callers say what those of a signer mean. Whoever gets another Access believed can have a
// reader unwrap a key of his own choice. It opens nothing that was sealed before, but a holder would seal under it from then on, for that somebody to read
// (crypto/doc.go, what is not kept, 4). It does not say who may read, and keeps no files but reader keys.
//
// Secrets print as a placeholder with every verb of fmt, and no error has a byte of them. Values may be used by many
// goroutines at once; there are no goroutines. Every package above layer 2 may import it.
package keys
