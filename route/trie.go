package route

import (
	"encoding/binary"
	"hash/maphash"
	"strings"

	"blocktree"
)

// trie has a node for each scope that something is known of, and for those above it. A node is found by the hash of its path in one hash table for the
// whole trie: a map in each node would cost more than the rest. Nodes are numbers: a million pointers would cost the collector of garbage. What a question costs is what it reads that
// is in no cache of the processor: a slot and a node for each name.
type trie struct {
	seed  maphash.Seed
	nodes []node // nodes[topNode] is the root directory; nodes[0] is nobody
	free  uint32 // first of the nodes that are not used, linked by parent
	used  int
	slots []slot   // open addressing, linear probing; a power of two
	long  []string // names that do not fit their node; long[0] is nobody's
	gone  []uint32 // those of long that are not used
	bytes int      // what long names cost
}

// slot has the hash beside the node, so that only the right node is looked at, most of the time.
type slot struct{ hash, node uint32 }

// node is one directory or file.
type node struct {
	parent, records, children uint32 // records: the first of its list, 0 for none
	name                      [shortName + 1]byte
}

const (
	topNode  = 1
	slotsMin = 64
	// shortName is the most bytes of a name that is kept in its node, after its length. Of a longer one a node has longName and its number.
	shortName = 19
	longName  = 0xff
	// nodeBytes is what a node costs: itself, what append keeps for more, and its slots, of which three in eight are used after the table has grown.
	nodeBytes = 32*5/4 + 8*8/3
	// longBytes is what a long name costs beside its bytes.
	longBytes = 16*5/4 + 16
)

func newTrie() *trie {
	return &trie{seed: maphash.MakeSeed(), nodes: make([]node, topNode+1, slotsMin), slots: make([]slot, slotsMin), long: make([]string, 1), used: 1}
}

// way is a path below the root directory, name by name, with the hash of the path down to each. It lives on the stack.
type way struct {
	path  string
	n     int // how many names
	names [blocktree.PathDepthMax]struct {
		start, end uint16
		hash       uint32
		first      slot // what its first slot has
	}
}

func (w *way) name(i int) string { return w.path[w.names[i].start:w.names[i].end] }

// follow cuts a path up; false for one of another domain, and one that is too long to be any. It reads the first slots of all names before anything depends on
// them, so that the processor waits for memory once and not once for each name: that is why the hash of a name is one of the whole path to it.
func (t *trie) follow(root, path string, w *way) bool {
	if len(path) > blocktree.PathBytesMax || len(path) < len(root) || path[:len(root)] != root || len(path) > len(root) && path[len(root)] != '/' {
		return false
	}
	w.path = path
	mask := uint32(len(t.slots) - 1)
	h := uint64(0)
	for at := len(root); at < len(path); {
		if w.n == len(w.names) {
			return false
		}
		name := &w.names[w.n]
		name.start, name.end = uint16(at+1), uint16(len(path))
		if i := strings.IndexByte(path[at+1:], '/'); i >= 0 {
			name.end = uint16(at + 1 + i)
		}
		at = int(name.end)
		h = t.hash(h, w.name(w.n))
		name.hash = uint32(h >> 32)
		name.first = t.slots[name.hash&mask]
		w.n++
	}
	return true
}

// hash goes on from that of the path before a name. It is secret: who chooses names cannot make them collide.
func (t *trie) hash(before uint64, name string) uint64 {
	h := maphash.String(t.seed, name) ^ before*0x9e3779b97f4a7c15
	return (h ^ h>>32) * 0xd6e8feb86659fd93
}

// hashOf is the hash of a node's path.
func (t *trie) hashOf(n uint32) uint64 {
	if n == topNode {
		return 0
	}
	return t.hash(t.hashOf(t.nodes[n].parent), t.nameOf(&t.nodes[n]))
}

// nameOf returns a node's name, in a copy unless it is a long one.
func (t *trie) nameOf(n *node) string {
	if n.name[0] == longName {
		return t.long[binary.BigEndian.Uint32(n.name[1:])]
	}
	return string(n.name[1 : 1+n.name[0]])
}

// isNamed compares without a copy.
func (t *trie) isNamed(n *node, name string) bool {
	if len(name) > shortName {
		return n.name[0] == longName && t.long[binary.BigEndian.Uint32(n.name[1:])] == name
	}
	return int(n.name[0]) == len(name) && string(n.name[1:1+len(name)]) == name
}

// child returns the node of the i-th name of a way, below that of the name before it; 0 if there is none. The trie has not changed since follow.
func (t *trie) child(parent uint32, w *way, i int) uint32 {
	if t.nodes[parent].children == 0 {
		return 0
	}
	h, s := w.names[i].hash, w.names[i].first
	mask := uint32(len(t.slots) - 1)
	for at := h & mask; s.node != 0; s = t.slots[at] {
		if s.hash == h {
			if n := &t.nodes[s.node]; n.parent == parent && t.isNamed(n, w.name(i)) {
				return s.node
			}
		}
		at = (at + 1) & mask
	}
	return 0
}

// add makes the nodes of a way that are not there, and returns the last one. Names are copied: a part of a path would keep all of that.
func (t *trie) add(w *way) uint32 {
	at, i := uint32(topNode), 0
	for ; i < w.n; i++ {
		next := t.child(at, w, i)
		if next == 0 {
			break
		}
		at = next
	}
	for ; i < w.n; i++ {
		at = t.create(at, w.names[i].hash, w.name(i))
	}
	return at
}

// create makes a node.
func (t *trie) create(parent, hash uint32, name string) uint32 {
	if (t.used+1)*4 > len(t.slots)*3 {
		old := t.slots
		t.slots = make([]slot, 2*len(old))
		for _, s := range old {
			if s.node != 0 {
				t.place(s)
			}
		}
	}
	n := t.free
	if n != 0 {
		t.free = t.nodes[n].parent
	} else {
		n = uint32(len(t.nodes))
		t.nodes = append(t.nodes, node{})
	}
	at := node{parent: parent}
	if len(name) <= shortName {
		at.name[0] = byte(len(name))
		copy(at.name[1:], name)
	} else {
		at.name[0] = longName
		binary.BigEndian.PutUint32(at.name[1:], t.addLong(name))
	}
	t.nodes[n] = at
	t.nodes[parent].children++
	t.used++
	t.place(slot{hash: hash, node: n})
	return n
}

func (t *trie) addLong(name string) (i uint32) {
	if last := len(t.gone) - 1; last >= 0 {
		i, t.gone = t.gone[last], t.gone[:last]
	} else {
		i = uint32(len(t.long))
		t.long = append(t.long, "")
	}
	t.long[i] = strings.Clone(name)
	t.bytes += longBytes + len(name)
	return i
}

func (t *trie) place(s slot) {
	mask := uint32(len(t.slots) - 1)
	i := s.hash & mask
	for t.slots[i].node != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

// prune takes out n, and what is above it, as far as nothing needs it.
func (t *trie) prune(n uint32) {
	for n != topNode && t.nodes[n].records == 0 && t.nodes[n].children == 0 {
		at := &t.nodes[n]
		up := at.parent
		t.unplace(n)
		if at.name[0] == longName {
			i := binary.BigEndian.Uint32(at.name[1:])
			t.bytes -= longBytes + len(t.long[i])
			t.long[i] = ""
			t.gone = append(t.gone, i)
		}
		*at = node{parent: t.free}
		t.free = n
		t.nodes[up].children--
		t.used--
		n = up
	}
}

// unplace empties n's slot and moves up what had to go past it.
func (t *trie) unplace(n uint32) {
	mask := uint32(len(t.slots) - 1)
	i := uint32(t.hashOf(n)>>32) & mask
	for t.slots[i].node != n {
		i = (i + 1) & mask
	}
	for j := i; ; {
		j = (j + 1) & mask
		next := t.slots[j]
		if next.node == 0 {
			break
		}
		if (j-next.hash)&mask >= (j-i)&mask {
			t.slots[i] = next
			i = j
		}
	}
	t.slots[i] = slot{}
}
