package sim

import (
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// lieOfList changes what a member tells in a copy-up, as joiner or as one it is compared with.
func (n *node) lieOfList(a *stripe.Message) bool {
	luck := n.w.liars.luck
	switch a.Kind {
	case stripe.KindReset:
		a.Held = !a.Held
		return true
	case stripe.KindDigest:
		if len(a.Payload) == 0 {
			a.Held = !a.Held
			return true
		}
		a.Payload = slices.Clone(a.Payload)
		switch luck.IntN(3) {
		case 0:
			a.Payload[luck.IntN(len(a.Payload))] ^= 1
		case 1:
			a.Payload = a.Payload[1:]
		case 2:
			a.Next += 1000
		}
		return true
	}
	out := make([]stripe.Extent, 0, len(a.Extents))
	what := luck.IntN(6)
	for _, e := range a.Extents {
		switch what {
		case 0: // nothing is there
			continue
		case 1:
			e.Kind = stripe.Zero
		case 2:
			e.Kind, e.Version.Sequence = stripe.Zero, e.Version.Sequence+1
		case 3:
			e.Version.Sequence += 1000
		case 4:
			e.Version = blocktree.Version{Epoch: 1, Sequence: 1}
		case 5:
			e.First += 100
		}
		out = append(out, e)
	}
	a.Extents = out
	return true
}

// lieOfFence changes what a member tells a new holder. What it says of one sector it says of the region.
func (n *node) lieOfFence(x lie, a *stripe.Message) bool {
	luck := n.w.liars.luck
	file := n.w.meta.fileOf(a.File)
	regions := slices.Clone(a.Regions)
	switch x {
	case lieFence:
		switch luck.IntN(3) {
		case 0:
			regions = nil
		case 1:
			for i := range regions {
				regions[i].Pending = nil
			}
		case 2: // other leaves
			for i := range regions {
				regions[i].Pending = slices.Clone(regions[i].Pending)
				for j := range regions[i].Pending {
					regions[i].Pending[j].Digest[0] ^= 1
				}
			}
		}
	case lieFloor:
		high := blocktree.Version{Epoch: max(a.Epoch, 2) - 1, Sequence: []blocktree.Sequence{1, 5, 40, 1 << 40}[luck.IntN(4)]}
		if luck.Float64() < 0.2 {
			high.Epoch = a.Epoch + blocktree.Epoch(luck.IntN(3))
		}
		regions = nil
		for r := range n.w.meta.files[file].layout.Regions() {
			regions = append(regions, stripe.RegionState{Region: r, Watermark: high})
		}
	case lieClaim:
		regions = nil
		for r := range n.w.meta.files[file].layout.Regions() {
			s := stripe.RegionState{Region: r, Pending: []stripe.Extent{{First: 0, Count: 1, Version: blocktree.Version{Epoch: 1, Sequence: 1 << 30}, Kind: stripe.Data, Pending: true}}}
			for _, y := range n.w.writes {
				if y.file == file && y.region == r && y.state == open && len(y.at) > 0 && y.version.Epoch < a.Epoch {
					e := stripe.Extent{First: y.first, Count: y.count, Version: y.version, Kind: stripe.Data, Pending: true, Digest: digestOf(y)}
					if y.zero {
						e.Kind = stripe.Zero
					}
					s.Pending = append(s.Pending, e)
				}
			}
			slices.SortStableFunc(s.Pending, func(a, b stripe.Extent) int {
				if a.Version.Less(b.Version) {
					return -1
				}
				return 1
			})
			regions = append(regions, s)
		}
	case lieBabble:
		switch luck.IntN(3) {
		case 0: // it never ends
			regions, a.Last = []stripe.RegionState{{Region: a.Region}}, false
		case 1:
			regions = append(regions, stripe.RegionState{Region: 1 << 20, Watermark: blocktree.Version{Epoch: 1, Sequence: 1}}, stripe.RegionState{Region: 0})
		case 2:
			regions = append(regions, stripe.RegionState{Region: 0, Pending: []stripe.Extent{{Version: blocktree.Version{Epoch: a.Epoch + 3, Sequence: 1}, Count: 1}}})
		}
	default:
		return false
	}
	a.Regions = regions
	return true
}
