// Package mount shows a directory of the namespace as a file system of Linux, over FUSE. docs/design/0051-mount.md and 0060-mount-writes.md have the decisions and the numbered invariants.
//
// The way of a read. 1. The kernel has no page and asks. 2. The request takes one of a bounded number of places. 3. The filesystem service is asked, again if it is not
// reached, by the same handle or by one that was opened anew for the same file. 4. The bytes, or an errno, go to the kernel.
//
// The way of a write. 1. The kernel has a page, or a part of one, and asks. 2. The writer of the file, which all its handles share, has the service write it. 3. When that answered, a copy is kept, and the program is told. 4. fsync and close flush, and tell the service where the file ends; only then do they succeed, and the copies go.
//
// A new file in a directory that this mount has made is made here, where a service lets it, and sent whole by its close or fsync (docs/design/0086).
//
// What it refuses to be: it keeps nothing that is durable, caches no content (the kernel does), has no rules about who may do what, and writes nothing a second time where somebody else may have written since (docs/design/0075): that is an error.
//
// Concurrency. Each request is a goroutine of go-fuse. Of a file that is read only its handle at the service is shared, under a lock that is not held while anything but an open is asked. Of one that is written its writer is: requests use it at the same time, and whoever makes it longer or
// shorter, opens it anew or closes it, has it alone. tree.writersMu is taken last, but for kept.mu.
//
// What the kernel may believe of a file is kept (docs/design/0082): an open that says the same has it forget nothing.
//
// Imported by cmd/btnode.
package mount
