// Command btnbd is an NBD server: it offers files of Blocktree as raw block devices. It is also the client that gives
// such a device to the kernel, and keeps it there while a server restarts (blockdev/attach).
//
// It joins parts and decides nothing: flags and files come from internal/cli and internal/config, files from
// internal/file through cluster, devices from blockdev, the protocol from blockdev/nbd. Its `demo` also runs whole nodes
// of internal/node in the same process.
//
// What is exported, to whom and by which sockets is the configuration's; `exports` asks a running server by its control socket, which tells and
// takes nothing; `certificate` makes what TLS needs.
//
// The order of a start: 1. The addresses are listened on, so that a port in use is known before anything is made. 2. The
// cluster is dialed. 3. Files are opened, which waits for the lease of a holder that is gone. 4. "ready" is printed.
// The order of a stop: 1. No new clients; what is in flight is finished. 2. Devices flush and give up their leases.
// 3. The client leaves the cluster. 4. The nodes of a demo stop, last.
package main
