package erasure

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"blocktree"
)

func allCodes() (codes []blocktree.Code) {
	for k := 1; k <= blocktree.DataShardsMax; k++ {
		for m := 0; m <= blocktree.ParityShardsMax; m++ {
			codes = append(codes, blocktree.Code{Data: k, Parity: m})
		}
	}
	return codes
}

func newCodec(t testing.TB, code blocktree.Code) *Codec {
	t.Helper()
	c, err := New(code)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func makeShards(code blocktree.Code, each int) [][]byte {
	shards := make([][]byte, code.Shards())
	for i := range shards {
		shards[i] = bytes.Repeat([]byte{0xaa}, each) // dirty, as a pooled buffer is
	}
	return shards
}

// split cuts sealed into the k data shards, as crypto/seal does: slowly, byte by byte.
func split(code blocktree.Code, sealed []byte, sectorBytes int, shards [][]byte) {
	piece := code.ShardBytes(sectorBytes)
	for s := range code.Data {
		for at := range shards[s] {
			sector, in := at/piece, s*piece+at%piece
			if shards[s][at] = 0; in < sectorBytes {
				shards[s][at] = sealed[sector*sectorBytes+in]
			}
		}
	}
}

// coded splits and encodes.
func coded(t testing.TB, c *Codec, sealed []byte, sectorBytes int) [][]byte {
	t.Helper()
	shards := makeShards(c.Code(), len(sealed)/sectorBytes*c.Code().ShardBytes(sectorBytes))
	split(c.Code(), sealed, sectorBytes, shards)
	if err := c.Encode(shards); err != nil {
		t.Fatal(err)
	}
	return shards
}

// TestAgainstReference compares every code with a slow and obvious coder: the matrix is part of the disk format.
func TestAgainstReference(t *testing.T) {
	for _, code := range allCodes() {
		const sectorBytes = 50
		sealed := randomBytes(uint64(code.Shards()), 3*sectorBytes)
		got := coded(t, newCodec(t, code), sealed, sectorBytes)
		want := referenceShards(code, sealed, sectorBytes)
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("code %v: shard %d is %x, want %x", code, i, got[i], want[i])
			}
		}
	}
}

// TestEveryLoss loses every set of up to m shards of small codes.
func TestEveryLoss(t *testing.T) {
	for _, code := range []blocktree.Code{{Data: 1}, {Data: 3}, {Data: 1, Parity: 4}, {Data: 2, Parity: 1}, {Data: 3, Parity: 2}, {Data: 4, Parity: 4}, {Data: 5, Parity: 3}} {
		c := newCodec(t, code)
		sealed := randomBytes(9, 4*512)
		whole := coded(t, c, sealed, 512)
		for lost := range 1 << code.Shards() {
			checkLoss(t, c, whole, sealed, lost)
		}
	}
}

func checkLoss(t *testing.T, c *Codec, whole [][]byte, sealed []byte, lost int) {
	t.Helper()
	shards, missing := make([][]byte, len(whole)), 0
	for i := range shards {
		if lost&(1<<i) != 0 {
			missing++
			continue
		}
		shards[i] = bytes.Clone(whole[i])
	}
	err := c.Reconstruct(shards)
	if missing > c.Code().Parity {
		if blocktree.KindOf(err) != blocktree.Unavailable {
			t.Fatalf("code %v, %d lost: %v", c.Code(), missing, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("code %v, lost %b: %v", c.Code(), lost, err)
	}
	for i := range shards {
		if !bytes.Equal(shards[i], whole[i]) {
			t.Fatalf("code %v, lost %b: shard %d differs", c.Code(), lost, i)
		}
	}
	dst := make([]byte, len(sealed))
	if err := c.Join(dst, shards, 512); err != nil || !bytes.Equal(dst, sealed) {
		t.Fatalf("code %v, lost %b: other bytes, %v", c.Code(), lost, err)
	}
}

// TestAnyCode samples codes, sector sizes and losses, and checks all three ways of rebuilding.
func TestAnyCode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		code := rapid.SampledFrom(allCodes()).Draw(t, "code")
		sectorBytes := rapid.SampledFrom([]int{1, 7, 16, 512, 1000, 4096}).Draw(t, "sectorBytes")
		sectors := rapid.IntRange(1, 9).Draw(t, "sectors")
		lost := rapid.Permutation(indexes(code.Shards())).Draw(t, "order")[:rapid.IntRange(0, code.Parity).Draw(t, "lost")]
		c, err := New(code)
		if err != nil {
			t.Fatal(err)
		}
		sealed := randomBytes(rapid.Uint64().Draw(t, "seed"), sectors*sectorBytes)
		whole := makeShards(code, sectors*code.ShardBytes(sectorBytes))
		split(code, sealed, sectorBytes, whole)
		if err := c.Encode(whole); err != nil {
			t.Fatal(err)
		}
		for name, rebuild := range map[string]func([][]byte) error{
			"all":  c.Reconstruct,
			"data": c.ReconstructData,
			"one by one": func(shards [][]byte) error {
				for i := range shards {
					if err := c.ReconstructShard(blocktree.ShardIndex(i), shards); err != nil {
						return err
					}
				}
				return nil
			},
		} {
			checkRebuild(t, c, name, rebuild, whole, lost)
			dst := make([]byte, len(sealed))
			if err := c.Join(dst, whole, sectorBytes); err != nil || !bytes.Equal(dst, sealed) {
				t.Fatalf("%s: joined other bytes: %v", name, err)
			}
		}
	})
}

func checkRebuild(t *rapid.T, c *Codec, name string, rebuild func([][]byte) error, whole [][]byte, lost []int) {
	shards := make([][]byte, len(whole))
	copy(shards, whole)
	for i, l := range lost {
		shards[l] = nil
		if i%2 == 1 { // an empty buffer with room is used
			shards[l] = make([]byte, 0, len(whole[0]))
		}
	}
	if err := rebuild(shards); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for i := range shards {
		if name == "data" && i >= c.Code().Data {
			continue
		}
		if !bytes.Equal(shards[i], whole[i]) {
			t.Fatalf("%s: shard %d differs", name, i)
		}
	}
}

func indexes(n int) (all []int) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

// TestPartOfARun cuts single sectors out of the shards of a run: they decode by themselves.
func TestPartOfARun(t *testing.T) {
	code, sectorBytes := blocktree.Code{Data: 3, Parity: 2}, 512
	c := newCodec(t, code)
	sealed := randomBytes(4, 8*sectorBytes)
	shards := coded(t, c, sealed, sectorBytes)
	piece := code.ShardBytes(sectorBytes)
	for i := range 8 {
		part := make([][]byte, code.Shards())
		for s := 1; s < 4; s++ {
			part[s] = shards[s][i*piece : (i+1)*piece : (i+1)*piece]
		}
		dst := make([]byte, sectorBytes)
		if err := c.ReconstructData(part); err != nil {
			t.Fatal(err)
		}
		if err := c.Join(dst, part, sectorBytes); err != nil || !bytes.Equal(dst, sealed[i*sectorBytes:(i+1)*sectorBytes]) {
			t.Fatalf("sector %d: %v", i, err)
		}
	}
}

// TestReconstructShardLeavesOthers wants one shard and no more.
func TestReconstructShardLeavesOthers(t *testing.T) {
	for _, code := range []blocktree.Code{{Data: 1, Parity: 3}, {Data: 3, Parity: 3}} {
		c := newCodec(t, code)
		whole := coded(t, c, randomBytes(4, 512), 512)
		for target := range code.Shards() {
			other := (target + 1) % code.Shards()
			shards := append([][]byte(nil), whole...)
			shards[target], shards[other] = nil, nil
			if err := c.ReconstructShard(blocktree.ShardIndex(target), shards); err != nil || !bytes.Equal(shards[target], whole[target]) {
				t.Errorf("code %v, shard %d: %v", code, target, err)
			}
			if len(shards[other]) != 0 {
				t.Errorf("code %v: shard %d was computed too", code, other)
			}
		}
	}
}

func TestReplicationWithoutCopies(t *testing.T) {
	c := newCodec(t, blocktree.Code{Data: 1, Parity: 2})
	sealed := randomBytes(4, 1024)
	want := bytes.Clone(sealed)
	shards := [][]byte{sealed, sealed, sealed}
	if c.Encode(shards) != nil || c.Join(sealed, shards, 512) != nil || !bytes.Equal(sealed, want) {
		t.Error("shards that are the sectors themselves were changed or refused")
	}
}

func TestRefusals(t *testing.T) {
	for _, code := range []blocktree.Code{{}, {Data: 0, Parity: 1}, {Data: 17}, {Data: 2, Parity: 5}, {Data: 2, Parity: -1}} {
		if _, err := New(code); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("code %v: %v", code, err)
		}
	}
	c := newCodec(t, blocktree.Code{Data: 2, Parity: 1})
	replicas := newCodec(t, blocktree.Code{Data: 1, Parity: 2})
	b := func(n int) []byte { return make([]byte, n) }
	for name, x := range map[string]struct {
		err  error
		kind blocktree.Kind
	}{
		"join part of a sector":   {c.Join(b(513), [][]byte{b(256), b(256)}, 512), blocktree.Invalid},
		"join no sector size":     {c.Join(b(0), [][]byte{b(0), b(0)}, 0), blocktree.Invalid},
		"join one shard":          {c.Join(b(512), [][]byte{b(256)}, 512), blocktree.Invalid},
		"join long shard":         {c.Join(b(512), [][]byte{b(256), b(257)}, 512), blocktree.Invalid},
		"join short shard":        {c.Join(b(512), [][]byte{b(256), b(255)}, 512), blocktree.Invalid},
		"join missing shard":      {c.Join(b(512), [][]byte{b(256), nil}, 512), blocktree.Invalid},
		"encode two of three":     {c.Encode([][]byte{b(1), b(1)}), blocktree.Invalid},
		"encode unequal":          {c.Encode([][]byte{b(2), b(2), b(1)}), blocktree.Invalid},
		"encode empty":            {c.Encode([][]byte{{}, {}, {}}), blocktree.Invalid},
		"replicate unequal":       {replicas.Encode([][]byte{b(2), b(1), b(2)}), blocktree.Invalid},
		"reconstruct two slots":   {c.Reconstruct([][]byte{b(1), b(1)}), blocktree.Invalid},
		"reconstruct unequal":     {c.Reconstruct([][]byte{b(1), b(2), nil}), blocktree.Invalid},
		"reconstruct from one":    {c.Reconstruct([][]byte{b(1), nil, nil}), blocktree.Unavailable},
		"reconstruct data of one": {c.ReconstructData([][]byte{nil, nil, b(1)}), blocktree.Unavailable},
		"replica of nothing":      {replicas.Reconstruct([][]byte{nil, nil, nil}), blocktree.Unavailable},
		"shard from one":          {c.ReconstructShard(0, [][]byte{nil, nil, b(1)}), blocktree.Unavailable},
		"shard out of code":       {c.ReconstructShard(3, [][]byte{b(1), b(1), nil}), blocktree.Invalid},
	} {
		if blocktree.KindOf(x.err) != x.kind {
			t.Errorf("%s: %v", name, x.err)
		}
	}
}

func TestManyGoroutines(t *testing.T) {
	code := blocktree.Code{Data: 4, Parity: 2}
	c := newCodec(t, code)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			sealed := randomBytes(uint64(g), 4096)
			dst := make([]byte, 4096)
			for i := range 30 {
				shards := coded(t, c, sealed, 512)
				shards[i%6], shards[(i+g)%6] = nil, nil
				if c.Reconstruct(shards) != nil || c.Join(dst, shards, 512) != nil || !bytes.Equal(dst, sealed) {
					t.Error("other bytes")
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkEncode(b *testing.B) {
	benchmarkShapes(b, func(b *testing.B, c *Codec, sealed []byte) {
		shards := coded(b, c, sealed, 4096)
		for b.Loop() {
			if c.Encode(shards) != nil {
				b.Fatal("not encoded")
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	benchmarkShapes(b, func(b *testing.B, c *Codec, sealed []byte) {
		shards := coded(b, c, sealed, 4096)
		dst := make([]byte, len(sealed))
		for b.Loop() {
			if c.Join(dst, shards, 4096) != nil {
				b.Fatal("not joined")
			}
		}
	})
}

func BenchmarkDegradedRead(b *testing.B) {
	benchmarkShapes(b, func(b *testing.B, c *Codec, sealed []byte) {
		shards := coded(b, c, sealed, 4096)
		dst := make([]byte, len(sealed))
		for b.Loop() {
			shards[0] = shards[0][:0]
			if c.ReconstructData(shards) != nil || c.Join(dst, shards, 4096) != nil {
				b.Fatal("not rebuilt")
			}
		}
	})
}

func benchmarkShapes(b *testing.B, run func(*testing.B, *Codec, []byte)) {
	for _, code := range []blocktree.Code{{Data: 2, Parity: 1}, {Data: 4, Parity: 2}, {Data: 1, Parity: 2}} {
		for _, n := range []int{4 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%v/%dKiB", code, n>>10), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				run(b, newCodec(b, code), randomBytes(1, n))
			})
		}
	}
}
