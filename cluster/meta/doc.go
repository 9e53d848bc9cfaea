// Package meta is a cluster's metadata: one Raft group whose log and state machine live in one Pebble store. It keeps
// directories, inodes with their layouts, process records, sessions, leases and node starts. Sector data never passes
// through it.
//
// The order in which things become true:
//
//  1. A command is proposed to the leader and appended to its log.
//  2. Every member syncs log and hard state to disk before it sends or answers anything that depends on them.
//  3. A majority has it: it is committed.
//  4. Each member applies it, with the index that is applied, in one Pebble batch. That batch is not synced: the log is.
//  5. OnApply learns what changed. 6. Only then are Propose and Sync answered.
//
// The state machine is deterministic: no clock, no randomness, no map order. Times come with the command. The leader
// alone decides that a session is silent, on its own clock, and proposes to expire it by compare-and-swap on the number of
// renewals it has seen; so a wrong clock costs a lease, never safety (epochs fence the old holder).
//
// A command has an id chosen by its proposer. A command that changed something is remembered with its result until
// DedupMax later ones did, so a retry with the same id after an unknown outcome is answered and not done again; a refused Remove
// too. Renewals and expiries of sessions, and claims, are not remembered: they are done again.
//
// Who asks for a command comes with it (Caller), and the state machine judges whether that one may (may.go), so that a verdict has its place in the log. Queries are judged
// by who answers.
//
// What it refuses to be: a network. The caller carries messages (Config.Send, Group.Step) and forwards commands and
// queries to the leader (EncodeCommand, EncodeQuery); and a cache of layouts for the data path (Config.OnApply).
//
// Concurrency: a Group may be used by many goroutines. One goroutine drives Raft and applies; readers use Pebble snapshots.
// Package cluster and the layers above may import it.
package meta
