// Package nbd serves the exports of a blockdev.Exports by the NBD protocol (github.com/NetworkBlockDevice/nbd,
// doc/proto.md) on the wire constants of go-nbd. docs/design/0005-nbd.md says what is offered and why it is built so,
// 0018-nbd-structured.md how replies in chunks are made.
//
// What it refuses to be: a client, or a place that knows files, leases or clusters. It imports blockdev, the nouns and
// seams of the module root and internal/invariant. Only the commands may import it.
//
// Who a client is comes from TLS alone (STARTTLS, docs/design/0019-nbd-tls-and-exports.md): on a listener made by TLS.Require nothing is served before
// it. Rights say what he may do with which export, and a blockdev.Demand opens those that are not open yet, once for all who ask.
//
// The life of a request:
//
//  1. The connection's one reader takes its 28 bytes from a buffer of 64 KiB and waits for a slot of the connection.
//  2. Lengths are checked. Only then memory is taken from the budget shared by all connections, and the payload is
//     read into it. What is refused has its payload drained; only WRITE has one.
//  3. What can be answered without waiting (a cached READ, or everything on a prompt device) is answered by the reader
//     itself. A short READ or WRITE is started where the device can, and answered where its end becomes known; WRITEs that
//     came together and adjoin are started as one. Everything else gets a goroutine. So replies go out in the order in which they become ready.
//  4. The reply enters the outbox. Whoever finds the outbox idle writes all that is ready, up to 64 replies in one
//     writev, header and data together; the reader does so before it would wait, and never waits for the client itself.
//  5. Once its reply is written, or the connection is lost, the request gives back its slot and memory.
//
// A connection ends after DISC or the end of the stream only when all its requests are done and answered. An idle one
// is never closed. A client that makes no progress with a payload or reply, while others wait for the memory that it
// holds, is cut off.
//
// FLUSH covers every write answered before it on any connection, because all connections share one Device; that is what
// CAN_MULTI_CONN promises.
package nbd
