package sim

import (
	"blocktree"
	"blocktree/cluster/stripe"
)

// read looks up the store for a request that the member passed, at once or some time later.
func (n *node) read(t stripe.ReadTask) {
	if !n.w.prof.lateReads || n.w.quiet {
		n.lookUp(t)
		return
	}
	n.w.q.push(event{at: n.w.now + n.w.delay(), kind: evRead, who: n.idx, gen: n.gen, fn: func() { n.lookUp(t) }})
}

func (n *node) lookUp(t stripe.ReadTask) {
	q := t.Request
	f := n.w.meta.fileOf(q.File)
	n.w.checkMayRead(n, f, q)
	l := n.w.meta.known(f, n.applied) // there is one: the member goes by it
	var a answer
	err := blocktree.Other
	switch {
	case n.disk.cannotRead(f, q):
		err = blocktree.Corrupt
		n.w.count.Unreadable++
	case q.Kind == stripe.KindList:
		n.list(&a, f, &t)
	case q.Kind == stripe.KindDigest:
		n.digest(&a, f, l, &t)
	case q.Want == stripe.WantExact && len(t.Pending) > 0:
		n.exact(&a, t.Pending[0], q)
	default:
		end := q.First + blocktree.SectorIndex(q.Count)
		if q.Want == stripe.WantZeros {
			end = min(end, q.First+zerosMost)
			a.next = end
		}
		for s := q.First; s < end; s++ {
			x := n.disk.index[f][s]
			if q.Want == stripe.WantExact && x.version != q.Version {
				continue
			}
			n.take(&a, s, x, q.Want != stripe.WantVersions)
		}
	}
	m := t.Answer(n.id, a.extents, a.payload, a.seals, a.next, err)
	n.notice(m)
	n.answer(m)
}

// answer is what a look-up has gathered.
type answer struct {
	extents        []stripe.Extent
	payload, seals []byte
	next           blocktree.SectorIndex
}

// listMost is how many extents one answer to a KindList has here, so that lists take several.
const listMost = 3

func (n *node) list(a *answer, file int, t *stripe.ReadTask) {
	q := t.Request
	a.next = q.First + blocktree.SectorIndex(q.Count)
	for s := q.First; s < a.next; s++ {
		x := n.placed(file, s, t)
		if len(a.extents) == listMost && !a.continues(s, x) {
			a.next = s
			return
		}
		if !x.version.IsZero() {
			n.take(a, s, x, false)
		}
	}
}

// placed is what the index says of a sector, Damaged where it has another member's shard.
func (n *node) placed(file int, s blocktree.SectorIndex, t *stripe.ReadTask) indexed {
	x := n.disk.index[file][s]
	if !x.version.IsZero() {
		x.kind = t.Place(stripe.Extent{Kind: x.kind}, n.disk.log[x.at].rec.Shard).Kind
	}
	return x
}

// cannotRead reports whether a request meets a damaged page of the index.
func (d *disk) cannotRead(file int, q *stripe.Message) bool {
	at, bad := d.unreadable[regionKey{file, q.Region}]
	count := q.Count
	if q.Kind == stripe.KindDigest {
		count *= digestMost
	}
	return bad && at >= q.First && uint64(at) < uint64(q.First)+count
}

// digestMost is how many blocks one answer to a KindDigest covers here, so that a region takes several.
const digestMost = 2

func (n *node) digest(a *answer, file int, l *stripe.Layout, t *stripe.ReadTask) {
	q := t.Request
	first, count := l.Run(q.Region)
	a.next = min(first+blocktree.SectorIndex(count), q.First+blocktree.SectorIndex(digestMost*q.Count))
	d := t.Digester()
	for s := q.First; s < a.next; s++ {
		x := n.placed(file, s, t)
		d.Add(stripe.Extent{First: s, Count: 1, Version: x.version, Kind: x.kind})
	}
	a.payload = d.Finish(a.next)
}

// continues reports whether sector s belongs to the last extent.
func (a *answer) continues(s blocktree.SectorIndex, x indexed) bool {
	if len(a.extents) == 0 {
		return false
	}
	e := &a.extents[len(a.extents)-1]
	return e.First+blocktree.SectorIndex(e.Count) == s && e.Version == x.version && e.Kind == x.kind && e.Digest == x.digest
}

// take adds one committed sector.
func (n *node) take(a *answer, s blocktree.SectorIndex, x indexed, shards bool) {
	if x.kind == stripe.Data && (n.disk.log[x.at].damaged || n.disk.log[x.at].lost) && shards {
		n.w.count.DamageSeen++
		x.kind = stripe.Damaged
	}
	if a.continues(s, x) {
		a.extents[len(a.extents)-1].Count++
	} else {
		a.extents = append(a.extents, stripe.Extent{First: s, Count: 1, Version: x.version, Kind: x.kind, Digest: x.digest})
	}
	if shards && x.kind == stripe.Data {
		a.bytesOf(n.disk.log[x.at].rec, s, 1)
	}
}

func (a *answer) bytesOf(r *stripe.Record, s blocktree.SectorIndex, count int) {
	i := int(s - r.First)
	a.payload = append(a.payload, r.Payload[i*shardBytes:(i+count)*shardBytes]...)
	a.seals = append(a.seals, r.Seals[i*stripe.SealBytes:(i+count)*stripe.SealBytes]...)
}

// exact answers with a pending record, clipped to what was asked for.
func (n *node) exact(a *answer, h *stripe.Held, q *stripe.Message) {
	e := h.Extent(false)
	first, end := max(e.First, q.First), min(e.First+blocktree.SectorIndex(e.Count), q.First+blocktree.SectorIndex(q.Count))
	if first >= end {
		return
	}
	e.First, e.Count = first, uint32(end-first)
	at := posOf(h.Ref)
	if e.Kind == stripe.Data && (n.disk.log[at].damaged || n.disk.log[at].lost) {
		n.w.count.DamageSeen++
		e.Kind = stripe.Damaged
	}
	a.extents = append(a.extents, e)
	if e.Kind == stripe.Data {
		a.bytesOf(n.disk.log[at].rec, first, int(e.Count))
	}
}

// damage spoils a stored shard, if all members of its region are in sync and nothing else is spoilt: the code could
// not bear more in every state that the world goes through.
func (n *node) damage() {
	w := n.w
	if s := w.spoilt; s != nil && s.node.disk.index[s.file][s.sector].at != s.at {
		w.mend() // the record is mended, overwritten or lost with its disk: spoil another one
	}
	if w.spoilt != nil || !n.up || len(w.liars.nodes) > 0 {
		return
	}
	f := w.rnd.IntN(len(w.meta.files))
	l := w.meta.files[f].layout
	s := blocktree.SectorIndex(w.rnd.IntN(int(l.Sectors)))
	x := n.disk.index[f][s]
	v := l.View(l.RegionOf(s))
	if x.kind != stripe.Data || v.Count(stripe.InSync) != len(v.Members) || l.Code.Parity == 0 {
		return
	}
	w.spoilt = &spoilt{node: n, file: f, sector: s, at: x.at}
	e := &n.disk.log[x.at]
	e.damaged = true
	for i := range e.rec.Count {
		w.damaged[sectorKey{f, e.rec.First + blocktree.SectorIndex(i)}] = true
	}
	w.count.Damaged++
}

// damagedIn reports whether a shard of what an operation reads was ever damaged.
func (w *World) damagedIn(o *op) bool {
	for s := o.first; s < o.first+blocktree.SectorIndex(o.count); s++ {
		if w.damaged[sectorKey{o.file, s}] {
			return true
		}
	}
	return false
}

type sectorKey struct {
	file   int
	sector blocktree.SectorIndex
}

// spoilt is the one shard that fails its checksum.
type spoilt struct {
	node   *node
	file   int
	sector blocktree.SectorIndex
	at     int // in the log
}
