// Command bench measures Blocktree beside what it has to be compared with, in one run on one machine, and writes
// docs/BENCHMARKS.md. test/bench/run calls it; `make bench` calls that.
//
// Side by side, so that a busy machine slows all of them: in every round, for every workload, one after the other,
// `nbdkit memory` (what the protocol and the client cost), `qemu-nbd` on a raw file (what a local disk costs), Blocktree
// (three `btnode run` processes of a playground and `btnbd serve`, code 2+1, cache off), and for writes another file of the same nodes,
// of durability flush. In every round also the bare exchange (internal/bttp/bareexchange) and the slowest of three simultaneous
// fdatasyncs. The marks are ratios of medians.
//
// It is not a test: it fails only when something cannot be measured. It ends the processes that it started, by their ids.
//
// Environment: QUICK=1 for one short round; BENCH_DIR for where files are kept (default the temporary directory; it should
// be on the disk that matters); BENCH_OUT for another file than docs/BENCHMARKS.md.
package main
