package sim

import (
	"encoding/binary"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// In a world with liars who reads opens what came with the file's key, as cluster.careful does, and where some sector does not open reads every shard there is. A
// sector opens if somebody has sealed it, as what its version says, for its place; the world knows.

// careful is what a read knows that met a sector which did not open.
type careful struct {
	care    stripe.Care
	partial bool      // of what came last, that some member may yet have what opens
	claims  []claimed // by those that are left out
}

// claimed is what a member that gave a shard of what does not open said of its version.
type claimed struct {
	stripe.Suspect
	version blocktree.Version
}

// opens reports whether k shards of one sector, of which the first has the seal, are what was sealed.
func (w *World) opens(o *op, s blocktree.SectorIndex, v blocktree.Version, shards []stripe.ShardRun, i int) bool {
	x := w.byVer[versionKey{o.file, w.meta.files[o.file].layout.RegionOf(s), v}]
	if x == nil || len(x.at) == 0 || x.zero || s < x.first || s >= x.first+blocktree.SectorIndex(x.count) {
		return false
	}
	k := w.cfg.Code.Data
	xs, ys := make([]blocktree.ShardIndex, k), make([]uint32, k)
	for j := range k {
		xs[j], ys[j] = shards[j].Shard, binary.BigEndian.Uint32(shards[j].Payload[i*shardBytes:])
	}
	value, err := decode(s, xs, weights(xs), ys)
	return err == nil && value == x.value && sealFits(shards[0].Seals[i*stripe.SealBytes:], value, s)
}

// openAll reports whether every sector of a result opens.
func (w *World) openAll(o *op, res *stripe.ReadResult) bool {
	for _, p := range res.Pieces {
		for i := range p.Count {
			if p.Kind == stripe.Data && !w.opens(o, p.First+blocktree.SectorIndex(i), p.Version, p.Shards, int(i)) {
				return false
			}
		}
	}
	return true
}

// useKey opens what a read has found. It reports whether that is all; else the read begins again, with care.
func (c *client) useKey(o *op, res *stripe.ReadResult) (opened *stripe.ReadResult, over bool) {
	w := c.w
	if o.careful == nil {
		if w.openAll(o, res) {
			return res, true
		}
		w.count.CarefulReads++
		c.readAll(o, &careful{})
		return nil, false
	}
	k := o.careful
	k.partial = res.Partial
	out, claim := c.openWhat(o, res)
	switch {
	case len(claim) == 0:
		for _, x := range k.claims { // the version that opens was no lie: another's shard was wrong
			if !slices.ContainsFunc(res.Pieces, func(p stripe.Piece) bool {
				return p.Version == x.version && x.First >= p.First && x.First < p.First+blocktree.SectorIndex(p.Count)
			}) {
				c.suspect(x.Suspect)
			}
		}
		return out, true
	case res.Partial && !k.care.Patient:
		k.care.Patient = true
	default:
		before := len(k.care.Without)
		for _, s := range claim {
			if !slices.Contains(k.care.Without, s.Node) {
				k.care.Without = append(slices.Clip(k.care.Without), s.Node)
			}
		}
		if len(k.care.Without) == before {
			return nil, true
		}
		k.claims = append(k.claims, claim...)
	}
	c.readAll(o, k)
	return nil, false
}

// readAll has a read begin again, of every shard there is.
func (c *client) readAll(o *op, k *careful) {
	o.careful = k
	if c.reader {
		o.tries, o.layout = 0, nil
		c.tryRead(o)
		return
	}
	h := c.h
	c.later(0, func() {
		if c.h == h && slices.Contains(c.ops, o) {
			c.input(func() { h.ReadAll(o.id, o.region, o.first, o.count, k.care) })
		}
	})
}

// openWhat opens each sector by itself, from whichever k shards open, and returns who gave what does not.
func (c *client) openWhat(o *op, res *stripe.ReadResult) (out *stripe.ReadResult, claim []claimed) {
	w := c.w
	out = &stripe.ReadResult{}
	for _, p := range res.Pieces {
		if p.Kind != stripe.Data {
			out.Pieces = append(out.Pieces, p)
			continue
		}
		for i := range p.Count {
			one := stripe.Piece{First: p.First + blocktree.SectorIndex(i), Count: 1, Version: p.Version, Kind: p.Kind}
			for _, s := range p.Shards {
				one.Shards = append(one.Shards, stripe.ShardRun{Shard: s.Shard, Answer: s.Answer, Payload: s.Payload[int(i)*shardBytes : int(i+1)*shardBytes],
					Seals: s.Seals[int(i)*stripe.SealBytes : int(i+1)*stripe.SealBytes]})
			}
			good := w.choice(o, &one)
			if good == nil {
				for _, s := range one.Shards {
					claim = append(claim, claimed{stripe.Suspect{Node: s.Answer.Node, Kind: stripe.SuspectVersion, File: w.meta.files[o.file].layout.File, First: one.First, Count: 1}, p.Version})
				}
				continue
			}
			c.mendWrong(o, &one)
			one.Shards = good
			out.Pieces = append(out.Pieces, one)
		}
	}
	return out, claim
}

// choice is some k shards of one sector that open, nil if there are none.
func (w *World) choice(o *op, p *stripe.Piece) []stripe.ShardRun {
	k := w.cfg.Code.Data
	for set := uint32(0); set < 1<<len(p.Shards); set++ {
		var try []stripe.ShardRun
		for i := range p.Shards {
			if set>>i&1 == 1 {
				try = append(try, p.Shards[i])
			}
		}
		if len(try) == k && w.opens(o, p.First, p.Version, try, 0) {
			return try
		}
	}
	return nil
}

// mendWrong names who gave a wrong shard of a sector that opens, and has it installed again.
func (c *client) mendWrong(o *op, p *stripe.Piece) {
	w := c.w
	value := w.byVer[versionKey{o.file, o.region, p.Version}].value
	for _, s := range p.Shards {
		if binary.BigEndian.Uint32(s.Payload) == shardOf(w.cfg.Code.Data, value, p.First, s.Shard) && sealFits(s.Seals, value, p.First) {
			continue
		}
		c.suspect(stripe.Suspect{Node: s.Answer.Node, Kind: stripe.SuspectShard, File: w.meta.files[o.file].layout.File, First: p.First, Count: 1})
		if h, first, shard := c.h, p.First, s.Shard; h != nil && !w.liars.silent {
			c.n++
			id, version := c.n, p.Version
			c.later(0, func() {
				if c.h == h {
					c.mends = append(c.mends, id)
					c.input(func() { h.Repair(id, o.region, first, 1, version, shard) })
				}
			})
		}
	}
}

func (c *client) suspect(s stripe.Suspect) {
	if c.reader {
		c.r.Distrust(s.Node)
	} else if c.h != nil {
		c.h.Distrust(s.Node)
	}
	c.w.checkSuspects([]stripe.Suspect{s})
}

// codec is what the client's holder rebuilds shards with.
func (c *client) codec(code blocktree.Code) codec {
	if len(c.w.liars.nodes) == 0 {
		return codec{code: code}
	}
	return codec{code: code, bySeals: true, wrong: func(a *stripe.Message, s blocktree.SectorIndex) {
		c.h.Distrust(a.Node)
		c.w.checkSuspects([]stripe.Suspect{{Node: a.Node, Kind: stripe.SuspectShard, File: c.h.Layout().File, First: s, Count: 1}})
	}}
}

// rebuildBySeals rebuilds a shard as cluster.rebuilder does: what more members have the same seals of is believed, and where as many have others that fit,
// nothing is. A seal has no key here: of one shard alone, k = 1, any fits that its member has made for it.
func (x codec) rebuildBySeals(target blocktree.ShardIndex, run stripe.Piece) (payload, seals []byte, err error) {
	var groups [][]stripe.ShardRun
	for _, s := range run.Shards {
		i := slices.IndexFunc(groups, func(g []stripe.ShardRun) bool { return string(g[0].Seals) == string(s.Seals) })
		if i < 0 {
			groups, i = append(groups, nil), len(groups)
		}
		groups[i] = append(groups[i], s)
	}
	slices.SortStableFunc(groups, func(a, b []stripe.ShardRun) int { return len(b) - len(a) })
	var values []uint32
	most := 0
	for _, g := range groups {
		v := x.valuesOf(run, g)
		switch {
		case len(g) < most:
		case v == nil:
		case most > 0:
			return nil, nil, blocktree.E("rebuild", blocktree.Corrupt, nil)
		default:
			values, most = v, len(g)
		}
	}
	if most == 0 {
		return nil, nil, blocktree.E("rebuild", blocktree.Corrupt, nil)
	}
	for i, v := range values {
		s := run.First + blocktree.SectorIndex(i)
		shards, seal := encode(x.code, v, s, 1)
		payload = append(payload, shards[target]...)
		seals = append(seals, seal...)
		for _, have := range run.Shards {
			if string(have.Payload[i*shardBytes:(i+1)*shardBytes]) != string(shards[have.Shard]) || string(have.Seals[i*stripe.SealBytes:(i+1)*stripe.SealBytes]) != string(seal) {
				if have.Answer != nil && len(run.Shards) > x.code.Data {
					x.wrong(have.Answer, s)
				}
			}
		}
	}
	return payload, seals, nil
}

// valuesOf decodes a run from some k of shards that have the same seals, nil if no k fit.
func (x codec) valuesOf(run stripe.Piece, from []stripe.ShardRun) []uint32 {
	for set := uint32(0); set < 1<<len(from); set++ {
		var try []stripe.ShardRun
		for i := range from {
			if set>>i&1 == 1 {
				try = append(try, from[i])
			}
		}
		if len(try) != x.code.Data {
			continue
		}
		if v, err := decodeRun(x.code, run.First, run.Count, try); err == nil {
			return v
		}
	}
	return nil
}
