package stripe

import (
	"bytes"
	"encoding/binary"

	"blocktree"
)

// testCodec has shards that each carry the whole value of a sector: its number and its version.
type testCodec struct{ code blocktree.Code }

func (c testCodec) shardBytes() int { return c.code.ShardBytes(testSector) }

func (c testCodec) shard(s blocktree.SectorIndex, v blocktree.Version, i int) []byte {
	b := make([]byte, c.shardBytes())
	b[0], b[1], b[2], b[3] = byte(s), byte(v.Epoch), byte(v.Sequence>>8), byte(v.Sequence)
	b[4] = byte(i)
	return b
}

func (c testCodec) seal(s blocktree.SectorIndex, v blocktree.Version) []byte {
	b := make([]byte, SealBytes)
	copy(b, c.shard(s, v, 99)[:4])
	return b
}

func (c testCodec) check(s blocktree.SectorIndex, v blocktree.Version, shard ShardRun, at int) bool {
	n := c.shardBytes()
	return bytes.Equal(shard.Payload[at*n:(at+1)*n], c.shard(s, v, int(shard.Shard))) &&
		bytes.Equal(shard.Seals[at*SealBytes:(at+1)*SealBytes], c.seal(s, v))
}

func (c testCodec) Rebuild(target blocktree.ShardIndex, p Piece) (payload, seals []byte, err error) {
	if len(p.Shards) < c.code.Data {
		return nil, nil, blocktree.E("rebuild", blocktree.Corrupt, nil)
	}
	for i := range int(p.Count) {
		s := p.First + blocktree.SectorIndex(i)
		for _, x := range p.Shards {
			if !c.check(s, p.Version, x, i) {
				return nil, nil, blocktree.E("rebuild", blocktree.Corrupt, nil)
			}
		}
		payload = append(payload, c.shard(s, p.Version, int(target))...)
		seals = append(seals, c.seal(s, p.Version)...)
	}
	return payload, seals, nil
}

func (c testCodec) write(kind RecordKind, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32, v blocktree.Version) *Write {
	w := &Write{Kind: kind, Region: region, First: first, Count: count, Version: v}
	binary.BigEndian.PutUint64(w.Digest[:], uint64(v.Epoch)<<32|uint64(v.Sequence))
	if kind == RecordZero {
		return w
	}
	w.ShardBytes = uint32(c.shardBytes())
	w.Shards = make([][]byte, c.code.Shards())
	for i := range int(count) {
		s := first + blocktree.SectorIndex(i)
		w.Seals = append(w.Seals, c.seal(s, v)...)
		for j := range w.Shards {
			w.Shards[j] = append(w.Shards[j], c.shard(s, v, j)...)
		}
	}
	return w
}

// read looks up what a task asks for.
func (n *testNode) read(t *ReadTask) *Message {
	q := t.Request
	var xs []Extent
	var payload, seals []byte
	add := func(s blocktree.SectorIndex, e testSectorState, want bool) {
		x := Extent{First: s, Count: 1, Version: e.version, Kind: e.kind}
		if e.damaged && want {
			x.Kind = Damaged
		}
		if k := len(xs) - 1; k >= 0 && xs[k].Version == x.Version && xs[k].Kind == x.Kind && uint64(xs[k].First)+uint64(xs[k].Count) == uint64(s) {
			xs[k].Count++
		} else {
			xs = append(xs, x)
		}
		if x.Kind == Data && want {
			payload, seals = append(payload, e.payload...), append(seals, e.seals...)
		}
	}
	switch {
	case n.badPage && (q.Kind != KindRead || n.noRead) && q.Region == 0:
		return t.Answer(n.id, nil, nil, nil, 0, blocktree.Corrupt)
	case q.Kind == KindList:
		end := q.First + blocktree.SectorIndex(q.Count)
		for s := q.First; s < end; s++ {
			if len(xs) >= 2 { // short pages, to have several
				return t.Answer(n.id, xs, nil, nil, s, 0)
			}
			if e, ok := n.index[s]; ok {
				add(s, e, false)
			}
		}
		return t.Answer(n.id, xs, nil, nil, end, 0)
	case q.Kind == KindDigest:
		first, count := n.learnt.Run(q.Region)
		end := min(first+blocktree.SectorIndex(count), q.First+2*blocktree.SectorIndex(q.Count)) // two blocks at a time
		d := t.Digester()
		for s := q.First; s < end; s++ {
			d.Add(Extent{First: s, Count: 1, Version: n.index[s].version, Kind: n.index[s].kind})
		}
		return t.Answer(n.id, nil, d.Finish(end), nil, end, 0)
	case q.Want == WantExact && len(t.Pending) == 1:
		h := t.Pending[0]
		rec := n.at(h.Ref)
		for s := q.First; uint64(s) < uint64(q.First)+q.Count; s++ {
			if s >= h.First && uint64(s) < uint64(h.First)+uint64(h.Count) {
				i, b := int(s-h.First), int(h.ShardBytes)
				add(s, testSectorState{kind: h.Extent(true).Kind, version: h.Version, payload: rec.Payload[i*b : (i+1)*b], seals: rec.Seals[i*SealBytes : (i+1)*SealBytes]}, true)
			}
		}
	default:
		for s := q.First; uint64(s) < uint64(q.First)+q.Count; s++ {
			e := n.index[s]
			if q.Want != WantExact || e.version == q.Version {
				add(s, e, q.Want != WantVersions)
			}
		}
	}
	return t.Answer(n.id, xs, payload, seals, 0, 0)
}
