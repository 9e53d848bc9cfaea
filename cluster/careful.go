package cluster

import (
	"errors"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/erasure"
)

// careful reads a run of which some sector did not open: it gathers every shard there is and tries each choice of k per sector until one opens. Where none does,
// those that said that this is the newest version are left out, if enough others say so, and it begins again: no key has made it. They are named only once
// what the others have opens: else it may be the key that is missing.
type careful struct {
	codec       *erasure.Codec
	sectorBytes int
	file        blocktree.FileID
	// all reads every shard of the run.
	all func(stripe.Care) (*stripe.ReadResult, error)
	// open opens a piece of one sector. It is told of one without data, too, whose part was cleared: what it noted of a look before is over.
	open func(*Piece, []byte) error
	// wrong is told of each shard that is not what the others make of it; good are k that agree.
	wrong   func(one, good *Piece, bad *stripe.ShardRun)
	suspect func(stripe.Suspect)
}

func (c *careful) read(first blocktree.SectorIndex, dst []byte) error {
	c.wrong = once(c.wrong)
	var care stripe.Care
	var claims []claimed // by those that are left out
	partial := false     // somebody did not answer, who may have what opens
	for {
		res, err := c.all(care)
		if err != nil {
			clear(dst)
			return unlessPartial(partial, err)
		}
		partial = res.Partial
		claim, err := c.openWhat(res, first, dst)
		if err != nil {
			return err
		}
		if len(claim) == 0 {
			for _, x := range claims {
				if !x.isRead(res) {
					c.suspect(x.Suspect)
				}
			}
			return nil
		}
		if res.Partial && !care.Patient { // who is slow, or is not connected yet, may have what is right
			care.Patient = true
			continue
		}
		before := len(care.Without)
		for _, x := range claim {
			if !slices.Contains(care.Without, x.Node) {
				care.Without = append(slices.Clip(care.Without), x.Node)
			}
		}
		if len(care.Without) == before {
			clear(dst)
			return unlessPartial(partial, blocktree.E("cluster", blocktree.Corrupt, errors.New("no k shards of the sector agree")))
		}
		claims = append(claims, claim...)
	}
}

// once tells of each member's shard of a sector once, however often a read looks at it.
func once(wrong func(one, good *Piece, bad *stripe.ShardRun)) func(one, good *Piece, bad *stripe.ShardRun) {
	type shard struct {
		node   blocktree.NodeID
		sector blocktree.SectorIndex
	}
	told := map[shard]bool{}
	return func(one, good *Piece, bad *stripe.ShardRun) {
		if k := (shard{bad.Answer.Node, one.First}); !told[k] {
			told[k] = true
			wrong(one, good, bad)
		}
	}
}

// unlessPartial makes of too few good shards, while somebody has not answered, that they cannot be had now.
func unlessPartial(partial bool, err error) error {
	if partial && blocktree.KindOf(err) == blocktree.Corrupt {
		return blocktree.E("cluster", blocktree.Unavailable, errors.New("no k shards of the sector agree, and some member has not answered"))
	}
	return err
}

// openWhat opens what came into dst, and returns who gave what does not open.
func (c *careful) openWhat(res *stripe.ReadResult, first blocktree.SectorIndex, dst []byte) (claim []claimed, err error) {
	for _, p := range piecesOf(res, c.codec, c.sectorBytes) {
		for i := range p.Count {
			one := p.sector(i)
			at := int(one.First-first) * c.sectorBytes
			part := dst[at : at+c.sectorBytes]
			switch {
			case !one.Data():
				clear(part)
				if err := c.open(&one, part); err != nil {
					return nil, err
				}
			case !c.openAnyhow(&one, part):
				claim = append(claim, claimants(c.file, &one)...)
			}
		}
	}
	return claim, nil
}

// claimed is what a member that gave a shard of what does not open said of its version.
type claimed struct {
	stripe.Suspect
	version blocktree.Version
}

// claimants are the members that gave shards of a sector, once each.
func claimants(file blocktree.FileID, p *Piece) (xs []claimed) {
	for _, s := range p.Shards {
		xs = append(xs, claimed{stripe.Suspect{Node: s.Answer.Node, Kind: stripe.SuspectVersion, File: file, First: p.First, Count: 1}, p.Version})
	}
	return xs
}

// isRead reports whether the version is what was read of the sector in the end: then it was no lie, but another's shard was wrong.
func (x *claimed) isRead(res *stripe.ReadResult) bool {
	return slices.ContainsFunc(res.Pieces, func(p stripe.Piece) bool {
		return p.Version == x.version && x.First >= p.First && x.First < p.First+blocktree.SectorIndex(p.Count)
	})
}

// choicesMax bounds how many choices of k shards are tried for a sector: all of them up to 16+4 with a few bad ones.
const choicesMax = 5000

// openAnyhow tries choices of k shards until one opens, and tells of those that it shows to be wrong.
func (c *careful) openAnyhow(p *Piece, dst []byte) (opened bool) {
	tried := 0
	choose(len(p.Shards), c.codec.Code().Data, func(choice []int) bool {
		tried++
		try := *p
		try.Shards = nil
		for _, i := range choice {
			try.Shards = append(try.Shards, p.Shards[i])
		}
		if c.open(&try, dst) != nil {
			return tried < choicesMax
		}
		opened = true
		wrongShards(c.codec, p.Shards, try.Shards, func(bad *stripe.ShardRun) { c.wrong(p, &try, bad) })
		return false
	})
	return opened
}

// wrongShards calls f with each shard of one sector that is not what good ones, k of them, make of it.
func wrongShards(codec *erasure.Codec, all, good []stripe.ShardRun, f func(*stripe.ShardRun)) {
	shards := make([][]byte, codec.Code().Shards())
	for _, s := range good {
		shards[s.Shard] = s.Payload
	}
	if codec.Reconstruct(shards) != nil {
		return
	}
	for i := range all {
		if s := &all[i]; string(shards[s.Shard]) != string(s.Payload) || string(s.Seals) != string(good[0].Seals) {
			f(s)
		}
	}
}

// SameSeals reports whether the shards of the piece agree on leaves, nonces and tags. Where a key opens sectors it need not be asked; a leaf without one
// a single member could make up.
func (p *Piece) SameSeals() bool { return sameSeals(p.Shards) }

const (
	// mendEvery is how long a shard that was installed again is not installed again: who still gives a wrong one lies.
	mendEvery = 10 * time.Minute
	// mendsKnownMax bounds how many such shards a handle knows, mendsPerSecond how many it installs again.
	mendsKnownMax  = 4096
	mendsPerSecond = 64
)

// mendedShard is one shard of one sector.
type mendedShard struct {
	sector blocktree.SectorIndex
	shard  blocktree.ShardIndex
}

// mended remembers what was installed again, and keeps to the rate. It is guarded by the handle's mutex.
type mended struct {
	at     map[mendedShard]time.Time
	second time.Time
	count  int
}

// may reports whether a shard is to be installed again now, and whether it was before, so that its member lies again.
func (m *mended) may(s mendedShard, now time.Time) (mend, again bool) {
	if at, ok := m.at[s]; ok && now.Sub(at) < mendEvery {
		return false, true
	}
	if now.Sub(m.second) >= time.Second {
		m.second, m.count = now, 0
	}
	if m.count >= mendsPerSecond {
		return false, false
	}
	if m.at == nil || len(m.at) >= mendsKnownMax {
		m.at = map[mendedShard]time.Time{}
	}
	m.count++
	m.at[s] = now
	return true, false
}
