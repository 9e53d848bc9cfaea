package cluster

import (
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
	"blocktree/internal/erasure"
)

// TestCarefulBlamesNobody: that a sector does not open, whichever members are left out, shows nobody to lie: its key may be one that the reader does not
// have. Who told of a version that does not open is named once the others' opens.
func TestCarefulBlamesNobody(t *testing.T) {
	code := blocktree.Code{Data: 2, Parity: 1}
	codec, err := erasure.New(code)
	if err != nil {
		t.Fatal(err)
	}
	const sector = 512
	for _, known := range []bool{false, true} { // whether the key of the older version is
		var named []blocktree.NodeID
		without := 0
		c := careful{codec: codec, sectorBytes: sector, file: blocktree.FileID{Generation: 1, Inode: 2},
			all: func(care stripe.Care) (*stripe.ReadResult, error) {
				out := care.Without
				without = len(out)
				p := stripe.Piece{First: 7, Count: 1, Version: blocktree.Version{Epoch: 2, Sequence: 9}, Kind: stripe.Data}
				if len(out) > 0 {
					p.Version.Sequence = 8
				}
				for i := len(out); i < 5; i++ { // nodes 1 to 5, as many as any code has
					if i < 3 || len(out) > 0 {
						p.Shards = append(p.Shards, stripe.ShardRun{Shard: blocktree.ShardIndex(i % 3), Answer: &stripe.Message{Node: blocktree.NodeID(i + 1)},
							Payload: make([]byte, code.ShardBytes(sector)), Seals: make([]byte, seal.HeaderBytes)})
					}
				}
				if len(p.Shards) < 2 {
					return nil, blocktree.E("read", blocktree.Corrupt, nil)
				}
				return &stripe.ReadResult{Pieces: []stripe.Piece{p}}, nil
			},
			open: func(p *Piece, _ []byte) error {
				if known && p.Version.Sequence == 8 {
					return nil
				}
				return blocktree.E("open", blocktree.Corrupt, nil)
			},
			wrong:   func(_, _ *Piece, bad *stripe.ShardRun) { named = append(named, bad.Answer.Node) },
			suspect: func(x stripe.Suspect) { named = append(named, x.Node) }}
		err := c.read(7, make([]byte, sector))
		if known != (err == nil) || without < 3 || !known && len(named) > 0 || known && len(named) != 3 {
			t.Errorf("known=%v: %v, without %d, named %v", known, err, without, named)
		}
	}
}

// TestCarefulIsPatient: where what came first does not open, and not all have answered, nobody is left out before they have.
func TestCarefulIsPatient(t *testing.T) {
	code := blocktree.Code{Data: 2, Parity: 1}
	codec, err := erasure.New(code)
	if err != nil {
		t.Fatal(err)
	}
	const sector = 512
	var named []blocktree.NodeID
	c := careful{codec: codec, sectorBytes: sector,
		all: func(care stripe.Care) (*stripe.ReadResult, error) {
			p := stripe.Piece{First: 7, Count: 1, Version: blocktree.Version{Epoch: 2, Sequence: 9}, Kind: stripe.Data}
			for i := range 3 {
				if (i < 2 || care.Patient) && len(care.Without) == 0 {
					x := stripe.ShardRun{Shard: blocktree.ShardIndex(i), Answer: &stripe.Message{Node: blocktree.NodeID(i + 1)},
						Payload: make([]byte, code.ShardBytes(sector)), Seals: make([]byte, seal.HeaderBytes)}
					if i == 0 {
						x.Payload[0] = 1 // it lies
					}
					p.Shards = append(p.Shards, x)
				}
			}
			if len(p.Shards) < 2 {
				return nil, blocktree.E("read", blocktree.Corrupt, nil)
			}
			return &stripe.ReadResult{Pieces: []stripe.Piece{p}, Partial: !care.Patient}, nil
		},
		open: func(p *Piece, _ []byte) error {
			if p.Shards[0].Shard == 0 {
				return blocktree.E("open", blocktree.Corrupt, nil)
			}
			return nil
		},
		wrong:   func(_, _ *Piece, bad *stripe.ShardRun) { named = append(named, bad.Answer.Node) },
		suspect: func(x stripe.Suspect) { named = append(named, x.Node) }}
	if err := c.read(7, make([]byte, sector)); err != nil || len(named) != 1 || named[0] != 1 {
		t.Errorf("%v, named %v", err, named)
	}
}

// TestCarefulTellsOnce: a member's wrong shard of a sector is told of once in a read, however often that looks.
func TestCarefulTellsOnce(t *testing.T) {
	code := blocktree.Code{Data: 1, Parity: 2}
	codec, err := erasure.New(code)
	if err != nil {
		t.Fatal(err)
	}
	const size = 512
	shard := func(i int, lie bool) stripe.ShardRun {
		x := stripe.ShardRun{Shard: blocktree.ShardIndex(i), Answer: &stripe.Message{Node: blocktree.NodeID(i + 1)}, Payload: make([]byte, size), Seals: make([]byte, seal.HeaderBytes)}
		if lie {
			x.Payload[0] = 1
		}
		return x
	}
	looks := 0
	told := map[blocktree.NodeID]int{}
	c := careful{codec: codec, sectorBytes: size, suspect: func(stripe.Suspect) {}, wrong: func(_, _ *Piece, bad *stripe.ShardRun) { told[bad.Answer.Node]++ },
		all: func(stripe.Care) (*stripe.ReadResult, error) { // of sector 7 node 1 lies; sector 8 has a version that nobody opens, until all have answered
			looks++
			v := blocktree.Version{Epoch: 1, Sequence: 1}
			one := stripe.Piece{First: 7, Count: 1, Kind: stripe.Data, Version: v, Shards: []stripe.ShardRun{shard(0, true), shard(1, false)}}
			two := stripe.Piece{First: 8, Count: 1, Kind: stripe.Data, Version: v, Shards: []stripe.ShardRun{shard(2, looks == 1)}}
			return &stripe.ReadResult{Pieces: []stripe.Piece{one, two}, Partial: looks == 1}, nil
		},
		open: func(p *Piece, _ []byte) error {
			if p.Shards[0].Payload[0] != 0 {
				return blocktree.E("open", blocktree.Corrupt, nil)
			}
			return nil
		}}
	if err := c.read(7, make([]byte, 2*size)); err != nil || looks != 2 || len(told) != 1 || told[1] != 1 {
		t.Errorf("%d looks, told %v, %v", looks, told, err)
	}
}

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
		all: func(stripe.Care) (*stripe.ReadResult, error) {
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

// carefulRead reads one sector of 2+1 from what each round gives of it, of versions by sequence: shards of slots, and whether somebody may have more.
func carefulRead(t *testing.T, rounds []carefulRound, opens func(seq blocktree.Sequence, slots []blocktree.ShardIndex) bool) (named []blocktree.NodeID, err error) {
	t.Helper()
	codec, err := erasure.New(blocktree.Code{Data: 2, Parity: 1})
	if err != nil {
		t.Fatal(err)
	}
	const sector = 512
	c := careful{codec: codec, sectorBytes: sector,
		all: func(stripe.Care) (*stripe.ReadResult, error) {
			if len(rounds) == 0 {
				return nil, blocktree.E("read", blocktree.Corrupt, nil)
			}
			x := rounds[0]
			rounds = rounds[1:]
			p := stripe.Piece{First: 7, Count: 1, Version: blocktree.Version{Epoch: 2, Sequence: x.seq}, Kind: stripe.Data}
			for _, i := range x.slots {
				p.Shards = append(p.Shards, stripe.ShardRun{Shard: i, Answer: &stripe.Message{Node: blocktree.NodeID(i + 1)},
					Payload: make([]byte, sector/2), Seals: make([]byte, seal.HeaderBytes)})
			}
			return &stripe.ReadResult{Pieces: []stripe.Piece{p}, Partial: x.partial}, nil
		},
		open: func(p *Piece, _ []byte) error {
			var slots []blocktree.ShardIndex
			for _, s := range p.Shards {
				slots = append(slots, s.Shard)
			}
			if opens(p.Version.Sequence, slots) {
				return nil
			}
			return blocktree.E("open", blocktree.Corrupt, nil)
		},
		wrong:   func(_, _ *Piece, _ *stripe.ShardRun) {},
		suspect: func(x stripe.Suspect) { named = append(named, x.Node) }}
	err = c.read(7, make([]byte, sector))
	return named, err
}

type carefulRound struct {
	seq     blocktree.Sequence
	slots   []blocktree.ShardIndex
	partial bool
}

// TestCarefulKnowsWhoIsMissing: what does not open while somebody has not answered cannot be had now; when all have, it is corrupt.
func TestCarefulKnowsWhoIsMissing(t *testing.T) {
	for partial, want := range map[bool]blocktree.Kind{true: blocktree.Unavailable, false: blocktree.Corrupt} {
		all := carefulRound{9, []blocktree.ShardIndex{0, 1}, partial}
		named, err := carefulRead(t, []carefulRound{all, all, all}, func(blocktree.Sequence, []blocktree.ShardIndex) bool { return false })
		if blocktree.KindOf(err) != want || len(named) > 0 {
			t.Errorf("partial %v: %v, named %v", partial, err, named)
		}
	}
}

// TestCarefulNamesNoTruth: who was left out, as a version did not open with another's wrong shard, is not named when that version opens in the end.
func TestCarefulNamesNoTruth(t *testing.T) {
	for newest, want := range map[blocktree.Sequence]int{9: 0, 8: 2} {
		rounds := []carefulRound{{9, []blocktree.ShardIndex{0, 1}, false}, {newest, []blocktree.ShardIndex{1, 2}, false}}
		named, err := carefulRead(t, rounds, func(_ blocktree.Sequence, slots []blocktree.ShardIndex) bool { return slots[len(slots)-1] == 2 })
		if err != nil || len(named) != want {
			t.Errorf("%d opens: %v, named %v", newest, err, named)
		}
	}
}
