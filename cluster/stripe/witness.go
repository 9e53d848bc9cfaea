package stripe

import (
	"math/bits"
	"time"

	"blocktree"
)

// witnesses let a holder's reads complete while Raft is away (docs/design/0013). If every member of a region says, after a read of
// it was done, that it goes by the holder's epoch still, then no later holder had been told by all it needs, and none had
// acknowledged anything.
type witnesses struct {
	asking bool   // Raft did not confirm in time, and has not since
	said   uint64 // number of the newest read that waits
}

// witnessAfter is how long Raft is given before the members are asked.
func (h *Holder) witnessAfter() time.Duration { return h.memberTimeout / 4 }

// tickWitnesses asks the members once Raft has been silent for too long, and again those that did not answer well.
func (h *Holder) tickWitnesses() {
	if len(h.held) == 0 {
		return
	}
	if h.now-h.held[0].at >= h.witnessAfter() {
		h.witnesses.asking = true
	}
	h.askWitnesses()
	h.releaseWitnessed() // those that said nothing may have left
}

// askWitnesses asks every member that has not spoken since the newest read of its region was done.
func (h *Holder) askWitnesses() {
	for i := range h.held {
		h.askWitnessesOf(&h.held[i])
	}
}

// askWitnessesOf asks those that have not spoken since one read was done, each one thing at a time.
func (h *Holder) askWitnessesOf(x *heldRead) {
	if !h.witnesses.asking {
		return
	}
	r := h.region(x.r.region)
	for to := r.all; to != 0; to &= to - 1 {
		p := r.members[bits.TrailingZeros32(to)]
		if p.witnessed >= x.number || p.witness != nil && !p.witness.gone || !p.up {
			continue
		}
		m := h.message(KindLearn, p)
		m.Seq = 0 // it need not know our newest view
		p.witness = &call{peer: p, owner: witnessCall{h, h.witnesses.said}, msg: m}
		h.post(p.witness)
	}
}

// witnessCall owns a question to a witness: its answer stands for all reads up to a number.
type witnessCall struct {
	h  *Holder
	to uint64
}

func (q witnessCall) onSlow(*call) {}

func (q witnessCall) onAnswer(c *call, a *Message) {
	if a.Err != blocktree.Other {
		return // asked again at the next Tick
	}
	c.peer.witnessed = max(c.peer.witnessed, q.to)
	q.h.releaseWitnessed()
	q.h.askWitnesses()
}

// releaseWitnessed completes the reads that every member of their region has spoken for.
func (h *Holder) releaseWitnessed() {
	keep := h.held[:0]
	for _, x := range h.held {
		if !h.spokenFor(&x) {
			keep = append(keep, x)
			continue
		}
		h.stats.Witnessed++
		h.stats.ReadsDone++
		h.done(x.r.op, blocktree.Other, x.result)
	}
	clear(h.held[len(keep):])
	h.held = keep
}

func (h *Holder) spokenFor(x *heldRead) bool {
	r := h.region(x.r.region)
	spoken := 0
	for to := r.all; to != 0; to &= to - 1 {
		p := r.members[bits.TrailingZeros32(to)]
		if p.witnessed >= x.number || h.mut == mutWitnessEarly && p.witnessed > 0 {
			spoken++
		}
	}
	return spoken == bits.OnesCount32(r.all) || h.mut == mutWitnessSome && spoken >= h.layout.Code.Data
}
