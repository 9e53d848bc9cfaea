// Command floor does of a request what nobody who keeps the promises of Blocktree on these primitives can leave out, and nothing else, so that
// test/bench can tell how far its marks are from what a machine gives at all (docs/design/0036-floor.md).
//
//	floor -dir DIR -socket PATH -mib 128
//
// A write: 1. NBD in. 2. Each sector sealed, with its leaf. 3. Coded 2+1. 4. A frame to each of three processes, TLS over TCP. 5. Each of them makes a CRC
// per sector, appends to its log, past the page cache where records are long, and syncs once for all that wait. 6. It answers 64 bytes, all of a group in one write. 7. NBD out. A read: frames to the two
// that have the data, one read of the log each (two of a part of a longer record), CRC, the shard back, the sector opened.
//
// With -written a node answers what is in its log, and syncs nothing: the floor of files of durability flush between two flushes.
//
// With -parts it is none of that: it measures the steps of a request of 1 MiB one by one, in one thread that nobody wakes and that waits for nobody, and adds
// them up (docs/design/0045-bulk-again.md). No request through several processes can take less of a processor.
//
//	floor -parts -dir DIR
//
// The parts are those of Blocktree: blockdev/nbd, crypto/seal, internal/erasure, internal/vfs, TLS as crypto/cred has it. What is left out: connections that
// may end, views, versions, epochs, leases, an index on disk, a log that is ever read again, memory that is bounded, every error but that a shard is not what was
// written. So it is no store: what is written is gone with it. It prints "ready", the URI and the processes of its three nodes, and serves until SIGINT or SIGTERM.
package main
