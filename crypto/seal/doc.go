// Package seal turns one sector into ciphertext that opens only in its own place, and names the result by its leaf.
//
// It is XAES-256-GCM (C2SP, https://c2sp.org/XAES-256-GCM, with its test vectors) over one sector at a time. It refuses
// to be a key store (crypto/keys), to know members or shards, and to choose where a sector lies.
//
// Order of a write. 1. The holder numbers the sector: a Version. 2. Seal encrypts it with a fresh nonce and fills the
// header. 3. The sealed bytes are erasure coded; every shard travels with the whole header. 4. A retry sends the same
// sealed bytes; sealing again takes a new Version. Order of a read. 1. k shards of one leaf are joined. 2. Open checks
// the tag over the bytes and the place, and only then is plaintext given out.
//
// Nonces. 24 bytes: a prefix of 12, drawn for each Sealer and again after 2^28 sectors, and 12 random bytes for
// each sector. Never is a nonce derived from an epoch or a version: those repeat when a store goes back in time. Two
// equal nonces need equal prefixes, or a birthday among 2^28 draws of 96 bits: 2^-41 per prefix. A prefix is random, but from
// key generation 2 on its first 4 bytes name the generation, so that who reads knows by which key (GenerationOf).
//
// The header is 72 bytes: leaf 32, nonce 24, tag 16. Nodes and rebuilds check the leaf without any key. The leaf is no
// proof against somebody who may choose it: that is what the tag is for.
//
// A Sealer may be used by many goroutines at once and owns no goroutine. In steady state nothing is allocated per sector.
// Every package above layer 2 may import it.
package seal
