// Package fs is the filesystem service: files by path, as bytes, for callers who may use a file but have no key that opens it (cases 3 and 4 of
// DESIGN section 8), and its client. docs/design/0030-filesystem-service.md has the decisions and the numbered invariants.
//
// The way of a request. 1. Whoever is nobody in particular is refused all but a few codes, and counted. 2. What is asked of a path is judged by the
// cluster for the caller of the connection, then done. 3. What is asked of a handle is put into the mailbox of its actor, which judges again what
// was judged too long ago, does it, judges what moved meanwhile, and answers. A file in a directory whose names the service keeps is given away before the cluster hears of it: what anybody asks of it by another way waits until it has its name
// there (docs/design/0079).
//
// Concurrency. Each open file, and each watched directory, is one goroutine, owned by the connection that opened it. On the way of a read nothing is shared between open files but
// counters, and between handles of one file what those have in common (docs/design/0059). Every goroutine belongs to the Service, whose Close waits for it, or to a Client.
//
// What it refuses to be: it has no rules about who may do what (cluster/meta has), caches no content, and keeps no bytes that were not written
// to the cluster.
//
// Imported by internal/node and the commands.
package fs
