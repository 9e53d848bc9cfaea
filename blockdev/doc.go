// Package blockdev turns a blocktree.File, a run of whole sectors, into a byte-addressed Device, and keeps the named
// Exports that a protocol such as blockdev/nbd offers.
//
// What it refuses to be: a writeback cache (it holds clean sectors only), a protocol, or a place that knows clusters. It
// imports the nouns and seams of the module root, internal/invariant and ristretto, never cluster, internal/file or bttp.
//
// The order of a write, whatever its alignment:
//
//  1. The sectors it touches are locked. Overlapping writes go one after the other, in the order in which they asked;
//     disjoint ones run side by side.
//  2. The write begins in the cache's counters: nothing cached of its buckets is believed any more.
//  3. Sectors it covers in part are read and completed. A sector that cannot be read fails the write, unwritten.
//  4. One WriteSectors carries the whole range; a write is split at nothing.
//  5. Only after an answer without error does the write end in the counters. After an error the outcome is unknown, so
//     its buckets are never cached again while the device is open. Sectors that it completed are cached as it left them.
//  6. The sectors are unlocked, and the caller learns the result.
//
// Reads take no lock: a read that overlaps a write in flight returns the old or the new sector, each on its own. Flush
// covers every write that was answered before it was called, by whomever; its first error stays until the device is
// opened again, because what was lost stays lost.
//
// The cache believes an entry only if no write to its bucket (one of 2^16 counters) began since before the read that
// filled it, none was in flight in the bucket then, and the file's lease is unexpired now and of the same epoch
// (LeaseHolder; a file that cannot say is not cached). What is read ahead of clients that read on and on lies beside the
// cache, in pieces, and is believed by the same rule (docs/design/0023-cache-and-ahead.md).
//
// Memory is the bound on bytes in flight, shared by everything in the process that holds a payload. Whoever holds a
// Buffer must never wait for another one: a device therefore takes its scratch from the pools without waiting, and
// Device.ChargeBytes and WriteChargeBytes say beforehand what a request will cost.
//
// A Demand opens exports when they are asked for, once for all who ask, and closes them when nobody has used them for a while; at any time a
// file has at most one device that may write (docs/design/0019-nbd-tls-and-exports.md).
//
// All types are safe for use by many goroutines at once. blockdev/nbd and the commands may import this package.
package blockdev
