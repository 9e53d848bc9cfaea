// Command bench measures Blocktree beside what it has to be compared with, in one run on one machine, and writes
// docs/BENCHMARKS.md. test/bench/run calls it; `make bench` calls that.
//
// Side by side, so that a busy machine slows all of them: in every round, for every workload, one after the other,
// `nbdkit memory` (what the protocol and the client cost), `qemu-nbd` on a raw file (what a local disk costs), Blocktree
// (three `btnode run` processes of a playground and `btnbd serve`, code 2+1, cache off), and for writes another file of the same nodes,
// of durability flush. In every round also the bare exchange (internal/bttp/bareexchange) and the slowest of three simultaneous
// fdatasyncs. The marks are ratios of medians.
//
// Then the marks of the engine and of the whole line, in rounds of their own: our engine over memory (test/bench/memory) and reads from
// btnbd's cache beside nbdkit, the line in both durabilities beside the bare exchange, ratios within each round. `test/bench/run --only engine`
// measures nothing but these, prints the page instead of writing it, and exits with 1 when a mark is not met.
//
// It is not a test: otherwise it fails only when something cannot be measured. It ends the processes that it started, by their ids.
//
// Environment: QUICK=1 for one short round, or three of the subset; BENCH_DIR for where files are kept (default the temporary directory; it should
// be on the disk that matters); BENCH_OUT for another file than docs/BENCHMARKS.md.
package main
