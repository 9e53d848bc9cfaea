package stripe

import (
	"slices"

	"blocktree"
)

// Redundancy is how many members of a file there are to count on. InSync is a minimum over the file's regions, Joining a maximum.
type Redundancy struct {
	Members int // that each region has
	InSync  int // that hold every acknowledged sector and can be reached
	Joining int // that are copied up
	Moving  int // places that other nodes are copied up for
	ToRead  int // in sync that it takes
	ToWrite int // likewise
}

// Redundancy tells it, where serves says of a node that it can be reached. It looks at every region that is not like all others, and at all others only if they
// lack something.
func (l *Layout) Redundancy(serves func(blocktree.NodeID) bool) Redundancy {
	r := Redundancy{Members: l.Code.Shards(), InSync: l.Code.Shards(), ToRead: l.Code.Data, ToWrite: l.Code.MinWrite()}
	known := make(map[blocktree.NodeID]bool, len(l.Hosts))
	counts := func(n blocktree.NodeID) bool {
		yes, ok := known[n]
		if !ok {
			yes = !l.Marked[n] && serves(n)
			known[n] = yes
		}
		return yes
	}
	whole := len(l.BaseOut) == 0
	for _, n := range l.Hosts {
		whole = counts(n) && whole
	}
	look := func(v View) {
		inSync, joining := 0, 0
		for _, m := range v.Members {
			switch {
			case m.State == InSync && counts(m.Node):
				inSync++
			case m.State == Joining:
				joining++
			}
		}
		r.InSync, r.Joining = min(r.InSync, inSync), max(r.Joining, joining)
		if v.Heir != 0 {
			r.Moving++
		}
	}
	if whole {
		for _, v := range l.Own {
			look(v)
		}
		return r
	}
	for i := range l.Regions() {
		look(l.View(i))
	}
	return r
}

// Places returns how many places a node has, or is the heir of, and how many bytes of shards those have at most.
func (l *Layout) Places(node blocktree.NodeID) (places, bytes uint64) {
	if !slices.Contains(l.Hosts, node) {
		return 0, 0
	}
	for r := range l.Regions() {
		v := l.View(r)
		if v.Heir == node { // it cannot go before it has given that up
			places++
		}
		if _, there := v.Shard(node); there {
			_, sectors := l.Run(r)
			places++
			bytes += sectors * uint64(l.Code.ShardBytes(int(l.SectorBytes)))
		}
	}
	return places, bytes
}
