// Package fastrung has the tests of the rung between the simulator and real machines: whole nodes and clients with all that ships
// (Raft and Pebble, the stores, quic-go, TLS, the drivers) in one bubble of testing/synctest, over a network and disks in memory.
// Time passes when nobody has anything left to do, so an hour of silence takes seconds, and a pause can be asserted to the
// millisecond on however busy a machine.
//
// What it is for: that the parts, put together, keep their times (docs/design/0017-fast-rung.md lists them), and that nothing is lost
// or stale over cuts, one-way cuts, bad links, losses of power and of the majority.
//
// What it refuses to be: a proof of the protocol (internal/sim has every order of events, this only those that happen), or of
// kernels and disks (test/thrash).
//
// There is nothing here but tests: `go test ./internal/fastrung`; SEEDS=100 for a longer random walk, SEED=7 for one.
package fastrung
