// Command filex does random things to one file of a file system, by a seed, and compares what it reads with an array of bytes: writes, reads, truncations, shared mappings, appends, holes, fsync, and opening it anew, by one
// descriptor or by another. The first difference, or error, ends it, with the operations before and the command that repeats them.
//
// It knows nothing of Blocktree, and imports nothing of it: on any file system of Linux it has to pass.
package main
