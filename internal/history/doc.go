// Package history decides whether what clients saw of one register is linearizable: whether some order of all operations,
// in which each takes place between its call and its return, explains every read.
//
// There are two deciders. Atomic is quick, because every write has a value of its own. Linearizable asks porcupine, which
// knows nothing of that; whoever uses this package runs both on some histories and demands that they agree.
//
// An operation that nobody saw the end of stays open: its return is Unknown, and it may take effect at any time after its
// call, or never. What it refuses to be: a recorder. Who records must note a call before it is sent and a return after
// the answer is there, by one clock.
//
// Only tests, internal/sim and test/... import it. Nothing here is safe for use by several goroutines at a time.
package history
