package route

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"unsafe"

	"blocktree"
)

// sets keeps each list of runtimes once, however many scopes name it: those of a cluster are named by all that lies in it.
type sets struct {
	seed  maphash.Seed
	list  []set // list[0] is that of nobody
	free  uint32
	of    map[uint64]uint32 // by the hash of what is in it
	bytes int
}

type set struct {
	runtimes   []blocktree.Runtime
	generation blocktree.Generation
	directory  blocktree.Scope
	refs       uint32
	next       uint32 // where it is not used: the next one that is not
	hash       uint64
}

// setBytes is what a set costs beside its runtimes: itself, and its place in the map.
const setBytes = int(unsafe.Sizeof(set{}))*5/4 + 40

func newSets() *sets {
	return &sets{seed: maphash.MakeSeed(), list: make([]set, 1), of: map[uint64]uint32{}}
}

func runtimesBytes(list []blocktree.Runtime) int {
	n := 0
	for _, r := range list {
		n += int(unsafe.Sizeof(r)) + len(r.Path) + 16
		for _, e := range r.Endpoints {
			n += len(e) + 24
		}
		for _, s := range r.Services {
			n += len(s) + 24
		}
	}
	return n
}

func (s *sets) hash(dir blocktree.Scope, g blocktree.Generation, list []blocktree.Runtime) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	text := func(v string) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(v)))
		_, _ = h.Write(n[:])
		_, _ = h.WriteString(v)
	}
	text(string(dir))
	_ = binary.Write(&h, binary.BigEndian, uint64(g))
	for _, r := range list {
		text(string(r.Path))
		_, _ = h.Write(r.Principal[:])
		_ = binary.Write(&h, binary.BigEndian, uint64(r.Node))
		for _, e := range r.Endpoints {
			text(e)
		}
		text("")
		for _, v := range r.Services {
			text(v)
		}
		text("")
	}
	return h.Sum64()
}

func (s *set) equal(dir blocktree.Scope, g blocktree.Generation, list []blocktree.Runtime) bool {
	return s.directory == dir && s.generation == g && slices.EqualFunc(s.runtimes, list, func(a, b blocktree.Runtime) bool {
		return a.Path == b.Path && a.Principal == b.Principal && a.Node == b.Node && slices.Equal(a.Endpoints, b.Endpoints) && slices.Equal(a.Services, b.Services)
	})
}

// take returns the set with these runtimes, which it copies if they are new, for one more user.
func (s *sets) take(dir blocktree.Scope, g blocktree.Generation, list []blocktree.Runtime) uint32 {
	h := s.hash(dir, g, list)
	i, known := s.of[h]
	if known && s.list[i].equal(dir, g, list) {
		s.list[i].refs++
		return i
	}
	copied := make([]blocktree.Runtime, len(list))
	for j, r := range list {
		copied[j] = clone(r)
	}
	n := s.free
	if n != 0 {
		s.free = s.list[n].next
	} else {
		n = uint32(len(s.list))
		s.list = append(s.list, set{})
	}
	s.list[n] = set{runtimes: copied, generation: g, directory: dir, refs: 1, hash: h}
	if !known { // of two with one hash the later is kept for each of its users
		s.of[h] = n
	}
	s.bytes += setBytes + runtimesBytes(copied)
	return n
}

// drop is one user less.
func (s *sets) drop(i uint32) {
	if i == 0 {
		return
	}
	at := &s.list[i]
	if at.refs--; at.refs > 0 {
		return
	}
	if s.of[at.hash] == i {
		delete(s.of, at.hash)
	}
	s.bytes -= setBytes + runtimesBytes(at.runtimes)
	*at = set{next: s.free}
	s.free = i
}
