package cluster

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
	"blocktree/internal/bttp"
	"blocktree/internal/erasure"
)

// scrubCheck checks what this node keeps of one region, under one view.
type scrubCheck struct {
	s      *scrubber
	layout *stripe.Layout
	region blocktree.RegionIndex
	view   stripe.View
	shard  blocktree.ShardIndex // this node's place
	others []blocktree.NodeID   // in sync beside it, and up
	codec  *rebuilder
	found  []scrubFound // of the window at hand
	counts ScrubCounts  // of the window at hand
	again  bool         // its sectors are counted by a walk
	// everyone: what each of the others has is compared, not only as many as it takes to rebuild.
	everyone bool
}

// scrubFound is one damaged sector, or missing write.
type scrubFound struct {
	sector  blocktree.SectorIndex
	kind    ScrubKind
	outcome ScrubOutcome
}

// newCheck returns nil where the node is not in sync: what it has does not count there, and copy-up makes it good.
func (s *scrubber) newCheck(l *stripe.Layout, region blocktree.RegionIndex) (*scrubCheck, error) {
	c := &scrubCheck{s: s, layout: l, region: region, view: l.View(region)}
	for i, m := range c.view.Members {
		switch {
		case m.State != stripe.InSync || l.Marked[m.Node]:
		case m.Node == s.node:
			c.shard = blocktree.ShardIndex(i)
			codec, err := erasure.New(l.Code)
			if err != nil {
				return nil, err
			}
			c.codec = &rebuilder{codec: codec, file: l.File, sectorBytes: int(l.SectorBytes)}
		case s.peers.isServing(m.Node):
			c.others = append(c.others, m.Node)
		}
	}
	if c.codec == nil {
		return nil, nil
	}
	return c, nil
}

// message is a request about this region.
func (c *scrubCheck) message(kind stripe.MessageKind, node blocktree.NodeID) *stripe.Message {
	return &stripe.Message{Kind: kind, Node: node, File: c.layout.File, Region: c.region, Epoch: c.layout.Epoch, View: c.view.ID,
		Incarnation: c.layout.Incarnations[node]}
}

// ask sends messages to their nodes, all at once, and returns the answers; nil where none came.
func (c *scrubCheck) ask(ctx context.Context, messages ...*stripe.Message) []*stripe.Message {
	ctx, cancel := context.WithTimeout(ctx, blocktree.MemberTimeout)
	defer cancel()
	answers := make([]*stripe.Message, len(messages))
	var wg sync.WaitGroup
	for i, m := range messages {
		wg.Go(func() { answers[i] = c.askOne(ctx, m) })
	}
	wg.Wait()
	return answers
}

// askOne returns the answer, or nil. It aliases the reply, whose memory the garbage collector gets.
func (c *scrubCheck) askOne(ctx context.Context, m *stripe.Message) *stripe.Message {
	conn := c.s.peers.conn(m.Node)
	if conn == nil {
		return nil
	}
	header, body := stripe.EncodeMessage(m)
	answers := make(chan *stripe.Message, 1) // an answer that comes too late stays in it
	err := conn.CallBulk(codeStripe, header, body, func(r bttp.Reply, err error) {
		var a *stripe.Message
		if err == nil {
			a, err = stripe.DecodeMessage(r.Header, r.Body)
		}
		if err != nil || !a.Answer || a.Kind != m.Kind || a.Err != blocktree.Other {
			a = nil
		}
		answers <- a
	})
	if err != nil {
		return nil
	}
	select {
	case a := <-answers:
		return a
	case <-ctx.Done():
		return nil
	}
}

// scrubSector is what one member has of one sector.
type scrubSector struct {
	x       stripe.Extent // of one sector, committed
	payload []byte        // of Data
	seal    []byte
}

// sectors cuts an answer with shards into its sectors; nil if it makes no sense.
func (c *scrubCheck) sectors(a *stripe.Message, first blocktree.SectorIndex, count uint32) map[blocktree.SectorIndex]scrubSector {
	size := c.layout.Code.ShardBytes(int(c.layout.SectorBytes))
	out := map[blocktree.SectorIndex]scrubSector{}
	payload, seals := a.Payload, a.Seals
	for _, x := range a.Extents {
		if x.Pending && a.Want != stripe.WantExact {
			continue
		}
		if x.First < first || uint64(x.Count) > uint64(count) || uint64(x.First-first)+uint64(x.Count) > uint64(count) {
			return nil
		}
		for i := range x.Count {
			one := scrubSector{x: x}
			one.x.First, one.x.Count = x.First+blocktree.SectorIndex(i), 1
			if x.Kind == stripe.Data && a.Want != stripe.WantVersions {
				if len(payload) < size || len(seals) < seal.HeaderBytes {
					return nil
				}
				one.payload, payload = payload[:size], payload[size:]
				one.seal, seals = seals[:seal.HeaderBytes], seals[seal.HeaderBytes:]
			}
			out[one.x.First] = one
		}
	}
	return out
}

// own reads what this node has of a window. Damaged sectors have no shard. Kind Corrupt where the index is damaged.
func (c *scrubCheck) own(first blocktree.SectorIndex, count uint32) ([]store.Extent, map[blocktree.SectorIndex]scrubSector, error) {
	st := c.s.store
	xs, err := st.Lookup(c.layout.File, first, count, nil)
	if err != nil {
		return nil, nil, err
	}
	var data []store.Extent
	out := map[blocktree.SectorIndex]scrubSector{}
	for _, x := range xs {
		if x.Content != store.Data {
			continue
		}
		data = append(data, x)
		size := int(x.Ref.ShardBytes)
		payload, seals := make([]byte, int(x.Count)*size), make([]byte, int(x.Count)*seal.HeaderBytes)
		err := st.ReadShards(c.layout.File, x, payload, seals)
		bad := map[blocktree.SectorIndex]bool{}
		var damage *store.Damage
		switch {
		case errors.As(err, &damage):
			for _, i := range damage.Sectors {
				bad[i] = true
			}
		case err != nil && c.unchanged(x): // the file is gone
			for i := range x.Count {
				bad[x.First+blocktree.SectorIndex(i)] = true
			}
		case err != nil:
			return nil, nil, err
		}
		for i := range int(x.Count) {
			one := scrubSector{x: stripeExtent(x.Sub(uint32(i), 1))}
			if bad[one.x.First] || x.Ref.Shard != c.shard {
				one.x.Kind = stripe.Damaged
			} else {
				one.payload, one.seal = payload[i*size:(i+1)*size], seals[i*seal.HeaderBytes:(i+1)*seal.HeaderBytes]
			}
			out[one.x.First] = one
		}
	}
	return data, out, nil
}

// unchanged reports whether the index still has an extent as it was.
func (c *scrubCheck) unchanged(x store.Extent) bool {
	now, err := c.s.store.Lookup(c.layout.File, x.First, 1, nil)
	return err == nil && len(now) == 1 && now[0].Version == x.Version && now[0].Ref == x.Ref
}

// diagnose says what kind of damage a sector has.
func (c *scrubCheck) diagnose(data []store.Extent, sector blocktree.SectorIndex) ScrubKind {
	for _, x := range data {
		if sector < x.First || uint64(sector-x.First) >= uint64(x.Count) {
			continue
		}
		if x.Ref.Shard != c.shard {
			return ScrubMisdirected
		}
		switch c.s.store.Diagnose(c.layout.File, x.Sub(uint32(sector-x.First), 1)) {
		case store.FaultLost:
			return ScrubLost
		case store.FaultMisdirected:
			return ScrubMisdirected
		}
	}
	return ScrubBitRot
}

// window checks count sectors, at most RunSectorsMax: the node's own shards, and that they are what k others make of them. It
// repairs those that are not. It reports false where it could not find out for now; found and counts tell what it did.
func (c *scrubCheck) window(ctx context.Context, first blocktree.SectorIndex, count uint32) (bool, error) {
	c.found, c.counts = nil, ScrubCounts{}
	data, own, err := c.own(first, count)
	if err != nil || len(own) == 0 {
		return err == nil, err
	}
	k := c.layout.Code.Data
	if len(c.others) < k { // too few to compare with, or to repair with
		c.checkAlone(data, own)
		return true, nil
	}
	theirs := c.shards(ctx, c.some(first), first, count, stripe.WantShards, blocktree.Version{})
	var all map[blocktree.NodeID]map[blocktree.SectorIndex]scrubSector // of every other member, once that is wanted
	everything := func() {
		if all == nil {
			all = c.shards(ctx, c.others, first, count, stripe.WantShards, blocktree.Version{})
		}
	}
	var mends []scrubMend
	complete, differ := true, false
	for _, sector := range slices.Sorted(maps.Keys(own)) {
		mine := own[sector]
		c.counts.Sectors++
		c.counts.Bytes += uint64(len(mine.payload))
		payload, seals, err := c.rebuild(mine.x, c.having(theirs, mine.x))
		if c.everyone && err == nil {
			c.accuse(mine, theirs)
		}
		if err != nil {
			everything()
			payload, seals, err = c.rebuildOfAll(ctx, mine.x, all)
			c.accuse(mine, all)
		}
		damaged := mine.x.Kind == stripe.Damaged
		switch {
		case err == nil && !damaged && bytes.Equal(payload, mine.payload) && bytes.Equal(seals, mine.seal):
		case err == nil && !damaged && !bytes.Equal(seals, mine.seal):
			everything()
			c.accuse(mine, all)
			switch outcome := c.judge(mine, all); outcome {
			case ScrubRepaired:
				mends = append(mends, scrubMend{mine.x, ScrubMixed, payload, seals})
			case ScrubLater:
				complete = false
				fallthrough
			default:
				c.found = append(c.found, scrubFound{sector, ScrubMixed, outcome})
			}
		case err == nil:
			kind := ScrubMixed
			if damaged {
				kind = c.diagnose(data, sector)
			}
			mends = append(mends, scrubMend{mine.x, kind, payload, seals})
		default:
			differ = true
		}
		if err != nil && !c.left(mine.x, data, err) {
			complete = false
		}
	}
	if differ {
		c.accuseOfVersions(ctx, first, count)
	}
	return c.install(ctx, mends) && complete, nil
}

// some are as many others as it takes to rebuild, other ones for other windows, so that each is looked at in turn; everyone where that is wanted.
func (c *scrubCheck) some(first blocktree.SectorIndex) []blocktree.NodeID {
	if c.everyone {
		return c.others
	}
	turn := int(uint64(first)/blocktree.RunSectorsMax) % len(c.others)
	return slices.Concat(c.others[turn:], c.others[:turn])[:c.layout.Code.Data]
}

// accuse names members whose shards of a sector are not what the others, and this node, make of them.
func (c *scrubCheck) accuse(mine scrubSector, theirs map[blocktree.NodeID]map[blocktree.SectorIndex]scrubSector) {
	shards := c.having(theirs, mine.x)
	if mine.x.Kind == stripe.Data {
		shards = append(shards, stripe.ShardRun{Shard: c.shard, Payload: mine.payload, Seals: mine.seal})
	}
	run := stripe.Piece{First: mine.x.First, Count: 1, Version: mine.x.Version, Kind: stripe.Data, Shards: shards}
	for _, s := range shards {
		if s.Shard == c.shard {
			continue
		}
		payload, seals, err := c.codec.Rebuild(s.Shard, run)
		if err != nil {
			return // nobody can tell who is wrong
		}
		if !bytes.Equal(payload, s.Payload) || !bytes.Equal(seals, s.Seals) {
			c.suspect(c.view.Members[s.Shard].Node, stripe.SuspectShard, mine.x.First)
		}
	}
}

func (c *scrubCheck) suspect(node blocktree.NodeID, kind stripe.SuspectKind, sector blocktree.SectorIndex) {
	c.s.suspects.seen(stripe.Suspect{Node: node, Kind: kind, File: c.layout.File, First: sector, Count: 1}, c.layout.Code.Parity)
}

// left notes a sector of which nothing could be made out of what the others have. It reports false where that may be another time.
func (c *scrubCheck) left(x stripe.Extent, data []store.Extent, err error) bool {
	switch {
	case !c.isStill(x): // it was overwritten meanwhile
	case x.Kind == stripe.Damaged:
		outcome := ScrubBeyond
		if blocktree.KindOf(err) != blocktree.Corrupt {
			outcome = ScrubLater
		}
		c.found = append(c.found, scrubFound{x.First, c.diagnose(data, x.First), outcome})
		return outcome == ScrubBeyond
	case blocktree.KindOf(err) == blocktree.Unavailable: // else it is old, or the others' are damaged
		return false
	}
	return true
}

// accuseOfVersions names who lies of versions; what this node misses a comparison of the digests finds.
func (c *scrubCheck) accuseOfVersions(ctx context.Context, first blocktree.SectorIndex, count uint32) {
	found := c.found
	c.versionsOf(ctx, first, count)
	c.found = found
}

// judge says what is to become of a shard that checks and is of another sealed sector than k others make. Those may be the ones that
// are wrong, or lie: it is replaced only if every member has told, and so few have what it is of that nobody could read it.
func (c *scrubCheck) judge(mine scrubSector, all map[blocktree.NodeID]map[blocktree.SectorIndex]scrubSector) ScrubOutcome {
	with := 1
	for _, t := range all {
		if x := t[mine.x.First]; x.x.Version == mine.x.Version && x.payload != nil && bytes.Equal(x.seal, mine.seal) {
			with++
		}
	}
	switch {
	case with >= c.layout.Code.Data:
		return ScrubBeyond
	case len(all) < len(c.view.Members)-1:
		return ScrubLater
	}
	return ScrubRepaired
}

// checkAlone goes by checksums only.
func (c *scrubCheck) checkAlone(data []store.Extent, own map[blocktree.SectorIndex]scrubSector) {
	for _, sector := range slices.Sorted(maps.Keys(own)) {
		c.counts.Sectors++
		c.counts.Bytes += uint64(len(own[sector].payload))
		if own[sector].x.Kind == stripe.Damaged {
			c.found = append(c.found, scrubFound{sector, c.diagnose(data, sector), ScrubLater})
		}
	}
}

// isStill reports whether the index still names the version.
func (c *scrubCheck) isStill(x stripe.Extent) bool {
	now, err := c.s.store.Lookup(c.layout.File, x.First, 1, nil)
	return err != nil || len(now) == 1 && now[0].Version == x.Version
}

// shards asks nodes for what they have of a window.
func (c *scrubCheck) shards(ctx context.Context, nodes []blocktree.NodeID, first blocktree.SectorIndex, count uint32, want stripe.Want,
	v blocktree.Version) map[blocktree.NodeID]map[blocktree.SectorIndex]scrubSector {
	messages := make([]*stripe.Message, len(nodes))
	for i, n := range nodes {
		messages[i] = c.message(stripe.KindRead, n)
		messages[i].First, messages[i].Count, messages[i].Want, messages[i].Version = first, uint64(count), want, v
	}
	out := map[blocktree.NodeID]map[blocktree.SectorIndex]scrubSector{}
	for i, a := range c.ask(ctx, messages...) {
		if a == nil {
			continue
		}
		a.Want = want
		c.counts.Bytes += uint64(len(a.Payload))
		if sectors := c.sectors(a, first, count); sectors != nil {
			out[nodes[i]] = sectors
		}
	}
	return out
}

// having gathers the shards that are of the version of x.
func (c *scrubCheck) having(theirs map[blocktree.NodeID]map[blocktree.SectorIndex]scrubSector, x stripe.Extent) (shards []stripe.ShardRun) {
	for i, m := range c.view.Members {
		if t, ok := theirs[m.Node][x.First]; ok && t.x.Kind == stripe.Data && t.x.Version == x.Version && t.payload != nil {
			shards = append(shards, stripe.ShardRun{Shard: blocktree.ShardIndex(i), Payload: t.payload, Seals: t.seal})
		}
	}
	return shards
}

// rebuild makes this node's shard of a sector out of others, checked by the leaf. Kind Unavailable where they are too few.
func (c *scrubCheck) rebuild(x stripe.Extent, shards []stripe.ShardRun) (payload, seals []byte, err error) {
	if len(shards) < c.layout.Code.Data {
		return nil, nil, blocktree.E("scrub", blocktree.Unavailable, nil)
	}
	return c.codec.Rebuild(c.shard, stripe.Piece{First: x.First, Count: 1, Version: x.Version, Kind: stripe.Data, Shards: shards})
}

// rebuildOfAll is rebuild out of what every other member has. Of members that have another version it asks for this one, which they
// may have in flight. Kind Corrupt if all of the region's members have answered and no k have good shards, NotFound if one has a newer version.
func (c *scrubCheck) rebuildOfAll(ctx context.Context, x stripe.Extent, all map[blocktree.NodeID]map[blocktree.SectorIndex]scrubSector) (payload, seals []byte, err error) {
	if payload, seals, err = c.rebuild(x, c.having(all, x)); err == nil {
		return payload, seals, nil
	}
	kind := blocktree.Corrupt
	if len(all) != len(c.view.Members)-1 {
		kind = blocktree.Unavailable
	}
	differs := false
	for _, t := range all {
		have := t[x.First].x.Version
		differs = differs || have != x.Version
		if x.Version.Less(have) { // it is on its way here, or was lost: versions tells
			kind = blocktree.NotFound
		}
	}
	if differs {
		exact := c.shards(ctx, c.others, x.First, 1, stripe.WantExact, x.Version)
		if payload, seals, err = c.rebuild(x, c.having(exact, x)); err == nil {
			return payload, seals, nil
		}
	}
	return nil, nil, blocktree.E("scrub", kind, err)
}

// scrubMend is a good shard for the place of a bad one.
type scrubMend struct {
	x       stripe.Extent
	kind    ScrubKind
	payload []byte
	seals   []byte
}

// records makes records of shards in ascending order: neighbours of one version are one.
func (c *scrubCheck) records(mends []scrubMend) (out []*stripe.Record) {
	for _, m := range mends {
		if n := len(out); n > 0 {
			if last := out[n-1]; last.Version == m.x.Version && last.First+blocktree.SectorIndex(last.Count) == m.x.First {
				last.Count++
				last.Payload, last.Seals = append(last.Payload, m.payload...), append(last.Seals, m.seals...)
				continue
			}
		}
		out = append(out, &stripe.Record{Kind: stripe.RecordData, File: c.layout.File, Region: c.region, First: m.x.First, Count: 1,
			Version: m.x.Version, Installed: true, Shard: c.shard, ShardBytes: uint32(len(m.payload)), Payload: m.payload, Seals: m.seals})
	}
	return out
}

// install gives the shards to the node's own member, which admits them only while view, epoch and incarnation are what they were
// when they were asked for, and notes what came of them. It reports whether all are stored.
func (c *scrubCheck) install(ctx context.Context, mends []scrubMend) bool {
	records := c.records(mends)
	messages := make([]*stripe.Message, len(records))
	for i, r := range records {
		r.Digest = digestOf(r.Seals)
		messages[i] = c.message(stripe.KindInstall, c.s.node)
		messages[i].Version, messages[i].Record = r.Version, r
	}
	all := true
	stored := map[blocktree.SectorIndex]bool{}
	for i, a := range c.ask(ctx, messages...) {
		for j := range records[i].Count {
			stored[records[i].First+blocktree.SectorIndex(j)] = a != nil
		}
		all = all && a != nil
	}
	for _, m := range mends {
		outcome := ScrubLater
		if stored[m.x.First] {
			outcome = ScrubRepaired
		}
		c.found = append(c.found, scrubFound{m.x.First, m.kind, outcome})
	}
	return all
}
