package cluster

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"blocktree"
)

const (
	// leaderShunFor is how long a node that did not answer is not asked because others say that it leads.
	leaderShunFor = 10 * time.Second
	// leaderPatience is how long one says nothing that did not answer: what it refuses, as it has no leader yet, is an answer.
	leaderPatience = time.Second
)

// lead is which node of a cluster is asked first: who leads, as the last answer said (docs/design/0087-fewer-messages.md), or who answered last.
type lead struct {
	patience time.Duration // leaderPatience

	mu      sync.Mutex
	node    blocktree.NodeID               // zero: the first
	shunned map[blocktree.NodeID]time.Time // until when
}

// first is the index of who of nodes, which ascend, is to be asked first.
func (l *lead) first(nodes []blocktree.NodeID) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index(nodes)
}

func (l *lead) index(nodes []blocktree.NodeID) int {
	i, _ := slices.BinarySearch(nodes, l.node)
	return i % max(1, len(nodes))
}

// failed has the one after node be asked next, unless that is another already. shun says that node did not answer.
func (l *lead) failed(nodes []blocktree.NodeID, node blocktree.NodeID, shun bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.index(nodes); nodes[i] == node {
		l.node = nodes[(i+1)%len(nodes)]
	}
	if !shun {
		return
	}
	for n := range l.shunned {
		if _, known := slices.BinarySearch(nodes, n); !known {
			delete(l.shunned, n)
		}
	}
	if l.shunned == nil {
		l.shunned = map[blocktree.NodeID]time.Time{}
	}
	l.shunned[node] = time.Now().Add(leaderShunFor)
}

// heard heeds the header of an answer, if a request reaches the node that it names.
func (l *lead) heard(header []byte, reaches func(blocktree.NodeID) bool) {
	node, ok := leaderOf(header)
	if !ok || !reaches(node) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if until, ok := l.shunned[node]; !ok || time.Now().After(until) {
		l.node = node
	}
}

// leaderHeader is the header of an answer to a command or query: which node leads, if that is known. A version before looks at none.
func (s *Service) leaderHeader() []byte {
	node, ok := s.group.Leader()
	if !ok {
		return nil
	}
	return binary.BigEndian.AppendUint64(nil, uint64(node))
}

// leaderOf is what a leaderHeader says; false: nothing, or something that this version does not know.
func leaderOf(header []byte) (blocktree.NodeID, bool) {
	if len(header) != 8 {
		return 0, false
	}
	return blocktree.NodeID(binary.BigEndian.Uint64(header)), true
}
