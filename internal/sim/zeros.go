package sim

import (
	"math/rand/v2"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/history"
)

// zerosMost is how many sectors one answer to a question for zeros covers here, so that some end early.
const zerosMost = 4

// zeroClaim is a sector that somebody was told is zeros.
type zeroClaim struct {
	sector    blocktree.SectorIndex
	call, ret int64
}

// zeroAsks is the luck of questions for zeros: one world in eight has them, in place of reads. The others are as they would be without.
type zeroAsks struct {
	luck *rand.Rand
	on   bool
}

func newZeroAsks(seed uint64) zeroAsks {
	z := zeroAsks{luck: rand.New(rand.NewPCG(seed, 0x30cb))}
	z.on = z.luck.Float64() < 0.125
	return z
}

// maybeZeros makes of some reads a question where the run is zeros. That may be as long as its region, where a read may not.
func (w *World) maybeZeros(o *op) *op {
	if !w.asks.on || w.asks.luck.Float64() < 0.4 {
		return o
	}
	o.zeros = true
	if w.asks.luck.Float64() < 0.5 {
		first, n := w.meta.files[o.file].layout.Run(o.region)
		o.count = uint32(uint64(first) + n - uint64(o.first))
	}
	return o
}

// recordZeros checks what was said, and keeps it for the end: who was told that a sector is zeros could have read zeros.
func (w *World) recordZeros(c *client, o *op, res *stripe.ReadResult) {
	t := w.tick()
	next := o.first
	w.history(o.file, o.era, o.first) // there is one
	e := &w.eras[o.file][o.era]
	for i, p := range res.Pieces {
		if p.First != next || p.Count == 0 || !p.Version.IsZero() || p.Shards != nil || p.Kind != stripe.Zero && p.Kind != stripe.Data ||
			i > 0 && p.Kind == res.Pieces[i-1].Kind {
			w.fail("zeros", "client %d op %d: piece %+v where one from %d was expected", c.idx, o.id, p, next)
		}
		for range p.Count {
			if p.Kind == stripe.Zero {
				e.zeros = append(e.zeros, zeroClaim{next, o.call, t})
				w.count.ZeroSectors++
			}
			next++
		}
	}
	if next == o.first || next > o.first+blocktree.SectorIndex(o.count) {
		w.fail("zeros", "client %d op %d: %d+%d is told of to %d", c.idx, o.id, o.first, o.count, next)
	}
	if c.reader {
		w.checkQuorum(c, o)
		w.checkNewest(c, o)
	} else {
		w.checkLease(c, o)
	}
	w.count.ZeroReads++
}

// checkZeros demands of each claim that a read in its place could have returned zeros of some kind: never written, or of a write
// of zeros.
func (w *World) checkZeros() {
	for f := range w.eras {
		for n := range w.eras[f] {
			e := &w.eras[f][n]
			for _, z := range e.zeros {
				h := slices.Clone(w.liars.without(e.history(n, int(z.sector))))
				if w.doomedZeros(f, z.sector) {
					continue
				}
				if could := func(value uint32) bool {
					return append(h, history.Op{Call: z.call, Ret: z.ret, Value: value}).Atomic()
				}; !could(0) && !slices.ContainsFunc(w.writes, func(x *write) bool {
					return x.zero && x.file == f && z.sector >= x.first && z.sector < x.first+blocktree.SectorIndex(x.count) && could(x.value)
				}) {
					w.fail("zeros are zeros", "file %d sector %d: said so between %d and %d", f, z.sector, z.call, z.ret)
				}
			}
		}
	}
}
