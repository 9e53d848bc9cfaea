// Package mount shows a directory of the namespace as a file system of Linux, read-only, over FUSE. docs/design/0051-mount.md has the decisions and the numbered invariants.
//
// The way of a read. 1. The kernel has no page and asks. 2. The request takes one of a bounded number of places. 3. The filesystem service is asked, again if it is not
// reached, by the same handle or by one that was opened anew for the same file. 4. The bytes, or an errno, go to the kernel.
//
// What it refuses to be: it keeps nothing that is durable, caches no content (the kernel does), has no rules about who may do what, and changes nothing.
//
// Concurrency. Each request is a goroutine of go-fuse. Of an open file only its handle at the service is shared, under a lock that is not held while anything but an open is asked.
//
// Imported by cmd/btnode.
package mount
