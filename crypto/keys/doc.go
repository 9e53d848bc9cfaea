// Package keys makes the keys of files and wraps them to their readers.
//
// A file has one random key per key generation. It is never used itself: HKDF derives a key for each use. Whoever may read
// the file has a reader key (X25519); the file key is wrapped to each of them with HPKE (RFC 9180: DHKEM(X25519,
// HKDF-SHA256), HKDF-SHA256, AES-256-GCM). The Access of a file - its suite, key id, key generation and wraps - is kept with
// the inode, so nodes store it and cannot open it.
//
// At creation a file has no FileID yet, so a wrap is bound to a random KeyID that lies beside it, and to suite and
// generation; the seal's own additional data binds the FileID (crypto/seal).
//
// Order at creation. 1. Create draws the file key and wraps it. 2. The Access is stored with the new inode. 3. The file key
// derives the sealing key. Order at opening. 1. The Access is decoded. 2. Open unwraps with the reader's key. 3. as above.
//
// It refuses to be a trust store: an Access is not signed, and anybody can wrap a key to a public key. Whoever can replace
// an Access can make a reader unwrap a key of his own choice. It opens nothing that was sealed before, but a holder would
// seal under it from then on, for that somebody to read (crypto/doc.go, what is not kept, 4). It does not say who may read,
// and keeps no files but reader keys.
//
// Secrets print as a placeholder with every verb of fmt, and no error has a byte of them. Values may be used by many
// goroutines at once; there are no goroutines. Every package above layer 2 may import it.
package keys
