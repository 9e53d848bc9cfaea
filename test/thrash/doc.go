// Command thrash runs a cluster of real processes under load and faults, and checks that nothing is lost.
//
// Every node is a `btnode run` in a network namespace of its own, on a bridge in another namespace that leads nowhere else;
// every `btnbd serve` has one: one that writes, one that only reads, and now and then an heir that takes the files over from the first while that
// one is stopped or cut off. Faults come by a plan that a seed decides.
//
//  1. Loads begin: registers (several connections write and read the same few sectors, through both servers; what they saw is
//     recorded), a mirror (whoever writes a sector knows what it must read) and fio with verification.
//  2. Faults are made for the given time, and every one of them is taken back.
//  3. Within two minutes the cluster must be healthy, every file in sync, while the loads go on.
//  4. The loads end. Everything is read again: through the same server, and with each node in turn killed.
//  5. The history of every register must be linearizable, what the mirror reads must be what it wrote.
//
// An operation that was refused or not answered may have happened or not, at any time after; only an answer binds. Slowness
// and I/O errors are counted and printed; wrong bytes, a process that ends by itself and a cluster that does not heal are
// failures. What happens in which millisecond is not reproducible; the plan of the faults is.
//
// Everything it starts it ends by its id; namespaces, mounts and loop devices go with it, also on a signal. It needs root.
package main
