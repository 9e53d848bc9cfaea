// Package blocktree holds the nouns of Blocktree: the words every other package speaks, the seams between layers,
// the error kinds that cross the wire, and every limit.
//
// It is a network block device whose sectors are sealed by whoever opened the file, erasure coded, and kept by the
// storage nodes of a directory cluster. docs/ARCHITECTURE.md draws the whole house on one page.
//
// What this package refuses to be: a place for code. It does no I/O, starts no goroutine and imports the standard
// library only. Every other package of the module may import it; it imports none of them.
package blocktree
