package cluster

import (
	"crypto/sha256"
	"encoding/binary"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
)

// A member's machine and its store each have a Record of their own, as neither may import the other. This file is
// where one becomes the other; nothing else in the package looks inside either.

// digestOf stands for the leaves of a run: the first half of its only leaf, or of a hash over all of them.
func digestOf(seals []byte) (d stripe.Digest) {
	if len(seals) == seal.HeaderBytes {
		copy(d[:], seals)
		return d
	}
	h := sha256.New()
	for at := 0; at+seal.HeaderBytes <= len(seals); at += seal.HeaderBytes {
		h.Write(seals[at : at+sha256.Size])
	}
	copy(d[:], h.Sum(nil))
	return d
}

// toStore gives a machine's record the form that the store keeps.
func toStore(r *stripe.Record) store.Record {
	out := store.Record{File: r.File, First: r.First, Count: r.Count, Version: r.Version, Watermark: r.Watermark,
		Region: r.Region, Installed: r.Installed}
	switch r.Kind {
	case stripe.RecordData:
		out.Kind, out.Shard, out.ShardBytes = store.KindData, r.Shard, r.ShardBytes
		out.Seals, out.Payload = r.Seals, r.Payload
	case stripe.RecordZero:
		out.Kind = store.KindZero
	case stripe.RecordControl:
		out.Kind, out.Blob = store.KindControl, r.Control
	}
	return out
}

// fromStore is toStore backwards, of a record that was replayed. A zero record's digest is zero: its version says it all.
func fromStore(r *store.Replayed) stripe.Record {
	out := stripe.Record{File: r.File, Region: r.Region, First: r.First, Count: r.Count, Version: r.Version,
		Watermark: r.Watermark, Installed: r.Installed}
	switch r.Kind {
	case store.KindData:
		out.Kind, out.Shard, out.ShardBytes = stripe.RecordData, r.Shard, r.ShardBytes
		out.Seals, out.Digest = r.Seals, digestOf(r.Seals)
	case store.KindZero:
		out.Kind = stripe.RecordZero
	case store.KindControl:
		out.Kind, out.Control = stripe.RecordControl, r.Blob
	}
	return out
}

// packRef and unpackRef carry a place in the log through the machine, which does not look at it.
func packRef(r store.Ref) (out stripe.Ref) {
	binary.BigEndian.PutUint32(out[0:], r.Segment)
	binary.BigEndian.PutUint32(out[4:], r.Offset)
	binary.BigEndian.PutUint16(out[8:], uint16(r.Count))
	binary.BigEndian.PutUint32(out[10:], r.ShardBytes)
	out[14] = byte(r.Shard)
	return out
}

func unpackRef(r stripe.Ref) store.Ref {
	return store.Ref{Segment: binary.BigEndian.Uint32(r[0:]), Offset: binary.BigEndian.Uint32(r[4:]),
		Count: uint32(binary.BigEndian.Uint16(r[8:])), ShardBytes: binary.BigEndian.Uint32(r[10:]), Shard: blocktree.ShardIndex(r[14])}
}

// storeExtent is the record as the store indexes it.
func storeExtent(h *stripe.Held) store.Extent {
	x := store.Extent{First: h.First, Count: h.Count, Version: h.Version, Content: store.Zero, Ref: unpackRef(h.Ref)}
	if h.Kind == stripe.RecordData {
		x.Content = store.Data
	}
	return x
}

// stripeExtent is what the store knows of a run, as the protocol says it.
func stripeExtent(x store.Extent) stripe.Extent {
	kind := stripe.Absent
	switch x.Content {
	case store.Zero:
		kind = stripe.Zero
	case store.Data:
		kind = stripe.Data
	}
	return stripe.Extent{First: x.First, Count: x.Count, Version: x.Version, Kind: kind}
}
