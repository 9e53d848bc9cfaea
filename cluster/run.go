package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
)

// Run is a run of sectors on its way to the members. Whoever seals puts the sealed sectors in one by one, while they are in
// the processor's cache: each is cut into its shards at once, and no second copy of the run is made.
type Run struct {
	handle *Handle
	write  *stripe.Write
}

// NewRun begins a run of count sectors, at most RunSectorsMax, of one region under a version from Begin. Every sector is
// put in once, its seal filled, and then the run is given to Write.
func (h *Handle) NewRun(region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32, v blocktree.Version) *Run {
	shard := h.code.ShardBytes(int(h.inode.SectorBytes))
	w := &stripe.Write{Kind: stripe.RecordData, Region: region, First: first, Count: count, Version: v, ShardBytes: uint32(shard),
		Seals: make([]byte, int(count)*seal.HeaderBytes), Shards: make([][]byte, h.code.Shards())}
	n := int(count) * shard
	if h.code.Data == 1 { // replicas share the bytes
		all := make([]byte, n)
		for i := range w.Shards {
			w.Shards[i] = all
		}
		return &Run{h, w}
	}
	all := make([]byte, n*len(w.Shards))
	for i := range w.Shards {
		w.Shards[i] = all[i*n : (i+1)*n : (i+1)*n]
	}
	return &Run{h, w}
}

// Seal is the place of the i-th sector's seal.
func (r *Run) Seal(i int) []byte {
	return r.write.Seals[i*seal.HeaderBytes : (i+1)*seal.HeaderBytes : (i+1)*seal.HeaderBytes]
}

// Put cuts the i-th sealed sector into its data shards, the last of which is padded with zeros. sealed is not kept.
func (r *Run) Put(i int, sealed []byte) {
	n := int(r.write.ShardBytes)
	for s := range r.handle.code.Data {
		piece := sealed[min(s*n, len(sealed)):min((s+1)*n, len(sealed))]
		copy(r.write.Shards[s][i*n:(i+1)*n], piece)
	}
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
