package cluster

import (
	"bytes"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
	"blocktree/internal/erasure"
)

// sealedRun makes a run of sectors that nobody can open, without its parity, and their seals.
func sealedRun(code blocktree.Code, sectorBytes, count int, v blocktree.Version) (shards [][]byte, seals []byte) {
	random := rand.New(rand.NewPCG(1, 2))
	piece := code.ShardBytes(sectorBytes)
	shards = make([][]byte, code.Shards())
	for i := range shards {
		shards[i] = make([]byte, count*piece)
	}
	seals = make([]byte, count*seal.HeaderBytes)
	for i := range count {
		sealed := make([]byte, sectorBytes)
		for j := range sealed {
			sealed[j] = byte(random.Uint32())
		}
		for s := range code.Data {
			copy(shards[s][i*piece:(i+1)*piece], sealed[s*piece:])
		}
		h := seals[i*seal.HeaderBytes : (i+1)*seal.HeaderBytes]
		leaf := seal.Leaf(memberFile, blocktree.SectorIndex(i), v, seal.HeaderNonce(h), seal.HeaderTag(h), sealed)
		copy(h, leaf[:])
	}
	return shards, seals
}

// TestRebuildMemory: a shard that is rebuilt is right and nobody else's memory, and making it takes little more than it is: a node scrubs day and night.
func TestRebuildMemory(t *testing.T) {
	const sectorBytes, count = 4096, 256
	code := blocktree.Code{Data: 2, Parity: 1}
	codec, err := erasure.New(code)
	if err != nil {
		t.Fatal(err)
	}
	v := blocktree.Version{Epoch: 3, Sequence: 4}
	piece := code.ShardBytes(sectorBytes)
	shards, seals := sealedRun(code, sectorBytes, count, v)
	if err := codec.Encode(shards); err != nil {
		t.Fatal(err)
	}
	r := &rebuilder{codec: codec, file: memberFile, sectorBytes: sectorBytes}
	run := func(of ...blocktree.ShardIndex) stripe.Piece {
		p := stripe.Piece{Count: count, Version: v, Kind: stripe.Data}
		for _, s := range of {
			p.Shards = append(p.Shards, stripe.ShardRun{Shard: s, Payload: shards[s], Seals: seals})
		}
		return p
	}
	for _, x := range []struct {
		target blocktree.ShardIndex
		of     []blocktree.ShardIndex
		most   int // shards' worth of memory
	}{
		{2, []blocktree.ShardIndex{0, 1}, 1},
		{0, []blocktree.ShardIndex{1, 2}, 2}, // the data that is missing is needed to check leaves, too
		{1, []blocktree.ShardIndex{0, 1}, 1},
	} {
		var payload, got []byte
		used := uint64(math.MaxUint64)
		for range 5 { // the least of some: what else runs in this process may take memory, too
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if payload, got, err = r.Rebuild(x.target, run(x.of...)); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			used = min(used, after.TotalAlloc-before.TotalAlloc)
		}
		if !bytes.Equal(payload, shards[x.target]) || !bytes.Equal(got, seals) {
			t.Errorf("shard %d of %v is not what it was", x.target, x.of)
		}
		if &payload[0] == &shards[x.target][0] || &got[0] == &seals[0] {
			t.Errorf("shard %d of %v is the memory of an answer", x.target, x.of)
		}
		if most := uint64(x.most*count*piece + len(seals) + 64<<10); used > most {
			t.Errorf("shard %d of %v took %d bytes, at most %d", x.target, x.of, used, most)
		}
	}
	bad := run(0, 1)
	bad.Shards[1].Payload = bytes.Clone(shards[1])
	bad.Shards[1].Payload[count*piece-1] ^= 1
	if _, _, err := r.Rebuild(2, bad); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("a bad last byte: %v", err)
	}
}
