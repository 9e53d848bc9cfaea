// Package crypto is the threat model; it has no code. The code is in crypto/seal (one sector), crypto/keys (keys and
// wrapping) and crypto/cred (who is who, and TLS).
//
// Who is trusted with what:
//
//   - The holder, and every reader a file's key is wrapped to: with the plaintext. They hold the file key.
//   - A filesystem service (docs/design/0030): as every reader whose key its node has, and with asking the cluster who its callers are allowed to be. Who
//     gives a node no such key need not trust it so. One of a directory above a cluster asks that cluster in its callers' names, too (docs/design/0042): it is of user id 0, whom every cluster of the domain lets do anything.
//   - Sector hosts: with keeping bytes and answering truthfully about versions, epochs and views, most of them: a few that lie are outvoted and named
//     (docs/design/0029 says how many, and about what). Not with plaintext.
//   - Sector hosts: also with saying no. Rights (docs/design/0026) are rules that honest nodes keep; what a dishonest one gives away is ciphertext.
//   - The root principal's key: with everything its domain says about who is who.
//   - The network: with nothing.
//
// What is kept from whom:
//
//  1. Who has a node's disk, memory or network cannot read sectors, nor change, move or swap them unseen: a sealed sector
//     opens only as its own (suite, file, sector, key generation, version). The only thing such a node can do is refuse.
//  2. Who listens or sits between runtimes, those that pass a connection on among them (docs/design/0015, 0034), learns sizes, times and addresses. TLS 1.3 on both carriers, both sides proven by
//     one self-signed certificate each and a chain of credentials; no third-party CA, no resumption, no 0-RTT.
//  3. Who stole a runtime's key can be that runtime until its principal is revoked, or its credentials end, whichever is first; a link
//     can only narrow what is above it. A node that has not heard of the revocation still believes it, and so does a client of such a node.
//  4. Who lost access keeps what was read before, and opens what was not re-sealed since wherever they find it; a new key generation keeps from them what is
//     written after, and from everybody else, of a file of integrity tree, the records that they can still make under the old one
//     (docs/design/0028).
//
// What is not kept, said plainly:
//
//  1. Metadata is not secret from sector hosts: names, sizes, lengths, owners, which sectors are written and when, which of them are
//     zero (tombstones are not sealed), and to which public keys a file is wrapped.
//     A file's size and length are the cluster's word: a majority of its voters could have it read as shorter, or with zeros behind its end.
//  2. Absence and age are not sealed. The members of a cluster, all together, can answer with an older version of a sector,
//     or that it was never written. Against fewer than that the versions of the others stand; against all of them, of a file of
//     integrity tree, the signed records of crypto/tree do: who saw a record takes nothing older than it, and no other past
//     (docs/design/0028). Who saw none, and is told none, believes the first. What was flushed in the last seconds before its holder
//     ended without closing the file is in no record.
//  3. Any reader of a file can forge its sectors, because the file key is symmetric; colluding with the sector hosts they
//     would pass as the holder's. With integrity tree that ends where a record has the sector's version: what is newer than the newest record can still be
//     forged so.
//  4. The Access of a file (crypto/keys) is signed by its owner or by user 0, numbered, and of one path. A client that has seen none of that path before
//     takes what the cluster shows: an older one, one by another user of the domain who says he is the owner, and, of files of the version before, one that
//     nobody has signed. One with a state directory refuses what is older than it has seen. A signature says when it was made, and who signed may lie: a key that was
//     stolen still signs for the time when it was good. And a majority of a cluster's voters could name a file "none" that its owner wants encrypted: so who opens a
//     file must say itself that it wants encryption, and refuse when the stored suite is another.
//  5. Suite none has leaves without keys: they find accidents, not people.
//  6. Nonces are random. A virtual machine that is snapshotted while it holds a file, and resumed twice, may draw the same
//     nonce twice, up to 341 of them per processor: do not clone running holders. A restarted process draws afresh.
//  7. Memory is not locked or wiped: swap and core dumps of a holder have keys in them.
//  8. XAES-256-GCM does not commit to its key: a reader who makes up two keys can make one ciphertext open under both. Nothing
//     here relies on the opposite.
package crypto
