package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
)

// Run is a run of sectors on its way to the members. Whoever seals does so sector by sector, each into its places in the shards, and
// no second copy of the run is made.
type Run struct {
	handle *Handle
	write  *stripe.Write
}

// NewRun begins a run of count sectors, at most RunSectorsMax, of one region under a version from Begin. The parts of every sector
// and its seal are filled, and then the run is given to Write.
func (h *Handle) NewRun(region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32, v blocktree.Version) *Run {
	shard := h.code.ShardBytes(int(h.inode.SectorBytes))
	n, copies := int(count)*shard, h.code.Shards()
	if h.code.Data == 1 { // replicas share the bytes
		copies = 1
	}
	all := make([]byte, n*copies+int(count)*seal.HeaderBytes)
	m := new(runMemory)
	m.write = stripe.Write{Kind: stripe.RecordData, Region: region, First: first, Count: count, Version: v, ShardBytes: uint32(shard),
		Seals: all[n*copies:], Shards: m.shards[:0]}
	for i := range h.code.Shards() {
		at := i % copies * n
		m.write.Shards = append(m.write.Shards, all[at:at+n:at+n])
	}
	m.run = Run{h, &m.write}
	return &m.run
}

// runMemory is a run with what it consists of, in one piece where the code has few shards.
type runMemory struct {
	run    Run
	write  stripe.Write
	shards [4][]byte
}

// Version is the one that the run is sealed under.
func (r *Run) Version() blocktree.Version { return r.write.Version }

// Seal is the place of the i-th sector's seal.
func (r *Run) Seal(i int) []byte {
	return r.write.Seals[i*seal.HeaderBytes : (i+1)*seal.HeaderBytes : (i+1)*seal.HeaderBytes]
}

// Parts appends the places of the i-th sealed sector in the data shards to parts: one after the other they hold it, and what the
// last has room for beyond that is zero.
func (r *Run) Parts(i int, parts [][]byte) [][]byte {
	return sectorParts(parts, r.write.Shards[:r.handle.code.Data], i, int(r.write.ShardBytes))
}

// sectorParts appends the i-th n bytes of each shard to parts.
func sectorParts(parts, shards [][]byte, i, n int) [][]byte {
	for _, s := range shards {
		parts = append(parts, s[i*n:(i+1)*n:(i+1)*n])
	}
	return parts
}

// Write computes the parity of a run and stores it. The run belongs to the handle from now on.
func (h *Handle) Write(r *Run) *Write {
	o := &operation{ended: make(chan struct{})}
	h.store(r, o)
	return &Write{o}
}

// StartWrite is Write with a function instead of Wait: done is called once at the end, maybe before StartWrite returns, and must
// not block.
func (h *Handle) StartWrite(r *Run, done func(error)) {
	o := new(operation)
	o.then = func() { done(o.err) }
	h.store(r, o)
}

func (h *Handle) store(r *Run, o *operation) {
	w := r.write
	w.Digest = digestOf(w.Seals)
	if h.code.Data > 1 {
		if err := h.codec.Encode(w.Shards); err != nil {
			h.enter()
			h.holder.Cancel(w.Region, w.Version)
			h.leave()
			o.err = err
			o.end()
			return
		}
	}
	h.start(o, func(op uint64) { h.holder.Write(op, w) })
}

// Write is a write in flight.
type Write struct{ op *operation }

// Wait blocks until the write is acknowledged or has failed, or ctx ends; then the outcome is unknown.
func (w *Write) Wait(ctx context.Context) error { return w.op.wait(ctx) }
