package erasure

import (
	"fmt"

	"github.com/klauspost/reedsolomon"

	"blocktree"
)

// Codec codes with one code. Its methods do not block and may be called by many goroutines at once.
type Codec struct {
	code  blocktree.Code
	coder reedsolomon.Encoder // nil where k is 1 (copies) or m is 0 (nothing to compute)
}

// New returns the codec of a code from 1+0 to 16+4; other codes are an error of kind Invalid.
func New(code blocktree.Code) (*Codec, error) {
	if err := code.Validate(); err != nil {
		return nil, err
	}
	c := &Codec{code: code}
	if code.Data == 1 || code.Parity == 0 {
		return c, nil
	}
	// One goroutine per call: requests are many, cores few. Neither option changes the matrix.
	coder, err := reedsolomon.New(code.Data, code.Parity, reedsolomon.WithMaxGoroutines(1), reedsolomon.WithInversionCache(true))
	if err != nil {
		return nil, blocktree.E("erasure.New", blocktree.Invalid, err)
	}
	c.coder = coder
	return c, nil
}

// Code returns the code.
func (c *Codec) Code() blocktree.Code { return c.code }

// Join fills dst, a whole number of sectors of sectorBytes each, from the k data shards, which must all be there, each as long as
// (number of sectors) × Code.ShardBytes(sectorBytes). (They are cut where sectors are sealed: crypto/seal.) Padding is not looked at. Where k is 1, shards[0] may be dst itself. Invalid for other lengths.
func (c *Codec) Join(dst []byte, shards [][]byte, sectorBytes int) error {
	piece, sectors, err := c.shape("erasure.Join", len(dst), sectorBytes, shards)
	if err != nil {
		return err
	}
	if c.code.Data == 1 {
		copy(dst, shards[0])
		return nil
	}
	for i := range sectors {
		sector := dst[i*sectorBytes : (i+1)*sectorBytes]
		for s := range c.code.Data {
			copy(sector[min(s*piece, sectorBytes):], shards[s][i*piece:(i+1)*piece])
		}
	}
	return nil
}

// Check refuses data shards that Join would refuse for a whole of that many bytes.
func (c *Codec) Check(shards [][]byte, bytes, sectorBytes int) error {
	_, _, err := c.shape("erasure.Check", bytes, sectorBytes, shards)
	return err
}

// shape checks the lengths of whole sectors and of the data shards; it returns a piece's length and how many sectors.
func (c *Codec) shape(op string, whole, sectorBytes int, shards [][]byte) (piece, sectors int, err error) {
	if sectorBytes < 1 || whole%sectorBytes != 0 || len(shards) < c.code.Data {
		return 0, 0, blocktree.E(op, blocktree.Invalid, fmt.Errorf("%d bytes in sectors of %d and %d shards", whole, sectorBytes, len(shards)))
	}
	piece, sectors = c.code.ShardBytes(sectorBytes), whole/sectorBytes
	for i, s := range shards[:c.code.Data] {
		if len(s) != sectors*piece {
			return 0, 0, blocktree.E(op, blocktree.Invalid, fmt.Errorf("shard %d has %d bytes, want %d", i, len(s), sectors*piece))
		}
	}
	return piece, sectors, nil
}

// Encode computes the m parity shards from the k data shards; all k+m have one length, which is at least 1. Where k is 1 a
// parity shard may be the data shard itself. Invalid for other counts and lengths.
func (c *Codec) Encode(shards [][]byte) error {
	if err := c.complete(shards); err != nil {
		return err
	}
	if c.code.Data == 1 {
		for _, s := range shards[1:] {
			copy(s, shards[0])
		}
	}
	if c.coder == nil {
		return nil
	}
	if err := c.coder.Encode(shards); err != nil {
		return blocktree.E("erasure.Encode", blocktree.Invalid, err)
	}
	return nil
}

func (c *Codec) complete(shards [][]byte) error {
	if len(shards) != c.code.Shards() {
		return blocktree.E("erasure.Encode", blocktree.Invalid, fmt.Errorf("%d shards, code %v", len(shards), c.code))
	}
	for i, s := range shards {
		if len(s) == 0 || len(s) != len(shards[0]) {
			return blocktree.E("erasure.Encode", blocktree.Invalid, fmt.Errorf("shard %d has %d bytes, shard 0 %d", i, len(s), len(shards[0])))
		}
	}
	return nil
}

// Reconstruct computes every missing shard. shards has k+m elements; a missing one has length 0, and is allocated unless its
// capacity suffices. It fails with kind Unavailable for fewer than k shards, Invalid when their lengths differ; then nothing
// is changed.
func (c *Codec) Reconstruct(shards [][]byte) error { return c.reconstruct(shards, c.code.Shards()) }

// ReconstructData is Reconstruct for the k data shards only: what a read needs.
func (c *Codec) ReconstructData(shards [][]byte) error { return c.reconstruct(shards, c.code.Data) }

func (c *Codec) reconstruct(shards [][]byte, upTo int) error {
	size, err := c.present("erasure.Reconstruct", shards)
	if err != nil {
		return err
	}
	if c.code.Data == 1 {
		for i, s := range shards[:upTo] {
			if len(s) == 0 {
				shards[i] = c.copyAny(s, shards, size)
			}
		}
	}
	if c.coder == nil { // m = 0: all k are present
		return nil
	}
	if upTo == c.code.Data {
		err = c.coder.ReconstructData(shards)
	} else {
		err = c.coder.Reconstruct(shards)
	}
	if err != nil {
		return blocktree.E("erasure.Reconstruct", blocktree.Invalid, err)
	}
	return nil
}

// ReconstructShard computes the one shard target and leaves the other missing ones alone. shards, its errors and the
// allocation are as with Reconstruct. A target that is present stays as it is.
func (c *Codec) ReconstructShard(target blocktree.ShardIndex, shards [][]byte) error {
	const op = "erasure.ReconstructShard"
	if int(target) >= c.code.Shards() {
		return blocktree.E(op, blocktree.Invalid, fmt.Errorf("shard %d of code %v", target, c.code))
	}
	size, err := c.present(op, shards)
	if err != nil || len(shards[target]) > 0 {
		return err
	}
	if c.coder == nil { // k = 1; with m = 0 the target was present
		shards[target] = c.copyAny(shards[target], shards, size)
		return nil
	}
	var required [blocktree.DataShardsMax + blocktree.ParityShardsMax]bool
	required[target] = true
	if err := c.coder.ReconstructSome(shards, required[:c.code.Shards()]); err != nil {
		return blocktree.E(op, blocktree.Invalid, err)
	}
	return nil
}

// present checks that k shards of one length are there, and returns the length.
func (c *Codec) present(op string, shards [][]byte) (size int, err error) {
	if len(shards) != c.code.Shards() {
		return 0, blocktree.E(op, blocktree.Invalid, fmt.Errorf("%d shards, code %v", len(shards), c.code))
	}
	have := 0
	for i, s := range shards {
		if len(s) == 0 {
			continue
		}
		if have++; size == 0 {
			size = len(s)
		}
		if len(s) != size {
			return 0, blocktree.E(op, blocktree.Invalid, fmt.Errorf("shard %d has %d bytes, another %d", i, len(s), size))
		}
	}
	if have < c.code.Data {
		return 0, blocktree.E(op, blocktree.Unavailable, fmt.Errorf("too few shards: %d of %d", have, c.code.Data))
	}
	return size, nil
}

// copyAny returns to, resized, with the bytes of any shard that is present; used where k is 1.
func (c *Codec) copyAny(to []byte, shards [][]byte, size int) []byte {
	for _, s := range shards {
		if len(s) > 0 {
			return append(to[:0], s[:size]...)
		}
	}
	return to
}
