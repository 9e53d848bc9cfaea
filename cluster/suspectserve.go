package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/internal/bttp"
)

const (
	// tellEvery is how far apart two messages with hints of one client are at least.
	tellEvery = time.Second
	// hintLooksMax bounds how many windows of sectors one runtime may have a node look at in hintLooksEvery: whoever accuses others for no
	// reason costs little more than what a read does.
	hintLooksMax   = 64
	hintLooksEvery = time.Minute
)

// tellSuspects tells every node what this client has met, as long as the client lives.
func (c *Client) tellSuspects() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.suspects.wake:
		}
		if hs := c.suspects.takeHints(); len(hs) > 0 {
			c.peers.broadcast(codeSuspects, encodeHints(hs))
		}
		if !pause(c.ctx, tellEvery) {
			return
		}
	}
}

// hintLooks counts how often runtimes have had a node look.
type hintLooks struct {
	mu    sync.Mutex
	since time.Time
	of    map[blocktree.Principal]int
}

// admit reports whether who may have the node look once more.
func (h *hintLooks) admit(who blocktree.Principal, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil || now.Sub(h.since) >= hintLooksEvery {
		h.of, h.since = map[blocktree.Principal]int{}, now
	}
	if h.of[who] >= hintLooksMax || len(h.of) >= blocktree.RuntimeConnectionsMax {
		return false
	}
	h.of[who]++
	return true
}

// serveSuspects takes hints, and answers whoever asks with what the node knows. What a hint says is kept as said by who said it, and has the scrub look at what
// this node and the others have there: only what it finds is said with certainty.
func (s *Service) serveSuspects(req *bttp.Request) {
	if !req.OneWay {
		req.Reply(nil, encodeSuspects(s.client.suspects.all()))
		return
	}
	who := req.Conn.Peer()
	hs, err := decodeHints(req.Header)
	if err != nil || who.Anonymous() {
		return
	}
	nodes := s.peers.nodes()
	for _, h := range hs {
		if h.node == s.cfg.Node || slices.Contains(nodes, h.node) {
			s.client.suspects.tell(who.Principal, h)
			if s.looks.admit(who.Principal, time.Now()) {
				s.scrubber.noteMet(store.Damage{File: h.file, Sectors: []blocktree.SectorIndex{h.first}})
			}
		}
	}
}

// SuspectStatus is what is known of one kind of act of one node.
type SuspectStatus struct {
	Kind  string    `json:"kind"`
	Times uint64    `json:"times"` // as the node says that saw it most often; where none has, as clients say
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
	File  string    `json:"file"` // of the last: generation.inode
	// Sector is that of the last.
	Sector uint64 `json:"sector"`
	// Nodes are how many other nodes have seen it themselves, Clients how many runtimes have told of it.
	Nodes   int `json:"nodes"`
	Clients int `json:"clients"`
	// Certain: more nodes that keep the file, as the cluster's metadata say, have seen it than its code bears liars.
	Certain bool `json:"certain"`
}

// askSuspects asks one node.
func (c *Client) askSuspects(ctx context.Context, node blocktree.NodeID) (own, told []suspicion, err error) {
	conn := c.peers.conn(node)
	if conn == nil {
		return nil, nil, blocktree.E("suspects", blocktree.Unavailable, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reply, err := conn.CallWait(ctx, codeSuspects, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	defer reply.Release()
	return decodeSuspects(append([]byte(nil), reply.Body...))
}

// suspectSum puts together what nodes say of others. What a node says of itself does not count.
type suspectSum struct {
	mu sync.Mutex
	of map[suspectKey]*suspectOf
}

// suspectOf is what was said of one kind of act of one node.
type suspectOf struct {
	SuspectStatus
	clients map[blocktree.Principal]bool
	nodes   map[blocktree.NodeID]sighting // that have seen it; each with where it did last
	seen    bool                          // Times is of a node that has
}

func newSuspectSum() *suspectSum { return &suspectSum{of: map[suspectKey]*suspectOf{}} }

func (t *suspectSum) add(from blocktree.NodeID, own, told []suspicion) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, x := range slices.Concat(own, told) {
		if x.node == from {
			continue
		}
		z := t.of[x.suspectKey]
		if z == nil {
			z = &suspectOf{SuspectStatus{Kind: x.kind.String(), Since: x.first}, map[blocktree.Principal]bool{}, map[blocktree.NodeID]sighting{}, false}
			t.of[x.suspectKey] = z
		}
		if i < len(own) {
			z.nodes[from] = sighting{x.file, x.sector}
		}
		for _, p := range x.tellers {
			z.clients[p] = true
		}
		if x.first.Before(z.Since) {
			z.Since = x.first
		}
		if !x.last.Before(z.Last) {
			z.Last, z.File, z.Sector = x.last, x.file.String(), uint64(x.sector)
		}
		switch seen := i < len(own); { // what clients say of how often is said by anybody
		case seen && !z.seen:
			z.Times, z.seen = x.count, true
		case seen == z.seen:
			z.Times = max(z.Times, x.count)
		}
		z.Nodes, z.Clients = len(z.nodes), len(z.clients)
	}
}

// suspectsOf lists what is known of a node, by kind.
func (t *suspectSum) suspectsOf(node blocktree.NodeID) (xs []SuspectStatus) {
	for k := range t.of {
		if k.node == node {
			xs = append(xs, t.of[k].SuspectStatus)
		}
	}
	slices.SortFunc(xs, func(a, b SuspectStatus) int { return a.Since.Compare(b.Since) })
	return xs
}
