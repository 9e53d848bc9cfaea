package stripe

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"blocktree"
)

// hostsMax bounds the hosts of a file: the sector hosts of one cluster.
const hostsMax = 1 << 16

// Who has which place of a region (docs/design/0012). By default a hash says: it never changes in the life of a file, as a
// store that replaces another is hashed as that one was. Where it is otherwise, Own says so.

// hashedAs is the id that places of host n are found by, zero if none is.
func (l *Layout) hashedAs(n blocktree.NodeID) blocktree.NodeID {
	if as, other := l.HashedAs[n]; other {
		return as
	}
	return n
}

// weight is what a host weighs in a region: rendezvous hashing (Thaler and Ravishankar 1998) of (file, region, host).
func weight(f blocktree.FileID, r blocktree.RegionIndex, as blocktree.NodeID) uint64 {
	var key [28]byte
	binary.BigEndian.PutUint64(key[0:], uint64(f.Generation))
	binary.BigEndian.PutUint64(key[8:], uint64(f.Inode))
	binary.BigEndian.PutUint32(key[16:], uint32(r))
	binary.BigEndian.PutUint64(key[20:], uint64(as))
	sum := sha256.Sum256(key[:])
	return binary.BigEndian.Uint64(sum[:])
}

// placed chooses the members of a region by their weight: the heaviest serve, in the order of their weight.
func (l *Layout) placed(r blocktree.RegionIndex) []blocktree.NodeID {
	type weighed struct {
		node, as blocktree.NodeID
		weight   uint64
	}
	ws := make([]weighed, 0, len(l.Hosts))
	for _, h := range l.Hosts {
		if as := l.hashedAs(h); as != 0 {
			ws = append(ws, weighed{h, as, weight(l.File, r, as)})
		}
	}
	slices.SortFunc(ws, func(a, b weighed) int {
		if a.weight != b.weight {
			return cmp.Compare(b.weight, a.weight)
		}
		return int(int64(a.as) - int64(b.as)) // a tie of 64-bit hashes: any fixed order
	})
	out := make([]blocktree.NodeID, 0, l.Code.Shards())
	for _, w := range ws[:min(l.Code.Shards(), len(ws))] {
		out = append(out, w.node)
	}
	return out
}

// serves reports whether node is placed in region r by the hash.
func (l *Layout) serves(node blocktree.NodeID, r blocktree.RegionIndex) bool {
	return len(l.Hosts) <= l.Code.Shards() || slices.Contains(l.placed(r), node)
}

// placedByHash reports whether the members of v are those that the hash gives region r.
func (l *Layout) placedByHash(r blocktree.RegionIndex, v View) bool {
	return slices.EqualFunc(l.placed(r), v.Members, func(n blocktree.NodeID, m ViewMember) bool { return n == m.Node })
}

// HasPlace reports whether node has a place in any region, in whatever state, or is the heir of one.
func (l *Layout) HasPlace(node blocktree.NodeID) bool {
	if !slices.Contains(l.Hosts, node) {
		return false
	}
	for r := range l.Regions() {
		if l.View(r).has(node) {
			return true
		}
	}
	return false
}

// place gives the place of from in region r to the node to, which holds nothing there that counts.
func (l *Layout) place(r blocktree.RegionIndex, from, to blocktree.NodeID, inc blocktree.Incarnation) error {
	v := l.View(r)
	i, ok := v.Shard(from)
	if !ok || v.has(to) || to == 0 || v.Members[i].State != Out {
		return blocktree.E("change view", blocktree.Invalid, fmt.Errorf("node %v cannot have the place of %v in region %d", to, from, r))
	}
	if err := l.addSpare(to, inc); err != nil {
		return err
	}
	l.Own[r] = v.with(l.Seq, func(m *ViewMember) {
		if m.Node == from {
			m.Node = to
		}
	})
	return nil
}

// addSpare makes a node a host that the hash never chooses, if it is none.
func (l *Layout) addSpare(n blocktree.NodeID, inc blocktree.Incarnation) error {
	if slices.Contains(l.Hosts, n) {
		return nil
	}
	if len(l.Hosts) >= hostsMax {
		return blocktree.E("change view", blocktree.TooLarge, fmt.Errorf("a file has at most %d hosts", hostsMax))
	}
	l.addHost(n, 0)
	l.Incarnations[n] = inc
	return nil
}

func (l *Layout) addHost(n, as blocktree.NodeID) {
	l.Hosts = append(slices.Clone(l.Hosts), n)
	if l.HashedAs == nil {
		l.HashedAs = map[blocktree.NodeID]blocktree.NodeID{}
	}
	l.HashedAs[n] = as
}

// Replace returns the layout in which the store to has every place that the store from had, and is out in all of them. The
// store from is gone for good, so it leaves the views in the same step. Refused with Unavailable where a region would keep
// fewer than k in-sync members (of a file of durability flush: that have what was flushed), with Invalid unless from is a
// host and to is none. Raft does this for all files in one command; the holder learns of it as it does of a mark.
func (l *Layout) Replace(from, to blocktree.NodeID) (*Layout, error) {
	at := slices.Index(l.Hosts, from)
	if at < 0 || to == 0 || slices.Contains(l.Hosts, to) {
		return nil, blocktree.E("replace", blocktree.Invalid, fmt.Errorf("store %v cannot replace %v", to, from))
	}
	n := l.clone()
	n.Seq++
	if err := n.remove([]blocktree.NodeID{from}); err != nil && !n.Lossy() {
		return nil, err
	}
	as := n.hashedAs(from)
	n.Hosts = slices.Delete(slices.Clone(n.Hosts), at, at+1)
	delete(n.HashedAs, from)
	delete(n.Incarnations, from)
	delete(n.Marked, from)
	delete(n.Back, from)
	delete(n.BaseOut, from)
	n.addHost(to, as)
	n.Incarnations[to] = blocktree.Incarnation{} // it has not started: its join brings its own
	n.BaseOut[to] = true
	n.BaseID = n.Seq
	for r, v := range n.Own {
		if _, ok := v.Shard(from); ok {
			n.Own[r] = v.with(n.Seq, func(m *ViewMember) {
				if m.Node == from {
					m.Node = to
				}
			})
		}
	}
	return n, nil
}
