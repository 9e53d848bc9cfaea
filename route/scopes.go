package route

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"strings"
	"time"
	"unsafe"

	"blocktree"
)

// scopes has the records of each scope that something is known of. A scope is found by the hash of its path, in one table for all, and so is each of those above it, of which nothing need be
// known: who looks for the longest beginning of a path asks for all of them at once. What a question costs is what it reads that is in no cache of the processor, one after the other: that is a slot,
// a record and a set, however long the path, as the slots of all beginnings are read before anything depends on one of them, and then all their records.
type scopes struct {
	keys    [4]uint64                          // secret
	slots   []slot                             // open addressing, linear probing; a power of two
	used    int                                // scopes that have records
	depths  [blocktree.PathDepthMax + 1]uint32 // how many of them are so many names deep: what no scope is as deep as is not looked for
	records []record
	free    uint32 // the first record that is not used, linked by next
	kept    int    // records
	look    way    // of the question that is looked up: too large to be made anew for each
}

// place says which scope it is: two hashes of its path, each under secret keys. Names are not kept beside them: that two of a million scopes have the same 128 bits happens to nobody, and who chooses names cannot bring it about.
type place struct{ hash, check uint64 }

// record is one thing that is known of a scope, until a time. Those of a scope are a list. records[0] is nobody.
type record struct {
	place
	expires   time.Duration // since the cache was made
	next, set uint32        // set 0: nobody
	kind      recordKind    // 0: it is not used
	service   uint8         // number of its name
	covers    bool          // what it says holds for all that is below
	used      bool          // since the hand came by
	depth     uint8         // of its scope
}

// slot leads to the first record of a scope. It has a part of the hash beside that, so that only the right record is looked at, most of the time.
type slot struct{ tag, first uint32 }

const (
	slotsMin = 64
	// scopeBytes is what a scope costs beside its records: its slots, of which three in eight are used after the table has grown.
	scopeBytes = int(unsafe.Sizeof(slot{})) * 8 / 3
	// recordBytes is a record, and what append keeps for more.
	recordBytes = int(unsafe.Sizeof(record{})) * 5 / 4
)

func newScopes() *scopes {
	s := &scopes{slots: make([]slot, slotsMin), records: make([]record, 1)}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	for i := range s.keys {
		s.keys[i] = binary.LittleEndian.Uint64(b[8*i:]) | 1 // not zero, by which all would be
	}
	return s
}

// way is a path from the root directory on: the place of each beginning of it, and what the first slot of each has.
type way struct {
	n      int // of places, the root directory's among them
	places [blocktree.PathDepthMax + 1]place
	slots  [blocktree.PathDepthMax + 1]slot
	heads  [blocktree.PathDepthMax + 1]uint32 // the first record of each, 0 for none; set by find
}

func (p *place) tag() uint32 { return uint32(p.hash >> 32) }

// follow cuts a path up; nil for one of another domain, and one that is too long to be any. What it returns holds until it is called again.
func (s *scopes) follow(root, path string) *way {
	if len(path) > blocktree.PathBytesMax || len(path) < len(root) || path[:len(root)] != root || len(path) > len(root) && path[len(root)] != '/' {
		return nil
	}
	w, mask := &s.look, uint32(len(s.slots)-1)
	w.n = 1
	w.places[0], w.slots[0] = place{}, slot{}
	if s.depths[0] > 0 {
		w.slots[0] = s.slots[0]
	}
	var p place
	for rest := path[len(root):]; rest != ""; {
		if w.n == len(w.places) {
			return nil
		}
		name := rest[1:]
		if i := strings.IndexByte(name, '/'); i >= 0 {
			name = name[:i]
		}
		rest = rest[1+len(name):]
		p = s.below(p, name)
		w.places[w.n], w.slots[w.n] = p, slot{}
		if s.depths[w.n] > 0 {
			w.slots[w.n] = s.slots[p.tag()&mask]
		}
		w.n++
	}
	return w
}

// below is the place of a name in a scope. Each eight bytes are folded in, and the length with the last, so that other names, or another way to cut a path into names, are others.
func (s *scopes) below(p place, name string) place {
	n := uint64(len(name))
	a, b := p.hash^s.keys[0], p.check^s.keys[1]
	for ; len(name) > 8; name = name[8:] {
		w := word(name)
		a, b = fold(a^w, s.keys[2]), fold(b^w, s.keys[3])
	}
	w := n << 56 // of seven bytes and fewer nothing else is there
	if len(name) == 8 {
		w = word(name)
	} else {
		for i := range len(name) {
			w |= uint64(name[i]) << (8 * i)
		}
	}
	return place{fold(a^w, s.keys[2]+2*n), fold(b^w, s.keys[3]+2*n)}
}

// word is the first eight bytes of a text.
func word(t string) uint64 {
	return uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 | uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56
}

// fold multiplies by a key, and has both halves of the product in one.
func fold(x, key uint64) uint64 {
	high, low := bits.Mul64(x, key)
	return high ^ low
}

// find sets the heads of a way.
func (s *scopes) find(w *way) {
	for i := range w.n {
		w.heads[i] = s.head(&w.places[i], w.slots[i])
	}
}

// head returns the first record of a scope, 0 for none; x is what its first slot has.
func (s *scopes) head(p *place, x slot) uint32 {
	tag, mask := p.tag(), uint32(len(s.slots)-1)
	for at := tag & mask; x.first != 0; x = s.slots[at] {
		if x.tag == tag && s.records[x.first].place == *p {
			return x.first
		}
		at = (at + 1) & mask
	}
	return 0
}

// headOf is head of a scope whose slot was not read yet.
func (s *scopes) headOf(p *place) uint32 {
	return s.head(p, s.slots[p.tag()&uint32(len(s.slots)-1)])
}

// of returns the record of a scope, in the list that begins with head, of a kind and service; 0 if it has none.
func (s *scopes) of(head uint32, kind recordKind, service uint8) uint32 {
	i := head
	for i != 0 && (s.records[i].kind != kind || s.records[i].service != service) {
		i = s.records[i].next
	}
	return i
}

// add keeps a record of its place, beside those that are there, and returns its number.
func (s *scopes) add(r record) uint32 {
	head, i := s.headOf(&r.place), s.free
	if i != 0 {
		s.free = s.records[i].next
	} else {
		i = uint32(len(s.records))
		if len(s.records) == cap(s.records) { // as append would, but for the pages
			more := make([]record, len(s.records), cap(s.records)*5/4+16)
			inLargePages(more)
			copy(more, s.records)
			s.records = more
		}
		s.records = append(s.records, record{})
	}
	if s.kept++; head != 0 {
		r.next, s.records[head].next = s.records[head].next, i
		s.records[i] = r
		return i
	}
	r.next = 0
	s.records[i] = r
	if (s.used+1)*4 > len(s.slots)*3 {
		old := s.slots
		s.slots = make([]slot, 2*len(old))
		inLargePages(s.slots)
		for _, x := range old {
			if x.first != 0 {
				s.put(x)
			}
		}
	}
	s.used++
	s.depths[r.depth]++
	s.put(slot{r.tag(), i})
	return i
}

func (s *scopes) put(x slot) {
	mask := uint32(len(s.slots) - 1)
	i := x.tag & mask
	for s.slots[i].first != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = x
}

// remove takes a record out.
func (s *scopes) remove(i uint32) {
	r := s.records[i]
	if head := s.headOf(&r.place); head != i {
		for s.records[head].next != i {
			head = s.records[head].next
		}
		s.records[head].next = r.next
	} else {
		s.begin(i, r.next)
	}
	s.records[i] = record{next: s.free}
	s.free = i
	s.kept--
}

// begin has the list that begins with a record begin with another; with 0 the scope is gone, and what had to go past its slot moves up.
func (s *scopes) begin(old, first uint32) {
	mask := uint32(len(s.slots) - 1)
	i := s.records[old].tag() & mask
	for s.slots[i].first != old {
		i = (i + 1) & mask
	}
	if first != 0 {
		s.slots[i].first = first
		return
	}
	for j := i; ; {
		j = (j + 1) & mask
		next := s.slots[j]
		if next.first == 0 {
			break
		}
		if (j-next.tag)&mask >= (j-i)&mask {
			s.slots[i] = next
			i = j
		}
	}
	s.slots[i] = slot{}
	s.used--
	s.depths[s.records[old].depth]--
}
