// Package nbdclient is an NBD client for tests that must know exactly what was answered: one connection, any number of
// requests in flight, simple replies.
//
// It refuses to be helpful: it never reconnects and never sends anything twice. An answer is nil or an Errno; every other
// error means that nobody knows what became of the request (ErrLost).
//
// A Client may be used by several goroutines at once. Each call blocks until the answer is there, the connection is lost or
// ctx ends; in the last case the connection is closed, because its request stays open. Only test/... imports it.
package nbdclient
