package cluster

import (
	"bytes"
	"reflect"
	"testing"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
)

func TestDigestOf(t *testing.T) {
	one := bytes.Repeat([]byte{1}, seal.HeaderBytes)
	two := bytes.Repeat([]byte{2}, seal.HeaderBytes)
	run := append(append([]byte(nil), one...), two...)
	if d := digestOf(one); !bytes.Equal(d[:], one[:len(d)]) {
		t.Errorf("the digest of one sector is not its leaf: %x", d)
	}
	if digestOf(run) == digestOf(append(append([]byte(nil), two...), one...)) {
		t.Error("the order of sectors does not matter")
	}
	changed := bytes.Clone(run)
	changed[seal.HeaderBytes+blocktree.LeafBytes-1] ^= 1
	if digestOf(run) == digestOf(changed) {
		t.Error("the last byte of the last leaf does not matter")
	}
	changed = bytes.Clone(run)
	changed[seal.HeaderBytes+blocktree.LeafBytes] ^= 1 // of the nonce, which the leaf binds
	if digestOf(run) != digestOf(changed) {
		t.Error("more than leaves counts")
	}
}

func TestRecordsAndBack(t *testing.T) {
	seals := bytes.Repeat([]byte{7}, 2*seal.HeaderBytes)
	for _, r := range []stripe.Record{
		{Kind: stripe.RecordData, File: blocktree.FileID{Generation: 1, Inode: 9}, Region: 3, First: 100, Count: 2,
			Version: blocktree.Version{Epoch: 4, Sequence: 5}, Digest: digestOf(seals), Watermark: blocktree.Version{Epoch: 4, Sequence: 2},
			Installed: true, Shard: 2, ShardBytes: 8, Seals: seals},
		{Kind: stripe.RecordZero, File: blocktree.FileID{Generation: 1, Inode: 9}, First: 100, Count: 1 << 20,
			Version: blocktree.Version{Epoch: 4, Sequence: 5}},
		{Kind: stripe.RecordControl, File: blocktree.FileID{Generation: 1, Inode: 9}, Control: []byte("promise")},
	} {
		got := fromStore(&store.Replayed{Record: toStore(&r)})
		if !reflect.DeepEqual(got, r) {
			t.Errorf("%+v came back as %+v", r, got)
		}
	}
}

func TestRefsAndBack(t *testing.T) {
	for _, r := range []store.Ref{
		{},
		{Segment: 1, Offset: 512},
		{Segment: 1<<32 - 1, Offset: 1<<32 - 512, Count: blocktree.RunSectorsMax, ShardBytes: blocktree.SectorBytesMax,
			Shard: blocktree.DataShardsMax + blocktree.ParityShardsMax - 1},
	} {
		if got := unpackRef(packRef(r)); got != r {
			t.Errorf("%+v came back as %+v", r, got)
		}
	}
}

func TestExtents(t *testing.T) {
	h := &stripe.Held{Kind: stripe.RecordData, First: 10, Count: 4, Version: blocktree.Version{Epoch: 1, Sequence: 2},
		Ref: packRef(store.Ref{Segment: 3, Offset: 512, Count: 4, ShardBytes: 8})}
	x := storeExtent(h)
	if x.Content != store.Data || x.First != 10 || x.Count != 4 || x.Version != h.Version || x.Ref.Segment != 3 {
		t.Errorf("got %+v", x)
	}
	if h.Kind = stripe.RecordZero; storeExtent(h).Content != store.Zero {
		t.Error("a tombstone is not zero")
	}
	for content, kind := range map[store.Content]stripe.ExtentKind{store.Absent: stripe.Absent, store.Zero: stripe.Zero, store.Data: stripe.Data} {
		if got := stripeExtent(store.Extent{Content: content}).Kind; got != kind {
			t.Errorf("content %d is kind %d", content, got)
		}
	}
}

func TestPendingExtent(t *testing.T) {
	h := &stripe.Held{Kind: stripe.RecordData, First: 10, Count: 4, Ref: packRef(store.Ref{Segment: 3, Offset: 512, Count: 4, ShardBytes: 8})}
	for _, x := range []struct {
		first, count uint64
		want         []store.Extent
	}{
		{0, 10, nil}, {14, 2, nil},
		{0, 11, []store.Extent{storeExtent(h).Sub(0, 1)}},
		{12, 10, []store.Extent{storeExtent(h).Sub(2, 2)}},
		{11, 2, []store.Extent{storeExtent(h).Sub(1, 2)}},
	} {
		q := &stripe.Message{First: blocktree.SectorIndex(x.first), Count: x.count}
		if got := pendingExtent(h, q); !reflect.DeepEqual(got, x.want) {
			t.Errorf("%d sectors from %d: %+v", x.count, x.first, got)
		}
	}
}

func TestKeepGood(t *testing.T) {
	x := store.Extent{First: 10, Count: 3, Content: store.Data, Ref: store.Ref{Segment: 1, Count: 3, ShardBytes: 2}}
	buf := []byte("xxaabbcc")
	sealBuf := make([]byte, 4*stripe.SealBytes)
	for i := range sealBuf {
		sealBuf[i] = byte(i / stripe.SealBytes)
	}
	extents, payload, seals := keepGood(x, &store.Damage{Sectors: []blocktree.SectorIndex{11}}, nil, buf[:2], sealBuf[:stripe.SealBytes],
		buf[2:], sealBuf[stripe.SealBytes:])
	if string(payload) != "xxaacc" || len(seals) != 3*stripe.SealBytes || seals[stripe.SealBytes] != 1 || seals[2*stripe.SealBytes] != 3 {
		t.Errorf("kept %q and %d bytes of seals", payload, len(seals))
	}
	if len(extents) != 3 || extents[0].Kind != stripe.Data || extents[1].Kind != stripe.Damaged || extents[2].Kind != stripe.Data {
		t.Errorf("extents %+v", extents)
	}
}

func TestChoose(t *testing.T) {
	var got [][]int
	choose(4, 2, func(c []int) bool { got = append(got, append([]int(nil), c...)); return true })
	if want := [][]int{{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	for _, x := range []struct{ n, k, want int }{{0, 1, 0}, {1, 2, 0}, {3, 3, 1}, {20, 16, 4845}} {
		n := 0
		choose(x.n, x.k, func([]int) bool { n++; return true })
		if n != x.want {
			t.Errorf("%d choices of %d in %d", n, x.k, x.n)
		}
	}
	n := 0
	choose(5, 2, func([]int) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("went on after no: %d", n)
	}
}
