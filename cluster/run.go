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
	m := new(runMemory)
	all := h.runBytes(m, n*copies+int(count)*seal.HeaderBytes)
	m.write.Kind, m.write.Region, m.write.First, m.write.Count, m.write.Version = stripe.RecordData, region, first, count, v
	m.write.ShardBytes, m.write.Seals, m.write.Shards = uint32(shard), all[n*copies:], m.shards[:0]
	for i := range h.code.Shards() {
		at := i % copies * n
		m.write.Shards = append(m.write.Shards, all[at:at+n:at+n])
	}
	m.run = Run{h, &m.write}
	return &m.run
}

// runBytes returns n bytes for a run, with anything in them: they are filled wholly, padding and parity too.
func (h *Handle) runBytes(m *runMemory, n int) []byte {
	b := h.client.runs.get(n)
	if b == nil {
		return make([]byte, n)
	}
	m.pool, m.bytes, m.write.Memory = &h.client.runs, b, m
	m.users.Store(1)
	return b.bytes[:n]
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
			releaseRun(w)
			o.err = err
			o.end()
			return
		}
	}
	if !h.start(o, func(op uint64) { h.holder.Write(op, w) }) {
		releaseRun(w)
	}
}

// Write is a write in flight.
type Write struct{ op *operation }

// Wait blocks until the write is acknowledged or has failed, or ctx ends; then the outcome is unknown.
func (w *Write) Wait(ctx context.Context) error { return w.op.wait(ctx) }
