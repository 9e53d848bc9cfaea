// Package sim is the seeded world that proves the sector protocol: the production machines of cluster/stripe in one
// goroutine, with everything around them (network, disks, Raft, clocks, processes) played by a random walk.
//
// What it refuses to be: a test of drivers, carriers, stores or Raft itself. Each is stood in for by the weakest thing that keeps
// its contract; docs/SIMULATION.md lists what that leaves out.
//
// Order of a world. 1. The seed chooses shape, faults and their rates. 2. Clients contend for leases, write, read and crash
// while faults happen. 3. Faults stop; one holder per file must get every member in sync. 4. Every sector is read twice, and
// every member's disk is compared with that. 5. The history of each sector must be linearizable. The invariants I1, I4, I5
// and I7 of docs/design/0001 are checked on the way, at the step that would break them.
//
// Everything is single-threaded; the same Options give the same steps. Nobody imports it but its tests.
package sim
