package sim

import (
	"encoding/binary"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// lie is one way of not keeping promises.
type lie uint8

const (
	lieBytes      lie = iota + 1 // random bytes
	lieElsewhere                 // another sector's shard
	lieOldShard                  // an old shard under the new header
	lieOldVersion                // an old version, with what belongs to it
	lieLeaf                      // made-up bytes, with a leaf that fits them
	lieAbsent
	lieZero      // zeros under the right version
	lieZeroNewer // zeros under a newer one
	lieTooHigh   // a version that nobody gave out
	lieDeny      // it holds nothing that is in flight
	lieHold      // it holds what it does not, or what nobody wrote
	lieCommitted // what is in flight is committed
	lieDamaged
	lieNonsense
	lieFeign  // answers, and does nothing
	lieList   // in lists and digests of copy-up
	lieFence  // in answers to a fence: denies
	lieFloor  // likewise: has a higher watermark
	lieClaim  // likewise: holds what it does not
	lieBabble // likewise: nonsense
	lieRefuse // refuses
	lieEnd
)

func (k lie) String() string {
	return [...]string{"nothing", "bytes", "elsewhere", "old shard", "old version", "leaf", "absent", "zero", "zero, newer", "too high", "deny", "hold", "committed",
		"damaged", "nonsense", "feign", "list", "fence", "floor", "claim", "babble", "refuse"}[k]
}

// refusals are errors that a member may answer with.
var refusals = []blocktree.Kind{blocktree.Busy, blocktree.Recovering, blocktree.StaleView, blocktree.Corrupt, blocktree.Unavailable}

// feign answers a request without doing what it asks. It reports whether it did.
func (n *node) feign(m *stripe.Message, c *client, gen int) bool {
	if !n.lies(c) || n.liar.lie != lieFeign || n.liar.leaves>>m.Kind&1 == 0 {
		return false
	}
	a := &stripe.Message{Kind: m.Kind, Answer: true, ID: m.ID, Node: n.id, File: m.File, Region: m.Region, Epoch: m.Epoch, View: m.View, Seq: m.Seq, Version: m.Version}
	switch m.Kind {
	case stripe.KindRead, stripe.KindList, stripe.KindDigest:
		return false
	case stripe.KindCommit:
		n.w.count.lied(lieFeign)
		return true
	case stripe.KindFence:
		a.Last = true
	case stripe.KindPrepare, stripe.KindInstall:
		a.Version = m.Record.Version
	case stripe.KindReset, stripe.KindAbort:
		a.Held = n.w.liars.luck.Float64() < 0.5
	}
	n.w.count.lied(lieFeign)
	n.w.toClient(n, c, gen, a)
	return true
}

// speak makes of an answer what a liar makes of it.
func (n *node) speak(c *client, a *stripe.Message) *stripe.Message {
	if !n.lies(c) {
		return a
	}
	x := n.liar.lie
	if x == lieRefuse && a.Err == blocktree.Other && a.Kind != stripe.KindPrepare {
		n.w.count.lied(x)
		return &stripe.Message{Kind: a.Kind, Answer: true, ID: a.ID, Node: a.Node, File: a.File, Region: a.Region, Epoch: a.Epoch, View: a.View, Seq: a.Seq,
			Version: a.Version, Err: n.liar.err}
	}
	if a.Err != blocktree.Other {
		return a
	}
	out := *a
	lied := false
	switch a.Kind {
	case stripe.KindRead:
		lied = n.lieOfRead(x, &out)
	case stripe.KindList, stripe.KindDigest, stripe.KindReset:
		lied = x == lieList && n.lieOfList(&out)
	case stripe.KindFence:
		lied = n.lieOfFence(x, &out)
	}
	if lied {
		n.w.count.lied(x)
	}
	return &out
}

// told is what an answer says of one sector.
type told struct {
	version blocktree.Version
	kind    stripe.ExtentKind
	payload []byte
	seals   []byte
}

// sectorsOf is what an answer to a read says of each sector that is committed (or asked for exactly).
func sectorsOf(a *stripe.Message) map[blocktree.SectorIndex]told {
	out, at := map[blocktree.SectorIndex]told{}, 0
	for _, x := range a.Extents {
		if x.Pending && a.Want != stripe.WantExact {
			continue
		}
		for i := range x.Count {
			t := told{version: x.Version, kind: x.Kind}
			if x.Kind == stripe.Data && len(a.Payload) >= (at+1)*shardBytes {
				t.payload, t.seals = a.Payload[at*shardBytes:(at+1)*shardBytes], a.Seals[at*stripe.SealBytes:(at+1)*stripe.SealBytes]
				at++
			}
			out[x.First+blocktree.SectorIndex(i)] = t
		}
	}
	return out
}

// retell gives an answer other sectors. What is pending stays.
func retell(a *stripe.Message, f func(blocktree.SectorIndex, told) told) {
	was := sectorsOf(a)
	var pending []stripe.Extent
	for _, x := range a.Extents {
		if x.Pending && a.Want != stripe.WantExact {
			pending = append(pending, x)
		}
	}
	a.Extents, a.Payload, a.Seals = nil, nil, nil
	for s := a.First; s < a.First+blocktree.SectorIndex(a.Count); s++ {
		old, there := was[s]
		if !there && a.Want == stripe.WantExact {
			continue
		}
		t := f(s, old)
		if a.Want == stripe.WantExact && (t.version != a.Version || t.kind == stripe.Absent) {
			continue
		}
		a.Extents = append(a.Extents, stripe.Extent{First: s, Count: 1, Version: t.version, Kind: t.kind})
		if t.kind == stripe.Data && a.Want != stripe.WantVersions {
			a.Payload = append(a.Payload, fill(t.payload, shardBytes)...)
			a.Seals = append(a.Seals, fill(t.seals, stripe.SealBytes)...)
		}
	}
	a.Extents = append(a.Extents, pending...)
}

func fill(b []byte, n int) []byte { return append(slices.Clone(b), make([]byte, n-len(b))...) }

// lieOfRead changes an answer to a read, and reports whether it did.
func (n *node) lieOfRead(x lie, a *stripe.Message) bool {
	luck := n.w.liars.luck
	if a.Want == stripe.WantZeros {
		if x != lieZero && x != lieAbsent && x != lieZeroNewer {
			return false
		}
		a.Extents = []stripe.Extent{{First: a.First, Count: uint32(a.Next - a.First), Kind: stripe.Zero}}
		return a.Next > a.First
	}
	switch x {
	case lieDeny, lieHold, lieCommitted:
		return n.lieOfPending(x, a)
	case lieNonsense:
		switch luck.IntN(3) {
		case 0:
			a.Extents = []stripe.Extent{{First: a.First + 1, Count: 1 << 30, Version: blocktree.Version{Epoch: 1, Sequence: 1}, Kind: stripe.Data}}
		case 1:
			a.Extents = nil
			if a.Want == stripe.WantExact {
				a.Payload = []byte{1}
			}
		case 2:
			a.Extents = append(slices.Clone(a.Extents), stripe.Extent{First: a.First, Count: 1, Kind: 200, Version: blocktree.Version{Epoch: 1, Sequence: 1}})
		}
		return true
	}
	lied := false
	retell(a, func(s blocktree.SectorIndex, t told) told {
		new := n.sectorLie(x, a, s, t)
		lied = lied || new.version != t.version || new.kind != t.kind || string(new.payload) != string(t.payload)
		return new
	})
	return lied
}

// sectorLie is what a lie makes of one sector.
func (n *node) sectorLie(x lie, a *stripe.Message, s blocktree.SectorIndex, t told) told {
	luck, file := n.w.liars.luck, n.w.meta.fileOf(a.File)
	made := func() told {
		value := luck.Uint32()>>2 + 1
		shard, seals := encode(n.w.cfg.Code, value, s, 1)
		return told{t.version, stripe.Data, shard[luck.IntN(len(shard))], seals}
	}
	switch x {
	case lieBytes:
		if t.payload != nil {
			t.payload = binary.BigEndian.AppendUint32(nil, luck.Uint32())
		}
	case lieElsewhere:
		if y := blocktree.SectorIndex(luck.IntN(len(n.disk.index[file]))); t.payload != nil && n.disk.index[file][y].kind == stripe.Data {
			t.payload, t.seals = n.kept(n.disk.index[file][y].at, y)
		}
	case lieOldShard:
		if at := n.older(file, s, t.version); t.payload != nil && at >= 0 {
			t.payload, t.seals = n.kept(at, s)
		}
	case lieOldVersion:
		if at := n.older(file, s, t.version); at >= 0 && t.kind != stripe.Absent {
			t = told{version: n.disk.log[at].rec.Version, kind: stripe.Data}
			t.payload, t.seals = n.kept(at, s)
		}
	case lieLeaf:
		if t.payload != nil {
			t = made()
		}
	case lieAbsent:
		t = told{}
	case lieZero, lieZeroNewer:
		if x == lieZeroNewer || t.version.IsZero() {
			t.version = blocktree.Version{Epoch: max(t.version.Epoch, 1), Sequence: t.version.Sequence + 1}
		}
		t = told{version: t.version, kind: stripe.Zero}
	case lieTooHigh:
		v := blocktree.Version{Epoch: max(t.version.Epoch, 1), Sequence: t.version.Sequence + 1000}
		if luck.Float64() < 0.5 {
			v = blocktree.Version{Epoch: a.Epoch + 1, Sequence: 1}
		}
		t = made()
		t.version = v
	case lieDamaged:
		if t.payload != nil {
			t = told{version: t.version, kind: stripe.Damaged}
		}
	}
	return t
}

// kept is the shard and seal of a sector in the record at a place of the log.
func (n *node) kept(at int, s blocktree.SectorIndex) (payload, seals []byte) {
	r := n.disk.log[at].rec
	i := int(s - r.First)
	if r.Kind != stripe.RecordData || i < 0 || i >= int(r.Count) {
		return nil, nil
	}
	return r.Payload[i*shardBytes : (i+1)*shardBytes], r.Seals[i*stripe.SealBytes : (i+1)*stripe.SealBytes]
}

// older is a record of an older version of a sector, -1 if there is none.
func (n *node) older(file int, s blocktree.SectorIndex, v blocktree.Version) int {
	w := n.w
	var all []int
	for i := range n.disk.log {
		r := n.disk.log[i].rec
		if r.Kind != stripe.RecordData || w.meta.fileOf(r.File) != file || s < r.First || s >= r.First+blocktree.SectorIndex(r.Count) || !r.Version.Less(v) {
			continue
		}
		// k liars who kept true shards of what a take-over has undone, or what was aborted, can have it read (0029, "Not promised").
		if y := w.byVer[versionKey{file, r.Region, r.Version}]; len(w.liars.nodes) >= w.cfg.Code.Data && (y == nil || y.state != acked) {
			continue
		}
		all = append(all, i)
	}
	if len(all) == 0 {
		return -1
	}
	return all[w.liars.luck.IntN(len(all))]
}

// lieOfPending changes what an answer says of what is in flight.
func (n *node) lieOfPending(x lie, a *stripe.Message) bool {
	luck, file := n.w.liars.luck, n.w.meta.fileOf(a.File)
	if a.Want == stripe.WantExact {
		return false
	}
	switch x {
	case lieDeny:
		before := len(a.Extents)
		a.Extents = slices.DeleteFunc(slices.Clone(a.Extents), func(e stripe.Extent) bool { return e.Pending })
		return len(a.Extents) < before
	case lieHold:
		v := blocktree.Version{Epoch: max(a.Epoch, 2) - 1, Sequence: blocktree.Sequence(luck.IntN(40) + 1)}
		e := stripe.Extent{First: a.First, Count: uint32(a.Count), Version: v, Kind: stripe.Data, Pending: true}
		if y := n.w.inFlight(file, a); y != nil && luck.Float64() < 0.8 {
			e.First, e.Count = max(y.first, a.First), 1
			e.Version, e.Digest = y.version, digestOf(y)
			if y.zero {
				e.Kind = stripe.Zero
			}
		}
		a.Extents = append(slices.Clone(a.Extents), e)
		return true
	}
	lied := false // lieCommitted
	pending := a.Extents
	retell(a, func(s blocktree.SectorIndex, t told) told {
		for _, e := range pending {
			if e.Pending && t.version.Less(e.Version) && s >= e.First && s < e.First+blocktree.SectorIndex(e.Count) {
				lied = true
				if at := n.disk.find(n.w, file, s, e.Version); at >= 0 {
					t = told{version: e.Version, kind: e.Kind}
					t.payload, t.seals = n.kept(at, s)
				}
			}
		}
		return t
	})
	return lied
}

// inFlight is a write of a region that has no outcome yet and overlaps a run, the newest.
func (w *World) inFlight(file int, a *stripe.Message) *write {
	for _, y := range slices.Backward(w.writes) {
		if y.file == file && y.region == a.Region && y.state == open && len(y.at) > 0 && y.first < a.First+blocktree.SectorIndex(a.Count) && a.First < y.first+blocktree.SectorIndex(y.count) {
			return y
		}
	}
	return nil
}

func digestOf(y *write) (d stripe.Digest) {
	binary.BigEndian.PutUint64(d[:], mix(uint64(y.value), 77))
	return d
}
