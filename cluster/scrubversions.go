package cluster

import (
	"bytes"
	"context"

	"blocktree"
	"blocktree/cluster/stripe"
)

// scrubBlock is how many sectors one digest stands for.
const scrubBlock = stripe.ExtentsMax

// versions compares which versions this node has of sectors from first to end, at most DigestSectorsMax, with what the others in sync
// have. It reports false where it could not find out for now; found tells what it found.
func (c *scrubCheck) versions(ctx context.Context, first, end blocktree.SectorIndex) bool {
	c.found, c.counts = nil, ScrubCounts{}
	nodes := append([]blocktree.NodeID{c.s.node}, c.others...)
	messages := make([]*stripe.Message, len(nodes))
	for i, n := range nodes {
		messages[i] = c.message(stripe.KindDigest, n)
		messages[i].First, messages[i].Count = first, scrubBlock
	}
	answers := c.ask(ctx, messages...)
	complete := answers[0] != nil
	for at := first; at < end; at += scrubBlock {
		from := int(at-first) / scrubBlock * stripe.DigestBytes
		differs := false
		for _, a := range answers {
			if a == nil || len(a.Payload) < from+stripe.DigestBytes || !complete {
				complete = false
				continue
			}
			if !bytes.Equal(a.Payload[from:from+stripe.DigestBytes], answers[0].Payload[from:from+stripe.DigestBytes]) {
				differs = true
			}
		}
		for w := at; differs && w < min(at+scrubBlock, end); {
			n := uint32(min(uint64(c.layout.RunSectorsMax()), uint64(min(at+scrubBlock, end)-w)))
			if !c.versionsOf(ctx, w, n) {
				complete = false
			}
			w += blocktree.SectorIndex(n)
		}
	}
	return complete
}

// known is what a member knows of one sector: what it has committed, and what it has in flight.
type known struct {
	committed stripe.Extent
	pending   []blocktree.Version
}

// has reports whether the version, or a newer one, was stored.
func (k known) has(v blocktree.Version) bool {
	if !k.committed.Version.Less(v) {
		return true
	}
	for _, p := range k.pending {
		if p == v {
			return true
		}
	}
	return false
}

// versionsOf compares one window, sector by sector. Order (I11): 1. the others tell. 2. Then this node does: what one of them has
// committed it must have by then. 3. Then the others again: what this node has committed they must have by then.
func (c *scrubCheck) versionsOf(ctx context.Context, first blocktree.SectorIndex, count uint32) bool {
	before := c.know(ctx, c.others, first, count)
	mine := c.know(ctx, []blocktree.NodeID{c.s.node}, first, count)[c.s.node]
	after := c.know(ctx, c.others, first, count)
	if mine == nil {
		return false
	}
	complete := len(after) == len(c.others)
	k := c.layout.Code.Data
	for sector := first; sector < first+blocktree.SectorIndex(count); sector++ {
		newest := stripe.Extent{}
		for _, t := range before {
			if x := t[sector].committed; newest.Version.Less(x.Version) {
				newest = x
			}
		}
		have := mine[sector]
		lost, v := !have.has(newest.Version), have.committed.Version
		if lost {
			v = newest.Version
		}
		with := 0
		for _, t := range after {
			if t[sector].has(v) {
				with++
			}
		}
		c.accuseOf(sector, v, lost, with, after)
		c.accuseKinds(sector, have.committed, after)
		switch {
		case lost && with >= k:
			c.found = append(c.found, scrubFound{sector, ScrubLost, ScrubCopyUp})
		case !lost && complete && with < len(c.view.Members)-1 && len(after) == len(c.view.Members)-1 && with+1 < k:
			c.found = append(c.found, scrubFound{sector, ScrubMixed, ScrubBeyond})
		}
	}
	return complete
}

// accuseOf names others that have not what this node and more than half have, or claim what more than half do not know: each was asked after the
// version was known to be there.
func (c *scrubCheck) accuseOf(sector blocktree.SectorIndex, v blocktree.Version, lost bool, with int, after map[blocktree.NodeID]map[blocktree.SectorIndex]known) {
	if v.IsZero() {
		return
	}
	without := len(after) - with
	if lost {
		without++ // this node
	} else {
		with++
	}
	enough := max(c.layout.Code.Data, c.view.Count(stripe.InSync)/2+1)
	for n, t := range after {
		switch has := t[sector].has(v); {
		case !has && !lost && with >= enough:
			c.suspect(n, stripe.SuspectLost, sector)
		case has && lost && without >= enough && t[sector].committed.Version == v:
			c.suspect(n, stripe.SuspectVersion, sector)
		}
	}
}

// accuseKinds names others that make zeros of the data, or data of the zeros, that this node and more than half have under one version.
func (c *scrubCheck) accuseKinds(sector blocktree.SectorIndex, mine stripe.Extent, after map[blocktree.NodeID]map[blocktree.SectorIndex]known) {
	if mine.Kind != stripe.Data && mine.Kind != stripe.Zero {
		return
	}
	var other []blocktree.NodeID
	alike := 1
	for n, t := range after {
		switch x := t[sector].committed; {
		case x.Version != mine.Version || x.Kind == stripe.Damaged:
		case x.Kind == mine.Kind:
			alike++
		default:
			other = append(other, n)
		}
	}
	for _, n := range other {
		if alike >= max(c.layout.Code.Data, c.view.Count(stripe.InSync)/2+1) {
			c.suspect(n, stripe.SuspectVersion, sector)
		}
	}
}

// know asks nodes what they know of a window; who does not answer is not in it.
func (c *scrubCheck) know(ctx context.Context, nodes []blocktree.NodeID, first blocktree.SectorIndex, count uint32) map[blocktree.NodeID]map[blocktree.SectorIndex]known {
	messages := make([]*stripe.Message, len(nodes))
	for i, n := range nodes {
		messages[i] = c.message(stripe.KindRead, n)
		messages[i].First, messages[i].Count, messages[i].Want = first, uint64(count), stripe.WantVersions
	}
	out := map[blocktree.NodeID]map[blocktree.SectorIndex]known{}
	end := first + blocktree.SectorIndex(count)
	for i, a := range c.ask(ctx, messages...) {
		if a == nil {
			continue
		}
		of := map[blocktree.SectorIndex]known{}
		for _, x := range a.Extents {
			for sector := max(x.First, first); sector < min(x.First+blocktree.SectorIndex(x.Count), end); sector++ {
				k := of[sector]
				if x.Pending {
					k.pending = append(k.pending, x.Version)
				} else {
					k.committed = x
				}
				of[sector] = k
			}
		}
		out[nodes[i]] = of
	}
	return out
}
