// Package testenv declares a domain, its nodes and its clients for a test: real identities, real stores in a temporary
// directory, real connections over loopback, all in one process. What a test starts is stopped when it ends.
//
// NewSimulated declares the same for a test in a bubble of testing/synctest: network and disks are in memory, and time passes when
// nobody has anything left to do.
//
// Imported by tests only.
package testenv
