package cluster

import (
	"errors"
	"sync"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
)

// readTask is a read of the machine with what the index said at that moment. The disk is read later, without the
// member's lock: a record that was overwritten meanwhile may be gone, and then the index is asked again.
type readTask struct {
	stripe.ReadTask
	to        asked
	committed []store.Extent
	next      blocktree.SectorIndex // KindList, KindDigest, WantZeros: where to go on
	digests   []byte
	err       error
}

// lookup asks the index for what a read wants. The member's lock is held.
func (m *member) lookup(t *stripe.ReadTask) readTask {
	r := readTask{ReadTask: *t, to: m.take(t.Request.ID)}
	q := t.Request
	switch {
	case q.Kind == stripe.KindList:
		r.list(m)
	case q.Kind == stripe.KindDigest:
		r.digest(m)
	case q.Want == stripe.WantZeros:
		r.committed, r.next, r.err = m.store.Zeros(q.File, q.First, uint32(q.Count), stripe.ZerosExtentsMax, zerosPagesMax)
	case q.Want == stripe.WantExact && len(t.Pending) == 1:
		r.committed = pendingExtent(t.Pending[0], q)
	default:
		r.committed, r.err = m.store.Lookup(q.File, q.First, uint32(q.Count), nil)
		if q.Want == stripe.WantExact {
			r.keepVersion(q.Version)
		}
	}
	return r
}

// keepVersion drops what is of another version than was asked for.
func (r *readTask) keepVersion(v blocktree.Version) {
	kept := r.committed[:0]
	for _, x := range r.committed {
		if x.Version == v && x.Content != store.Absent {
			kept = append(kept, x)
		}
	}
	r.committed = kept
}

// pendingExtent is the part of a pending record that a read asks for.
func pendingExtent(h *stripe.Held, q *stripe.Message) []store.Extent {
	x := storeExtent(h)
	first := max(q.First, x.First)
	end := min(uint64(q.First)+q.Count, uint64(x.First)+uint64(x.Count))
	if uint64(first) >= end {
		return nil
	}
	return []store.Extent{x.Sub(uint32(first-x.First), uint32(end-uint64(first)))}
}

// A list or digest looks at no more than listSectorsMax sectors, listStepSectors at a time, so that it neither holds up the member for
// long nor gathers what does not fit its answer.
const (
	listSectorsMax  = stripe.DigestSectorsMax
	listStepSectors = 1 << 10
)

// zerosPagesMax is how many pages of the index an answer to WantZeros looks at; what has no page costs nothing.
const zerosPagesMax = 64

// list collects the extents that hold anything, from First on.
func (r *readTask) list(m *member) {
	end := r.Request.First + blocktree.SectorIndex(min(r.Request.Count, listSectorsMax))
	r.look(m, end, func(x store.Extent) bool {
		if r.extendLast(x) {
			return true
		}
		if len(r.committed) == stripe.ExtentsMax {
			return false
		}
		r.committed = append(r.committed, x)
		return true
	})
}

// digest makes the digests of the blocks from First on.
func (r *readTask) digest(m *member) {
	q := r.Request
	l := m.machine.Layout(q.File)
	if l == nil {
		r.err = blocktree.E("cluster: digest", blocktree.NotFound, nil)
		return
	}
	first, count := l.Run(q.Region)
	blocks := max(1, stripe.DigestSectorsMax/q.Count)
	d := r.Digester()
	r.look(m, min(first+blocktree.SectorIndex(count), q.First+blocktree.SectorIndex(blocks*q.Count)), func(x store.Extent) bool {
		d.Add(r.worth(m, x))
		return true
	})
	r.digests = d.Finish(r.next)
}

// worth is what a list or digest says of an extent: a shard whose file is gone or cut short is as good as none. Whether the bytes are
// good only reading them tells.
func (r *readTask) worth(m *member, x store.Extent) stripe.Extent {
	out := r.Place(stripeExtent(x), x.Ref.Shard)
	if out.Kind == stripe.Data && !m.store.Holds(x.Ref) {
		out.Kind = stripe.Damaged
	}
	return out
}

// look gives f what the index has from First to end, until f says no; next is where that was.
func (r *readTask) look(m *member, end blocktree.SectorIndex, f func(store.Extent) bool) {
	var found []store.Extent
	for r.next = r.Request.First; r.next < end; {
		n := min(end-r.next, listStepSectors)
		if found, r.err = m.store.Lookup(r.Request.File, r.next, uint32(n), found[:0]); r.err != nil {
			return
		}
		for _, x := range found {
			if x.Content != store.Absent && !f(x) {
				r.next = x.First
				return
			}
		}
		r.next += n
	}
}

// extendLast makes x part of the last extent if it goes on where that ends: one version of consecutive sectors is one run.
func (r *readTask) extendLast(x store.Extent) bool {
	if len(r.committed) == 0 {
		return false
	}
	last := &r.committed[len(r.committed)-1]
	if last.First+blocktree.SectorIndex(last.Count) != x.First || last.Version != x.Version || last.Content != x.Content ||
		last.Ref != x.Ref || x.Content == store.Data && last.Index+last.Count != x.Index {
		return false
	}
	last.Count += x.Count
	return true
}

// payloads are buffers for the shards of small answers, which bttp copies before Reply returns or releases after.
var payloads = sync.Pool{New: func() any { return new([]byte) }}

// read reads the shards that are asked for and answers.
func (m *member) read(r *readTask) {
	if r.err != nil {
		m.answer(r.to, r.Answer(m.node, nil, nil, nil, 0, blocktree.KindOf(r.err)), nil)
		return
	}
	q := r.Request
	switch {
	case q.Kind == stripe.KindList:
		xs := make([]stripe.Extent, len(r.committed))
		for i, x := range r.committed {
			xs[i] = r.worth(m, x)
		}
		m.answer(r.to, r.Answer(m.node, xs, nil, nil, r.next, blocktree.Other), nil)
		return
	case q.Kind == stripe.KindDigest:
		m.answer(r.to, r.Answer(m.node, nil, r.digests, nil, r.next, blocktree.Other), nil)
		return
	case q.Want == stripe.WantVersions, q.Want == stripe.WantZeros:
		m.answer(r.to, r.Answer(m.node, stripeExtents(r.committed), nil, nil, r.next, blocktree.Other), nil)
		return
	}
	buf := payloads.Get().(*[]byte)
	extents, payload, seals, err := m.readShards(r, buf)
	if err != nil {
		payloads.Put(buf)
		m.answer(r.to, r.Answer(m.node, nil, nil, nil, 0, blocktree.KindOf(err)), nil)
		return
	}
	m.sent.add(len(seals)/stripe.SealBytes, len(payload))
	m.answer(r.to, r.Answer(m.node, extents, payload, seals, 0, blocktree.Other), func() { payloads.Put(buf) })
}

func stripeExtents(xs []store.Extent) []stripe.Extent {
	out := make([]stripe.Extent, len(xs))
	for i := range xs {
		out[i] = stripeExtent(xs[i])
	}
	return out
}

// readShards reads every Data extent. Sectors whose checksum fails become extents of kind Damaged without a shard.
func (m *member) readShards(r *readTask, buf *[]byte) (extents []stripe.Extent, payload, seals []byte, err error) {
	extents, payload, seals, err = m.readOnce(r, buf)
	if blocktree.KindOf(err) == blocktree.NotFound {
		// It was overwritten, or the region was forgotten to be copied up anew: only the machine can tell whether the asker
		// may still be answered, so it is asked again.
		return nil, nil, nil, blocktree.E("cluster: read", blocktree.Busy, err)
	}
	return extents, payload, seals, err
}

func (m *member) readOnce(r *readTask, buf *[]byte) (extents []stripe.Extent, payload, seals []byte, err error) {
	payloadBytes, sectors := 0, 0
	for _, x := range r.committed {
		if x.Content == store.Data {
			payloadBytes += int(x.Count) * int(x.Ref.ShardBytes)
			sectors += int(x.Count)
		}
	}
	need := payloadBytes + sectors*stripe.SealBytes
	if need > blocktree.FrameBodyBytesMax {
		return nil, nil, nil, blocktree.E("cluster: read", blocktree.TooLarge, nil)
	}
	if cap(*buf) < need {
		*buf = make([]byte, need)
	}
	payload, seals = (*buf)[:0:payloadBytes], (*buf)[payloadBytes:payloadBytes:need]
	extents = make([]stripe.Extent, 0, len(r.committed))
	for _, x := range r.committed {
		if x.Content != store.Data {
			extents = append(extents, stripeExtent(x))
			continue
		}
		p := payload[len(payload) : len(payload)+int(x.Count)*int(x.Ref.ShardBytes)]
		s := seals[len(seals) : len(seals)+int(x.Count)*stripe.SealBytes]
		err := m.store.ReadShards(r.Request.File, x, p, s)
		var damage *store.Damage
		switch {
		case err == nil:
			extents = append(extents, stripeExtent(x))
			payload, seals = payload[:len(payload)+len(p)], seals[:len(seals)+len(s)]
		case errors.As(err, &damage):
			m.damaged(*damage)
			extents, payload, seals = keepGood(x, damage, extents, payload, seals, p, s)
		default:
			return nil, nil, nil, err
		}
	}
	return extents, payload, seals, nil
}

// keepGood appends the sectors of x that are good and names the others Damaged. p and s hold what was read, and lie
// right behind payload and seals.
func keepGood(x store.Extent, damage *store.Damage, extents []stripe.Extent, payload, seals, p, s []byte) ([]stripe.Extent, []byte, []byte) {
	bad := map[blocktree.SectorIndex]bool{}
	for _, i := range damage.Sectors {
		bad[i] = true
	}
	shard := int(x.Ref.ShardBytes)
	for i := range x.Count {
		one := stripeExtent(x.Sub(i, 1))
		if bad[one.First] {
			one.Kind = stripe.Damaged
		} else {
			payload = append(payload, p[int(i)*shard:int(i+1)*shard]...)
			seals = append(seals, s[int(i)*stripe.SealBytes:int(i+1)*stripe.SealBytes]...)
		}
		extents = append(extents, one)
	}
	return extents, payload, seals
}
