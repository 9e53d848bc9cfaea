// Package node assembles a node from its configuration: the sector service with its stores, its identity and its
// addresses. It knows no block devices.
//
// Order of a start. 1. The sector store is opened, which refuses a directory that another process has or that belongs to
// another store. 2. The addresses are taken. 3. The Raft group is opened. 4. The node joins its cluster, in the background,
// and serves. A stop goes the other way round.
//
// Imported by the commands.
package node
