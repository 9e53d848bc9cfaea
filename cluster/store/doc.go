// Package store keeps a node's shards on its disk (DESIGN section 6, docs/design/0003-store.md): one append-only log in
// segments, a paged index of what is committed, a checkpoint that ties the two together.
//
// What it refuses to be: a protocol. It does not know epochs' meaning, views, quorums or watermarks; it stores what the
// member's machine tells it to, says which version of a sector was last called committed, and after a restart hands the
// machine back its own checkpoint blob and every record that came later. It compresses, seals and codes nothing.
//
// Its ordering rules:
//
//  1. Append gives records their places and their order in the log, and returns.
//  2. The committer writes all that waits, in that order, long records past the page cache, and syncs once. What need not be synced its owner
//     may write himself (WriteLazy); there is one writer at a time.
//  3. Only then are the callbacks called, in order. After an error of write or sync no callback ever gets nil again.
//  4. The machine, having learned that a version is committed, calls Index; before that the record is pending and found
//     only by its Ref, which the machine keeps.
//  5. BeginCheckpoint is called where the machine has digested every record that Append returned and nothing else; Finish
//     makes it durable. Segments without a live sector in a durable checkpoint, and before it, are deleted.
//  6. Open returns after the machine has been given the blob, then each later record in log order, and after all of
//     these are known to be on the disk.
//
// Concurrency: every method may be called from any goroutine. Append, Index, Drop, DropRange and BeginCheckpoint of one
// machine belong under that machine's own lock, else a checkpoint may cut between a record and its effect. Callbacks
// run in the committer's goroutine, or within WriteLazy, with no lock of the store held; they must not block for long, and must neither Close nor finish a checkpoint.
//
// Segments of which little is live are compacted by a goroutine of the store's own (docs/design/0007-compaction.md). What it
// copies keeps file, sector, version, seal and checksum; only Refs change, of indexed sectors only. It needs the owner's checkpoints.
//
// Memory is bounded: Options.CacheBytes of clean pages, Options.DirtyBytes of changed ones before a checkpoint is asked for,
// 72 bytes per page of 256 sectors for the table. Importers: cluster, internal/sim, internal/bttest.
package store
