package meta

import (
	"sync"
	"sync/atomic"

	"blocktree"
)

// What may wait for the loop at a time. Raft repeats what is dropped.
const (
	inboxBytesMax   = 16 << 20
	readsWaitingMax = 16384
)

// inbox is what other goroutines hand to the loop; the loop takes all of it at once.
type inbox struct {
	mu        sync.Mutex
	messages  []inMessage
	bytes     int
	proposals []*proposal
	pending   int // proposals handed in and not answered
	reads     []*readWaiter
	waiting   int           // reads handed in and not answered
	wake      chan struct{} // has room for one
}

type inMessage struct {
	from blocktree.NodeID
	env  envelope
}

// proposal is a command, or a change of the members, on its way through Raft.
type proposal struct {
	id     CommandID
	data   []byte
	change *memberChange
	done   chan outcome // room for one
}

// memberChange asks for a member to be added or removed.
type memberChange struct {
	node          blocktree.NodeID
	voter, remove bool
}

type outcome struct {
	result Result
	err    error
}

// readWaiter waits for a ReadIndex.
type readWaiter struct {
	done      chan struct{}
	abandoned atomic.Bool
}

func (b *inbox) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) putMessage(from blocktree.NodeID, env envelope, bytes int) {
	b.mu.Lock()
	if b.bytes+bytes <= inboxBytesMax {
		b.messages = append(b.messages, inMessage{from, env})
		b.bytes += bytes
	}
	b.mu.Unlock()
	b.ring()
}

func (b *inbox) putProposal(p *proposal) error {
	b.mu.Lock()
	full := b.pending >= blocktree.RaftProposalsMax
	if !full {
		b.proposals = append(b.proposals, p)
		b.pending++
	}
	b.mu.Unlock()
	if full {
		return blocktree.E("meta.Propose", blocktree.Unavailable, textError("too many proposals"))
	}
	b.ring()
	return nil
}

func (b *inbox) putRead(r *readWaiter) error {
	b.mu.Lock()
	full := b.waiting >= readsWaitingMax
	if !full {
		b.reads = append(b.reads, r)
		b.waiting++
	}
	b.mu.Unlock()
	if full {
		return blocktree.E("meta.Sync", blocktree.Unavailable, textError("too many reads"))
	}
	b.ring()
	return nil
}

// take empties the inbox.
func (b *inbox) take() (ms []inMessage, ps []*proposal, rs []*readWaiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ms, ps, rs = b.messages, b.proposals, b.reads
	b.messages, b.proposals, b.reads, b.bytes = nil, nil, nil, 0
	return ms, ps, rs
}

// answered counts proposals and reads that are done with.
func (b *inbox) answered(proposals, reads int) {
	b.mu.Lock()
	b.pending -= proposals
	b.waiting -= reads
	b.mu.Unlock()
}
