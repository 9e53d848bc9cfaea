package cluster

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/internal/wire"
)

// How much room there is: docs/design/0068-real-programs.md.

const spaceFormat = 1

// Space is how many bytes there is room for.
type Space struct {
	FreeBytes  uint64 `json:"freeBytes"`  // that data may still take
	TotalBytes uint64 `json:"totalBytes"` // those, and what is taken already, by whomever
}

// Encode is a space on the wire, as a node tells its own, and a filesystem service that of a cluster.
func (x Space) Encode() []byte {
	var e wire.Encoder
	e.U8(spaceFormat)
	e.U64(x.FreeBytes)
	e.U64(x.TotalBytes)
	return e.Buf
}

// DecodeSpace is the reverse of Encode; Invalid for what makes no sense.
func DecodeSpace(b []byte) (x Space, err error) {
	d := wire.NewDecoder(b)
	d.Format(spaceFormat)
	x.FreeBytes, x.TotalBytes = d.U64(), d.U64()
	if d.Err() == nil && (x.FreeBytes > x.TotalBytes || x.TotalBytes > math.MaxInt64) {
		d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("more is free than there is")))
	}
	return x, d.Finish()
}

// serveState answers how the node is.
func (s *Service) serveState(req *bttp.Request) {
	if req.Code == codeSpace {
		s.serveSpace(req)
		return
	}
	s.serveScrub(req)
}

// serveSpace answers whoever is in the domain with the room on the disk of the node's store.
func (s *Service) serveSpace(req *bttp.Request) {
	switch free, size := s.member.store.Space(); {
	case req.OneWay || req.Conn.Peer().Anonymous():
		req.Fail(blocktree.E("space", blocktree.Permission, nil))
	case size == math.MaxInt64 || free < 0 || size <= 0:
		req.Fail(blocktree.E("space", blocktree.Unsupported, errors.New("the file system does not say")))
	default: // a file system may count them apart
		req.Reply(nil, Space{uint64(min(free, size)), uint64(size)}.Encode())
	}
}

// askSpace asks one node.
func (c *Client) askSpace(ctx context.Context, node blocktree.NodeID) (Space, error) {
	conn := c.peers.conn(node)
	if conn == nil {
		return Space{}, blocktree.E("space", blocktree.Unavailable, errors.New("the node does not answer"))
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reply, err := conn.CallWait(ctx, codeSpace, nil, nil)
	if err != nil {
		return Space{}, err
	}
	defer reply.Release()
	return DecodeSpace(reply.Body)
}

// spaces are what nodes have told of their room.
type spaces struct {
	turn chan struct{} // holds a token while somebody looks at the rest
	at   time.Time     // when they were asked
	told map[blocktree.NodeID]Space
}

func newSpaces() *spaces {
	return &spaces{turn: make(chan struct{}, 1), told: map[blocktree.NodeID]Space{}}
}

// Space is how much more files of a code could hold in the client's cluster, and how much they could in all if they had the disks for themselves, both by the node that has least of it: files are spread over all nodes evenly, so that one is
// full first. Nodes are asked once in SpaceBelievedFor, all at the same time; of one that does not answer what it said before counts, and else nothing. Where the cluster has too few nodes for the code nothing is free. It is a guess: nodes on
// one disk count it each, regions are not spread evenly while they are few, and whoever else writes is not known of. Kinds: Unsupported, where no node tells.
func (c *Client) Space(ctx context.Context, code blocktree.Code) (Space, error) {
	x := c.spaces
	select {
	case x.turn <- struct{}{}:
		defer func() { <-x.turn }()
	case <-ctx.Done():
		return Space{}, blocktree.E("space", blocktree.Unavailable, ctx.Err())
	}
	nodes := c.peers.nodes()
	if now := c.cfg.Clock.Now(); x.at.IsZero() || now.Sub(x.at) >= blocktree.SpaceBelievedFor || now.Before(x.at) {
		x.told = askSpaces(nodes, x.told, func(n blocktree.NodeID) (Space, error) { return c.askSpace(ctx, n) })
		x.at = c.cfg.Clock.Now() // one that does not answer holds up who asks no more often
	}
	if ctx.Err() != nil { // not all were asked
		x.at = time.Time{}
		return Space{}, blocktree.E("space", blocktree.Unavailable, ctx.Err())
	}
	if len(x.told) == 0 {
		x.at = time.Time{}
		return Space{}, &blocktree.Error{Op: "space", Path: c.cfg.Scope.Short(), Kind: blocktree.Unsupported, Err: errors.New("no node tells"), Hint: "nodes of versions before do not"}
	}
	return roomFor(code, len(nodes), x.told), nil
}

// askSpaces asks nodes, and returns what they told, now or before.
func askSpaces(nodes []blocktree.NodeID, before map[blocktree.NodeID]Space, ask func(blocktree.NodeID) (Space, error)) map[blocktree.NodeID]Space {
	told := map[blocktree.NodeID]Space{}
	for _, n := range nodes { // before the first is asked, whose answer goes there, too
		if was, ok := before[n]; ok {
			told[n] = was
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			if now, err := ask(n); err == nil {
				mu.Lock()
				defer mu.Unlock()
				told[n] = now
			}
		})
	}
	wg.Wait()
	return told
}

// roomFor is what so many nodes, of which some told, have room for, of files of a code.
func roomFor(code blocktree.Code, nodes int, told map[blocktree.NodeID]Space) Space {
	least := Space{math.MaxInt64, math.MaxInt64}
	for _, x := range told {
		least.FreeBytes, least.TotalBytes = min(least.FreeBytes, x.FreeBytes), min(least.TotalBytes, x.TotalBytes)
	}
	spread := func(bytes uint64) uint64 {
		sum := float64(bytes) * float64(nodes) * float64(code.Data) / float64(max(code.Shards(), 1))
		return uint64(min(sum, 1<<62))
	}
	least = Space{spread(least.FreeBytes), spread(least.TotalBytes)}
	if nodes < code.Shards() {
		least.FreeBytes = 0
	}
	return least
}
