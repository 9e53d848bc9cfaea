package sim

import (
	"encoding/binary"
	"errors"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// prime is the field of the world's code: a sector is k numbers below it, its shard i is the polynomial with these
// coefficients at i+1 (Reed and Solomon 1960). Any k shards give the sector back; shards of two writes give garbage,
// which decode notices because all but the first number follow from it.
const prime = 1<<31 - 1

// shardBytes is the length of one shard of one sector.
const shardBytes = 4

func mix(a, b uint64) uint64 {
	x := a*0x9e3779b97f4a7c15 ^ b*0xbf58476d1ce4e5b9
	x ^= x >> 29
	x *= 0x94d049bb133111eb
	return x ^ x>>32
}

// word is number j of the contents of a sector that was written with value.
func word(value uint32, sector blocktree.SectorIndex, j int) uint64 {
	if j == 0 {
		return uint64(value)
	}
	return mix(uint64(value)<<8|uint64(j), uint64(sector)) % prime
}

// shardOf is shard x of a sector that was written with value.
func shardOf(k int, value uint32, sector blocktree.SectorIndex, x blocktree.ShardIndex) uint32 {
	var y uint64
	for j := k - 1; j >= 0; j-- {
		y = (y*(uint64(x)+1) + word(value, sector, j)) % prime
	}
	return uint32(y)
}

func power(b, e uint64) uint64 {
	r := uint64(1)
	for ; e > 0; e >>= 1 {
		if e&1 == 1 {
			r = r * b % prime
		}
		b = b * b % prime
	}
	return r
}

// weights are the Lagrange coefficients at 0 of the points xs.
func weights(xs []blocktree.ShardIndex) []uint64 {
	ws := make([]uint64, len(xs))
	for i := range xs {
		num, den := uint64(1), uint64(1)
		for j := range xs {
			if i != j {
				num = num * (uint64(xs[j]) + 1) % prime
				den = den * ((uint64(xs[j]) - uint64(xs[i]) + prime) % prime) % prime
			}
		}
		ws[i] = num * power(den, prime-2) % prime
	}
	return ws
}

var errGarbage = errors.New("the shards are not of one write")

// decode gives back the value of a sector from k shards, or errGarbage if they do not belong together.
func decode(sector blocktree.SectorIndex, xs []blocktree.ShardIndex, ws []uint64, ys []uint32) (uint32, error) {
	var v uint64
	for i, y := range ys {
		v = (v + ws[i]*uint64(y)) % prime
	}
	for i, y := range ys {
		if v > 1<<31 || shardOf(len(xs), uint32(v), sector, xs[i]) != y {
			return 0, errGarbage
		}
	}
	return uint32(v), nil
}

// putSeal fills one seal: leaf, then nonce and tag that nobody looks at.
func putSeal(seal []byte, value uint32, sector blocktree.SectorIndex) {
	binary.BigEndian.PutUint64(seal, mix(uint64(value), uint64(sector)))
	binary.BigEndian.PutUint64(seal[8:], uint64(sector))
	binary.BigEndian.PutUint32(seal[16:], value)
}

func sealFits(seal []byte, value uint32, sector blocktree.SectorIndex) bool {
	return binary.BigEndian.Uint64(seal) == mix(uint64(value), uint64(sector)) &&
		binary.BigEndian.Uint64(seal[8:]) == uint64(sector) && binary.BigEndian.Uint32(seal[16:]) == value
}

// encode makes all shards and the seals of a run.
func encode(code blocktree.Code, value uint32, first blocktree.SectorIndex, count uint32) (shards [][]byte, seals []byte) {
	n := code.Shards()
	buf := make([]byte, n*int(count)*shardBytes+int(count)*stripe.SealBytes)
	seals = buf[n*int(count)*shardBytes:]
	shards = make([][]byte, n)
	for x := range shards {
		shards[x] = buf[x*int(count)*shardBytes : (x+1)*int(count)*shardBytes : (x+1)*int(count)*shardBytes]
		for s := range int(count) {
			y := shardOf(code.Data, value, first+blocktree.SectorIndex(s), blocktree.ShardIndex(x))
			binary.BigEndian.PutUint32(shards[x][s*shardBytes:], y)
		}
	}
	for s := range int(count) {
		putSeal(seals[s*stripe.SealBytes:], value, first+blocktree.SectorIndex(s))
	}
	return shards, seals
}

// decodeRun gives back the value of each sector of a run from the first k of shards.
func decodeRun(code blocktree.Code, first blocktree.SectorIndex, count uint32, shards []stripe.ShardRun) ([]uint32, error) {
	k := code.Data
	if len(shards) < k {
		return nil, errors.New("fewer than k shards")
	}
	xs, ys, out := make([]blocktree.ShardIndex, k), make([]uint32, k), make([]uint32, count)
	for i := range k {
		xs[i] = shards[i].Shard
		if len(shards[i].Payload) != int(count)*shardBytes || len(shards[i].Seals) != int(count)*stripe.SealBytes {
			return nil, errors.New("a shard run has the wrong length")
		}
	}
	ws := weights(xs)
	for s := range int(count) {
		for i := range k {
			ys[i] = binary.BigEndian.Uint32(shards[i].Payload[s*shardBytes:])
		}
		v, err := decode(first+blocktree.SectorIndex(s), xs, ws, ys)
		if err != nil {
			return nil, err
		}
		for i := range k {
			if !sealFits(shards[i].Seals[s*stripe.SealBytes:], v, first+blocktree.SectorIndex(s)) {
				return nil, errGarbage
			}
		}
		out[s] = v
	}
	return out, nil
}

// codec is the world's code as the holder wants it.
type codec struct {
	code    blocktree.Code
	bySeals bool // more than one may be bad, on purpose
	wrong   func(*stripe.Message, blocktree.SectorIndex)
}

// Rebuild implements stripe.Codec. Of more than k shards one may be bad.
func (x codec) Rebuild(target blocktree.ShardIndex, run stripe.Piece) (payload, seals []byte, err error) {
	if x.bySeals {
		return x.rebuildBySeals(target, run)
	}
	values, err := decodeRun(x.code, run.First, run.Count, run.Shards)
	for i := 0; err != nil && i < len(run.Shards) && len(run.Shards) > x.code.Data; i++ {
		values, err = decodeRun(x.code, run.First, run.Count, slices.Delete(slices.Clone(run.Shards), i, i+1))
	}
	if err != nil {
		return nil, nil, blocktree.E("rebuild", blocktree.Corrupt, err)
	}
	for i, v := range values {
		shards, seal := encode(x.code, v, run.First+blocktree.SectorIndex(i), 1)
		payload = append(payload, shards[target]...)
		seals = append(seals, seal...)
	}
	return payload, seals, nil
}
