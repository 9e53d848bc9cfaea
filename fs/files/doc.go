// Package files is what a Go program imports to use the files of a domain: names, io and io/fs over the filesystem service, or over the cluster itself for
// whoever has a reader key. docs/design/0052-file-api.md has the decisions and the numbered invariants.
//
// The way of a write. 1. The bytes are written to the service, or sealed here; what ends behind the end of the file makes it larger. (Of a service of a version before what was written is flushed before that, the file is closed,
// made at least twice as large, and opened anew.) 2. Sync, or Close, flushes them; only then would they survive. 3. Then the cluster is told where the file ends.
//
// Concurrency. All methods of all types may be called by many goroutines at once; Read, Write and Seek share one position. There is one writer of a file, by whatever
// door: another is refused as busy. A File belongs to its opener, who closes it; a Tree that is closed closes what was opened by it.
//
// What it refuses to be: a cache (each read asks), or another set of rules: who may do what is the cluster's to say.
//
// Imported by whoever uses files; by nothing of this module but tests.
package files
