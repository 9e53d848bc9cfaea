// Package bareexchange is the yardstick of `make bench`: what one client can exchange with three echo processes on
// this machine over nothing but crypto/tls on TCP and quic-go, and the same over internal/bttp, so that what each
// layer costs can be told.
//
// A bare exchange is: length-prefixed messages on one connection (TCP) or one stream (QUIC) per echo process, in
// order; at depth 1 the client writes to all and then reads from all in one goroutine, at greater depths one goroutine
// writes and one per connection reads. Each message is one write. (Also measured, as "batched": both sides put into one
// write all that is ready, as bttp does.) The echo processes are this program again (Echo), started with pipes for standard input and output, and end with their input.
//
// What it refuses to be: a test. It measures whatever the machine gives and fails only when an exchange fails. Only its
// command, in the directory cmd below, and the bench that runs it use it.
package bareexchange
