// Package testenv declares a domain, its nodes and its clients for a test: real identities, real stores in a temporary
// directory, real connections over loopback, all in one process. What a test starts is stopped when it ends.
//
// Imported by tests only.
package testenv
