package stripe

import (
	"fmt"
	"iter"
	"maps"
	"slices"

	"blocktree"
)

// MemberState is a member's standing in a view.
type MemberState uint8

// The states, append-only.
const (
	Out     MemberState = iota // holds nothing that counts
	InSync                     // holds every acknowledged sector
	Joining                    // is being copied up; gets every write
)

// ViewMember is one place of a region's member set; its index in View.Members is its ShardIndex.
type ViewMember struct {
	Node  blocktree.NodeID
	State MemberState
}

// View says who counts in a region.
type View struct {
	ID      blocktree.ViewID
	Members []ViewMember // Code.Shards() of them
	// Heir, unless zero, joins for the place HeirPlace, whose member is in sync and leaves it when the heir is (heir.go).
	Heir      blocktree.NodeID
	HeirPlace blocktree.ShardIndex
}

// Count returns how many members are in state s.
func (v View) Count(s MemberState) int {
	n := 0
	for _, m := range v.Members {
		if m.State == s {
			n++
		}
	}
	return n
}

// Shard returns the place of node in the view, or false.
func (v View) Shard(node blocktree.NodeID) (blocktree.ShardIndex, bool) {
	i := slices.IndexFunc(v.Members, func(m ViewMember) bool { return m.Node == node })
	return blocktree.ShardIndex(max(i, 0)), i >= 0
}

// Layout is what Raft says of one file, as far as the sector protocol goes by it. It is a value: transitions return a
// new one and share nothing that is written to.
type Layout struct {
	File          blocktree.FileID
	Code          blocktree.Code
	SectorBytes   uint32
	RegionSectors uint64
	Sectors       uint64 // that the members keep: the largest size the file has had (resize.go)
	Beyond        uint64 // of these, how many lie behind the end of a file that was made smaller
	// Born, unless zero, is the first region that came to be under the present epoch.
	Born  blocktree.RegionIndex
	Hosts []blocktree.NodeID
	// HashedAs has the hosts that are not placed by a hash of their own id (docs/design/0012): a store that replaced another is
	// hashed as that one was, zero is a host that serves only where Own says so.
	HashedAs map[blocktree.NodeID]blocktree.NodeID
	Epoch    blocktree.Epoch
	Seq      blocktree.ViewID // id of the newest view change of the file
	// Incarnations are what the views expect of each host; Marked hosts have lost theirs (they started anew).
	Incarnations map[blocktree.NodeID]blocktree.Incarnation
	Marked       map[blocktree.NodeID]bool
	// Of a file of durability flush: which marked hosts are back on the disk that the views count on, and as what; how often
	// acknowledged writes may have been lost, and the epoch in which that was last decided.
	Durability Durability
	Back       map[blocktree.NodeID]blocktree.Incarnation
	Loss       uint64
	LossEpoch  blocktree.Epoch
	// Base is the state of each host in the regions that have no entry in Own; BaseID is the id of their views.
	BaseID  blocktree.ViewID
	BaseOut map[blocktree.NodeID]bool
	Own     map[blocktree.RegionIndex]View
}

// Regions is the number of regions of the file.
func (l *Layout) Regions() blocktree.RegionIndex {
	return blocktree.RegionIndex((l.Sectors + l.RegionSectors - 1) / l.RegionSectors)
}

// RunSectorsMax is how many sectors one data record of the file may have: its shards must fit a frame and a record of the
// store even where one shard is the whole sector.
func (l *Layout) RunSectorsMax() uint32 {
	if l.SectorBytes == 0 {
		return blocktree.RunSectorsMax
	}
	return max(1, min(blocktree.RunSectorsMax, blocktree.RunBytesMax/l.SectorBytes))
}

// RegionOf returns the region that a sector lies in.
func (l *Layout) RegionOf(s blocktree.SectorIndex) blocktree.RegionIndex {
	return blocktree.RegionIndex(uint64(s) / l.RegionSectors)
}

// Run returns the first sector of region r and how many it has (the last region may be shorter).
func (l *Layout) Run(r blocktree.RegionIndex) (blocktree.SectorIndex, uint64) {
	first := uint64(r) * l.RegionSectors
	return blocktree.SectorIndex(first), min(l.RegionSectors, l.Sectors-first)
}

// View returns the view of region r.
func (l *Layout) View(r blocktree.RegionIndex) View {
	if v, ok := l.Own[r]; ok {
		return v
	}
	v := View{ID: l.BaseID, Members: make([]ViewMember, 0, l.Code.Shards())}
	for _, n := range l.placed(r) {
		s := InSync
		if l.BaseOut[n] {
			s = Out
		}
		v.Members = append(v.Members, ViewMember{Node: n, State: s})
	}
	return v
}

// Change is one transition of a layout, proposed by the holder of Epoch who has seen Seq.
type Change struct {
	File  blocktree.FileID
	Epoch blocktree.Epoch
	Seq   blocktree.ViewID
	Kind  ChangeKind
	Nodes []blocktree.NodeID // Remove: all of them; Join, Promote, Stay: one; Place, Move: who leaves, who comes
	// Region is the region that is joined, promoted, placed or moved in. Remove is for all regions of the file.
	Region      blocktree.RegionIndex
	Incarnation blocktree.Incarnation // Join, Promote: the incarnation that was copied up; Place, Move: that of who comes
}

// ChangeKind says which transition.
type ChangeKind uint8

// The transitions, append-only.
const (
	ChangeRemove  ChangeKind = iota + 1 // members leave every view of the file
	ChangeJoin                          // a member that is out starts to be copied up
	ChangePromote                       // a joining member is in sync
	ChangePlace                         // a spare gets the place of a member that is out, and is out there itself
	ChangeMove                          // a node becomes the heir of a member that is in sync
	ChangeStay                          // an heir is sent away: the member keeps its place
)

// Apply returns the layout after c. It refuses with Fenced (another epoch), StaleView (another Seq), StaleMember (the
// incarnation is not the node's, or it has never started), Unavailable (a region would keep fewer than k in-sync members) or Invalid.
// current is the incarnation that Raft knows of a node now. A refused change leaves l as it was.
func (l *Layout) Apply(c Change, current func(blocktree.NodeID) blocktree.Incarnation) (*Layout, error) {
	switch {
	case c.Epoch != l.Epoch:
		return nil, blocktree.E("change view", blocktree.Fenced, fmt.Errorf("epoch %d, now %d", c.Epoch, l.Epoch))
	case c.Seq != l.Seq:
		return nil, blocktree.E("change view", blocktree.StaleView, fmt.Errorf("view %d, now %d", c.Seq, l.Seq))
	case !c.shaped(l):
		return nil, blocktree.E("change view", blocktree.Invalid, nil)
	}
	n := l.clone()
	n.Seq++
	switch c.Kind {
	case ChangeRemove:
		return checked(n, n.remove(c.Nodes))
	case ChangePlace:
		if !c.runs(c.Nodes[1], current) {
			return nil, blocktree.E("change view", blocktree.StaleMember, nil)
		}
		return checked(n, n.place(c.Region, c.Nodes[0], c.Nodes[1], c.Incarnation))
	case ChangeMove:
		if !c.runs(c.Nodes[1], current) {
			return nil, blocktree.E("change view", blocktree.StaleMember, nil)
		}
		return checked(n, n.move(c.Region, c.Nodes[0], c.Nodes[1], c.Incarnation))
	case ChangeStay:
		return checked(n, n.stay(c.Region, c.Nodes[0]))
	case ChangeJoin, ChangePromote:
		if !c.runs(c.Nodes[0], current) {
			return nil, blocktree.E("change view", blocktree.StaleMember, nil)
		}
		from, to := Out, Joining
		if c.Kind == ChangePromote {
			if l.Marked[c.Nodes[0]] || l.Incarnations[c.Nodes[0]] != c.Incarnation {
				return nil, blocktree.E("change view", blocktree.StaleMember, nil)
			}
			from, to = Joining, InSync
		}
		return checked(n, n.advance(c.Region, c.Nodes[0], from, to, c.Incarnation))
	}
	return nil, blocktree.E("change view", blocktree.Invalid, nil)
}

// shaped reports whether c names as many nodes as its kind has, and a region that is there.
func (c *Change) shaped(l *Layout) bool {
	switch c.Kind {
	case ChangeRemove:
		return len(c.Nodes) > 0
	case ChangePlace, ChangeMove:
		return len(c.Nodes) == 2 && c.Region < l.Regions()
	}
	return len(c.Nodes) == 1 && c.Region < l.Regions()
}

// runs reports whether node has started, and is still what the change was asked for.
func (c *Change) runs(node blocktree.NodeID, current func(blocktree.NodeID) blocktree.Incarnation) bool {
	return c.Incarnation != blocktree.Incarnation{} && current(node) == c.Incarnation
}

func checked(l *Layout, err error) (*Layout, error) {
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Mark returns the layout after a host has started under another incarnation than its views expect: it stays a member
// until the holder removes it, but nothing counts on it.
func (l *Layout) Mark(node blocktree.NodeID) *Layout {
	n := l.clone()
	n.Seq++
	n.Marked[node] = true
	return n
}

// Acquire returns the layout under a new holder's epoch; joining members are evicted (rule 4). Where the file is Lossy, that
// is the end of it: those that have what was flushed are the views from now on, and Loss says so.
func (l *Layout) Acquire() *Layout {
	n := l.clone()
	n.Epoch++
	n.Seq++
	n.Born = 0
	for r, v := range n.Own {
		if v.Count(Joining) > 0 || v.Heir != 0 {
			n.Own[r] = v.with(n.Seq, func(m *ViewMember) {
				if m.State == Joining {
					m.State = Out
				}
			}).withoutHeir()
		}
	}
	if n.Lossy() {
		n.lose()
	}
	return n
}

func (l *Layout) clone() *Layout {
	n := *l
	n.Incarnations = maps.Clone(l.Incarnations)
	n.Marked = maps.Clone(l.Marked)
	n.Back = maps.Clone(l.Back)
	n.BaseOut = maps.Clone(l.BaseOut)
	n.Own = maps.Clone(l.Own)
	n.HashedAs = maps.Clone(l.HashedAs)
	if n.Incarnations == nil {
		n.Incarnations = map[blocktree.NodeID]blocktree.Incarnation{}
	}
	if n.Marked == nil {
		n.Marked = map[blocktree.NodeID]bool{}
	}
	if n.BaseOut == nil {
		n.BaseOut = map[blocktree.NodeID]bool{}
	}
	if n.Own == nil {
		n.Own = map[blocktree.RegionIndex]View{}
	}
	return &n
}

// with returns v under a new id, each member passed through f.
func (v View) with(id blocktree.ViewID, f func(*ViewMember)) View {
	n := View{ID: id, Members: slices.Clone(v.Members), Heir: v.Heir, HeirPlace: v.HeirPlace}
	for i := range n.Members {
		f(&n.Members[i])
	}
	return n
}

// remove takes nodes out of every view. Only unmarked members count toward the k that must remain.
func (l *Layout) remove(nodes []blocktree.NodeID) error {
	out := func(m *ViewMember) {
		if slices.Contains(nodes, m.Node) {
			m.State = Out
		}
	}
	touched := false
	for _, n := range nodes {
		touched = touched || slices.Contains(l.Hosts, n) && !l.BaseOut[n]
		if slices.Contains(l.Hosts, n) {
			l.BaseOut[n] = true
		}
	}
	if touched {
		l.BaseID = l.Seq
	}
	for r, v := range l.Own {
		if v.Heir != 0 && (slices.Contains(nodes, v.Heir) || slices.Contains(nodes, v.Members[v.HeirPlace].Node)) {
			l.Own[r] = v.with(l.Seq, out).withoutHeir()
		} else if slices.ContainsFunc(v.Members, func(m ViewMember) bool {
			return m.State != Out && slices.Contains(nodes, m.Node)
		}) {
			l.Own[r] = v.with(l.Seq, out)
		}
	}
	return l.checkEnough()
}

// checkEnough refuses a layout in which a region has fewer than k in-sync members whose incarnation still stands.
func (l *Layout) checkEnough() error {
	for r, v := range l.apart() {
		enough := 0
		for _, m := range v.Members {
			if m.State == InSync && !l.Marked[m.Node] {
				enough++
			}
		}
		if enough < l.Code.Data {
			return blocktree.E("change view", blocktree.Unavailable, fmt.Errorf("region %d would keep %d of %d", r, enough, l.Code.Data))
		}
	}
	return nil
}

// apart has the views of all regions, with one region without a view of its own for all of these where every host serves every region.
func (l *Layout) apart() iter.Seq2[blocktree.RegionIndex, View] {
	return func(yield func(blocktree.RegionIndex, View) bool) {
		common := false
		for r := range l.Regions() {
			if _, own := l.Own[r]; !own && len(l.Hosts) <= l.Code.Shards() {
				if common {
					continue
				}
				common = true
			}
			if !yield(r, l.View(r)) {
				return
			}
		}
	}
}

// CanSpare reports whether every region that node is in sync in keeps enough others to be written: MinWrite that are in sync, unmarked
// and, if serves is not nil, serve.
func (l *Layout) CanSpare(node blocktree.NodeID, serves func(blocktree.NodeID) bool) bool {
	for _, v := range l.apart() {
		mine, others := false, 0
		for _, m := range v.Members {
			switch {
			case m.State != InSync || l.Marked[m.Node]:
			case m.Node == node:
				mine = true
			case serves == nil || serves(m.Node):
				others++
			}
		}
		if mine && others < l.Code.MinWrite() {
			return false
		}
	}
	return true
}

// active returns the nodes that are in sync or joining in some region.
func (l *Layout) active() map[blocktree.NodeID]bool {
	on := map[blocktree.NodeID]bool{}
	candidates := map[blocktree.NodeID]bool{}
	for _, n := range l.Hosts {
		if !l.BaseOut[n] && l.hashedAs(n) != 0 {
			candidates[n] = true
		}
	}
	for _, v := range l.Own {
		for _, m := range v.Members {
			if m.State != Out {
				on[m.Node] = true
			}
		}
		if v.Heir != 0 {
			on[v.Heir] = true
		}
	}
	common := false
	for r := blocktree.RegionIndex(0); r < l.Regions() && (!common || len(l.Hosts) > l.Code.Shards()); r++ {
		if _, own := l.Own[r]; own {
			continue
		}
		common = true
		for _, m := range l.View(r).Members {
			if m.State != Out {
				on[m.Node] = true
				delete(candidates, m.Node)
			}
		}
		if len(candidates) == 0 {
			break
		}
	}
	return on
}

// touches reports whether node is in sync or joining in a region whose view is newer than seq.
func (l *Layout) touches(node blocktree.NodeID, seq blocktree.ViewID) bool {
	if l.BaseID > seq && slices.Contains(l.Hosts, node) && !l.BaseOut[node] {
		return true
	}
	for _, v := range l.Own {
		if v.ID > seq && v.standing(node) != Out {
			return true
		}
	}
	return false
}

// advance moves one member of one region from a state to the next, and folds Own away where it says nothing any more.
func (l *Layout) advance(r blocktree.RegionIndex, node blocktree.NodeID, from, to MemberState, inc blocktree.Incarnation) error {
	v := l.View(r)
	if from == Joining && v.Heir == node && node != 0 {
		l.inherit(r, v)
		return nil
	}
	i, ok := v.Shard(node)
	if !ok || v.Members[i].State != from || to == Joining && v.Heir != 0 {
		return blocktree.E("change view", blocktree.Invalid, fmt.Errorf("node %v of region %d is not in the state to advance from", node, r))
	}
	if from == Out {
		if err := l.comeAs(node, inc); err != nil {
			return err
		}
	}
	l.Own[r] = v.with(l.Seq, func(m *ViewMember) {
		if m.Node == node {
			m.State = to
		}
	})
	if to == InSync {
		l.fold(node, r)
	}
	return nil
}

// comeAs has the views expect the incarnation that a node joins as. One that comes back as another must be out everywhere first.
func (l *Layout) comeAs(node blocktree.NodeID, inc blocktree.Incarnation) error {
	if l.Incarnations[node] == inc {
		return nil
	}
	for q := range l.Regions() {
		if l.View(q).standing(node) != Out {
			return blocktree.E("change view", blocktree.StaleMember, nil)
		}
	}
	l.Incarnations[node] = inc
	delete(l.Marked, node)
	delete(l.Back, node)
	return nil
}

// fold shortens the layout after node came to be in sync in region r. It does nothing before the node is so in every region
// that has a view of its own, so it is done about once for each copy-up, as it renews the views of all regions that it
// joins. A region's view of its own goes where it says no more than the common one does, and the node leaves BaseOut once
// no region goes by that. The search for one that does begins behind r, where the next to be copied up is mostly found.
func (l *Layout) fold(node blocktree.NodeID, r blocktree.RegionIndex) {
	for _, v := range l.Own {
		if i, ok := v.Shard(node); ok && v.Members[i].State != InSync {
			return
		}
	}
	if l.BaseOut[node] {
		for n, q := l.Regions(), r; n > 0; n-- {
			if q++; q >= l.Regions() {
				q = 0
			}
			if _, own := l.Own[q]; !own && l.serves(node, q) {
				return
			}
		}
		delete(l.BaseOut, node)
	}
	before := len(l.Own)
	maps.DeleteFunc(l.Own, func(r blocktree.RegionIndex, v View) bool {
		return v.Heir == 0 && !slices.ContainsFunc(v.Members, func(m ViewMember) bool {
			return m.State == Joining || (m.State == Out) != l.BaseOut[m.Node]
		}) && l.placedByHash(r, v)
	})
	if len(l.Own) < before {
		l.BaseID = l.Seq
	}
}
