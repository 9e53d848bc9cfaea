package cluster

import (
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
	"blocktree/internal/erasure"
)

// TestCarefulTellsOfNoData: a sector that opened, and then is said to be absent because the next one made the look begin again, is told of as absent: a guard must not compare what
// it noted of the first look with the zeros of the second.
func TestCarefulTellsOfNoData(t *testing.T) {
	codec, err := erasure.New(blocktree.Code{Data: 1, Parity: 1})
	if err != nil {
		t.Fatal(err)
	}
	const size = 512
	data := func(first blocktree.SectorIndex) stripe.Piece {
		return stripe.Piece{First: first, Count: 1, Kind: stripe.Data, Version: blocktree.Version{Epoch: 1, Sequence: 1},
			Shards: []stripe.ShardRun{{Payload: make([]byte, size), Seals: make([]byte, seal.HeaderBytes), Answer: &stripe.Message{Node: 2}}}}
	}
	looks := 0
	last := map[blocktree.SectorIndex]bool{} // whether what was told of a sector last was data
	c := careful{codec: codec, sectorBytes: size, suspect: func(stripe.Suspect) {}, wrong: func(_, _ *Piece, _ *stripe.ShardRun) {},
		all: func([]blocktree.NodeID) (*stripe.ReadResult, error) {
			if looks++; looks == 1 {
				return &stripe.ReadResult{Pieces: []stripe.Piece{data(7), data(8)}}, nil
			}
			return &stripe.ReadResult{Pieces: []stripe.Piece{{First: 7, Count: 2, Kind: stripe.Absent}}}, nil
		},
		open: func(p *Piece, dst []byte) error {
			if last[p.First] = p.Data(); !p.Data() {
				return nil
			}
			if p.First == 8 {
				return blocktree.E("open", blocktree.Corrupt, nil)
			}
			dst[0] = 1
			return nil
		}}
	dst := make([]byte, 2*size)
	if err := c.read(7, dst); err != nil || looks != 2 || dst[0] != 0 {
		t.Fatalf("%d looks, %v", looks, err)
	}
	if data, told := last[7]; data || !told {
		t.Error("nobody was told that the sector turned out to be absent")
	}
}
