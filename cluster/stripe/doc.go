// Package stripe has the step machines of the sector protocol, "fenced write-all-in-view" (DESIGN section 5; as built:
// docs/design/0001-sector-protocol.md): Member is the node's side, Holder the lease holder's, Reader reads without a lease.
//
// What it refuses to be: a place for goroutines, clocks, sockets or disks. A driver feeds a machine (Step, Tick, NodeUp, …), then
// takes everything it wants done from one Ready. The same inputs in the same order give the same outputs: nothing here
// iterates a map into an output.
//
// Order of a write. 1. The holder numbers it and sends every in-sync and joining member its shard. 2. A member checks epoch,
// view and incarnation against its own Raft log, and appends a record. 3. The record is durable. 4. The member answers. 5. The
// holder counts: every in-sync and joining member of the newest view, each of which knows that view durably. 6. Only then is
// the write acknowledged. 7. The watermark passes it once all before it are acknowledged; members then commit it.
//
// A machine belongs to one goroutine (or one mutex). Every slice of a Ready is valid until the next call of Ready. Imported by
// cluster (drivers), cluster/meta (Layout) and internal/sim.
package stripe
