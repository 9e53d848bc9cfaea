// Package cluster runs the machines of the sector protocol against real members: it is the coordinator in whoever
// holds a file (Client, Handle) and the member service in a node (Service, Member).
//
// The way of a write, in order. 1. Handle.Begin takes a version. 2. The caller seals with it. 3. Handle.Write codes the run
// and hands it to the stripe.Holder. 4. Each member appends its record. 5. A group commit makes it durable. 6. The member
// answers. 7. The holder counts. 8. Only then is the write acknowledged.
//
// A node that nobody can dial is asked for, along the standing connections between a cluster and those above and below it (uplink.go, way.go, wayask.go), to dial back, to
// be reached by a relay, or to punch a hole. A node that a client cannot reach is reached through another one, in a connection that this one cannot read (gateway.go). Nothing above the
// connections knows of it.
//
// What it refuses to be: it has no rules of its own. Who may write, what counts as stored and what was decided is cluster/stripe's;
// who is a member and who holds the lease is cluster/meta's; what is on the disk is cluster/store's. It knows no keys.
//
// Concurrency. A Handle and a Member each guard one machine with one mutex; messages, disk appends and completions leave after it
// is unlocked, in the order the machine gave them out. Callbacks of bttp and store run on their goroutines and never block. Every
// goroutine belongs to a Client or a Service, whose Close waits for it.
//
// Imported by internal/file, internal/node and the commands.
package cluster
