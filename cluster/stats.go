package cluster

import (
	"context"
	"slices"
	"sync/atomic"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/route"
)

// MemberCounts counts what a node was asked and what it stored and sent for that, since its service was opened.
type MemberCounts struct {
	Requests                     [stripe.MessageKinds]uint64 // by kind; of kind zero there is none
	WrittenSectors, WrittenBytes uint64                      // shards of what clients wrote
	CopiedSectors, CopiedBytes   uint64                      // shards that the node was copied up, or mended, with
	ZeroedSectors                uint64                      // covered by tombstones
	RefusedRecords               uint64                      // for want of space
	ReadSectors, ReadBytes       uint64                      // shards that were sent
	Waiting, QueuedBytes         int                         // requests that wait for the disk to catch up; bytes of records on their way to it
}

// request counts one that is given to the machine.
func (c *MemberCounts) request(msg *stripe.Message) {
	if k := int(msg.Kind); k < len(c.Requests) {
		c.Requests[k]++
	}
}

// stored counts records that were appended, all but those with the indices refused, which are ascending.
func (c *MemberCounts) stored(records []*stripe.Record, refused []int) {
	c.RefusedRecords += uint64(len(refused))
	for i, r := range records {
		if _, no := slices.BinarySearch(refused, i); no {
			continue
		}
		switch sectors, bytes := uint64(r.Count), uint64(len(r.Payload)); {
		case r.Kind == stripe.RecordZero:
			c.ZeroedSectors += sectors
		case r.Kind == stripe.RecordData && r.Installed:
			c.CopiedSectors += sectors
			c.CopiedBytes += bytes
		case r.Kind == stripe.RecordData:
			c.WrittenSectors += sectors
			c.WrittenBytes += bytes
		}
	}
}

// sentCounts count shards that were read for somebody, without the member's mutex.
type sentCounts struct{ sectors, bytes atomic.Uint64 }

func (c *sentCounts) add(sectors, bytes int) {
	c.sectors.Add(uint64(sectors))
	c.bytes.Add(uint64(bytes))
}

// stats returns the counts.
func (m *member) stats() MemberCounts {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.counts
	c.Waiting, c.QueuedBytes = len(m.backlog), m.queuedBytes
	c.ReadSectors, c.ReadBytes = m.sent.sectors.Load(), m.sent.bytes.Load()
	return c
}

// Link is how a node of the cluster is reached.
type Link struct {
	Node        blocktree.Path
	Serving     bool
	Connections uint64 // that came about since this runtime knows the node
}

// links returns one for each node that is known, in ascending order of their ids.
func (p *peers) links() []Link {
	var list []Link
	for _, n := range p.nodes() {
		if q := p.peer(n); q != nil {
			list = append(list, Link{blocktree.Path(q.runtime.Path.Short()), p.isServing(n), q.reached.Load()})
		}
	}
	return list
}

// Routes find runtimes for the client.
func (c *Client) Routes() *Routes { return c.tree.first.routes }

// Reached is how a node is reached.
type Reached struct {
	Path blocktree.Path
	Way  bttp.Way       // "" while it is not
	Via  blocktree.Path // the node that passes on what is said to it
}

// Reached returns how each node of the client's cluster is reached, once all are, or statusWait is over.
func (c *Client) Reached(ctx context.Context) (all []Reached) {
	c.awaitNodes(ctx)
	for _, n := range c.peers.nodes() {
		r := Reached{Path: c.peers.runtime(n).Path}
		if conn := c.peers.conn(n); conn != nil {
			r.Way, r.Via = conn.Way(), conn.Via()
		}
		all = append(all, r)
	}
	return all
}

// Links returns how each node of the cluster is reached from here. It does not block.
func (c *Client) Links() []Link { return c.peers.links() }

// Carried counts the connections of a client by carrier.
func (c *Client) Carried() bttp.Stats { return c.endpoint.Stats() }

// ServiceStats is a snapshot of a node for metrics.
type ServiceStats struct {
	Serving    bool // it takes part in the cluster
	Member     MemberCounts
	Store      store.Stats
	FreeBytes  int64 // of the store's disk, that data may still take
	DiskBytes  int64 // how large that disk is; both math.MaxInt64 where nobody knows
	Meta       meta.Status
	MetaFailed bool
	Carried    bttp.Stats
	Links      []Link
	CopyUps    CopyUpStats
	Scrub      ScrubCounts // since the store was made
	Passes     uint64      // of the scrub in the background
	Routes     RouteStats  // of the process
	Answers    route.AnswererStats
	// Suspected are answers of others that a node which keeps its promises does not give, by kind, as this node has seen them.
	Suspected [stripe.SuspectKindEnd]uint64
}

// CopyUpStats sums up what holders have lately told of copying up.
type CopyUpStats struct {
	Files          int
	LeftSectors    uint64
	BytesPerSecond uint64
}

// Stats returns a snapshot. It asks the file system for its free space, and waits for nothing else.
func (s *Service) Stats() ServiceStats {
	s.mu.Lock()
	serving := s.serving != incarnations{}
	s.mu.Unlock()
	x := ServiceStats{Serving: serving, Member: s.member.stats(), Store: s.member.store.Stats(), Meta: s.group.Status(), MetaFailed: s.group.Failed(),
		Carried: s.endpoint.Stats(), Links: s.peers.links(), CopyUps: s.copyUps.stats()}
	x.Routes, x.Answers = s.routes.Stats(), s.answerer.Stats()
	x.Suspected = s.client.suspects.counts()
	x.FreeBytes, x.DiskBytes = s.member.store.Space()
	s.scrubber.mu.Lock()
	defer s.scrubber.mu.Unlock()
	x.Scrub, x.Passes = s.scrubber.state.total, s.scrubber.state.passes
	return x
}

func (c *copyUps) stats() (x CopyUpStats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
	for _, t := range c.known {
		x.Files++
		x.LeftSectors += t.leftSectors
		x.BytesPerSecond += t.bytesPerSecond
	}
	return x
}
