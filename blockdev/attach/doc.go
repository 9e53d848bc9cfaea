// Package attach makes an export of an NBD server a block device of the Linux kernel, and keeps it one while its server restarts.
// docs/design/0020-attach.md says why it is built so, and numbers what it guarantees.
//
// What it refuses to be: on the data's way, which goes from the kernel to the server, and a place that knows files, leases or clusters. It
// imports the nouns of the module root only; the commands import it.
//
// The order of an attachment:
//
//  1. The lock on the device makes this process its keeper. There is one.
//  2. Connections are made and negotiated; not a byte is read past the handshake. The export must be fit for the kernel.
//  3. The kernel gets the sockets, and the URI, which it keeps. The keeper keeps copies of the descriptors, to see connections die.
//  4. Only then others are told that the device is there.
//
// The order of a reconnection: 1. A connection dies. 2. The server has ended it too, or had the time to. 3. New connections are made, and
// the export is compared with what it was. 4. The kernel gets them. 5. Those that it did not take are closed.
//
// The order of the end: 1. The device is claimed, so that nobody begins to use it. 2. It is flushed. 3. It is disconnected. 4. It is
// gone. Whoever uses it prevents 1, and then it stays, whatever becomes of the keeper.
//
// A keeper is one goroutine. Kernel, System, Link and the connections are seams: the tests have a model of the kernel that refuses what nbd.c
// refuses, and the same protocol is proven with the real one in a virtual machine (test/shown/4-03-restart).
package attach
