package cluster

import (
	"context"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// Health sums a cluster up.
type Health string

// The healths.
const (
	HealthOK          Health = "ok"          // every node is up and every file fully in sync
	HealthDegraded    Health = "degraded"    // everything can be read and written, with less redundancy
	HealthUnavailable Health = "unavailable" // the cluster has no majority, or a file cannot be written or read
)

// Status is what a client can see of a cluster.
type Status struct {
	Health Health       `json:"health"`
	Nodes  []NodeStatus `json:"nodes"`
	Files  []FileStatus `json:"files"`
}

// NodeStatus is one sector host.
type NodeStatus struct {
	Path   blocktree.Path `json:"path"`
	State  string         `json:"state"` // "up" or "down"
	Leader bool           `json:"leader"`
	Via    blocktree.Path `json:"via,omitempty"`   // the node that passes on what is said to it, as it cannot be reached directly
	Scrub  *ScrubReport   `json:"scrub,omitempty"` // of a node that is up
	Drain  *DrainStatus   `json:"drain,omitempty"` // of a node that is to lose its places
}

// FileStatus is one file. InSync and Tolerates are minima over its regions.
type FileStatus struct {
	Path      string `json:"path"`
	Size      uint64 `json:"size"`
	Code      string `json:"code"`
	InSync    int    `json:"inSync"`    // members that hold every acknowledged sector and can be reached
	Tolerates int    `json:"tolerates"` // how many more of them may be lost
	Joining   int    `json:"joining"`   // members being copied up
	Moving    int    `json:"moving"`    // places that other nodes are copied up for
	// Durability is "ack" or "flush". LossNumber is how often writes that were acknowledged and not flushed may have been lost; Lossy says that
	// they may have been just now, and nobody has opened the file since.
	Durability string `json:"durability"`
	LossNumber uint64 `json:"lossNumber"`
	Lossy      bool   `json:"lossy"`
	// CopyUp is how far that is, as the file's holder said lately; nil if nobody did.
	CopyUp *CopyUpStatus `json:"copyUp,omitempty"`
}

// statusWait is how long Status waits for nodes that have not answered yet.
const statusWait = 2 * time.Second

// Status asks the cluster how it is. It does not fail when no majority answers: that is a status too.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	c.awaitNodes(ctx)
	s := &Status{Health: HealthOK, Nodes: []NodeStatus{}, Files: []FileStatus{}}
	live := 0
	ask, cancel := context.WithTimeout(ctx, statusWait+askTimeout)
	defer cancel()
	a, err := c.query(ask, meta.Query{Kind: meta.QueryStatus})
	if err == nil && a.Status != nil && a.Status.Leader != 0 { // who the nodes are by now; without a majority, by the configuration
		records, cancel := context.WithTimeout(ask, statusWait)
		if c.readRecords(records) == nil {
			c.awaitNodes(records)
		}
		cancel()
	}
	for _, n := range c.peers.nodes() {
		node := NodeStatus{Path: blocktree.Path(c.peers.runtime(n).Path.Short()), State: "down"}
		if c.peers.isServing(n) {
			node.State, node.Via = "up", c.peers.via(n)
			live++
			if r, err := c.askScrub(ask, n, scrubRequest{}); err == nil {
				node.Scrub = r
			}
		}
		node.Leader = err == nil && a.Status != nil && a.Status.Leader == n
		s.Nodes = append(s.Nodes, node)
	}
	spare := live - (len(s.Nodes)/2 + 1)
	if spare < 0 || err != nil {
		s.Health = HealthUnavailable
		return s, nil
	}
	if live < len(s.Nodes) {
		s.Health = HealthDegraded
	}
	d, err := c.drains(ask)
	if err == nil {
		err = c.fileStatuses(ask, s, c.cfg.Scope, spare, c.copyUps(ask), d)
	}
	d.report(s)
	if err != nil {
		if ctx.Err() != nil || blocktree.KindOf(err) != blocktree.Unavailable {
			return nil, err
		}
		s.Health = HealthUnavailable // the majority went away on the way
	}
	return s, nil
}

// Answering returns how many nodes of the cluster serve, as far as the client has heard, of how many. It does not block.
func (c *Client) Answering() (serving, all int) {
	for _, n := range c.peers.nodes() {
		all++
		if c.peers.isServing(n) {
			serving++
		}
	}
	return serving, all
}

// awaitNodes gives every node a moment to answer.
func (c *Client) awaitNodes(ctx context.Context) {
	deadline := time.Now().Add(statusWait)
	for _, n := range c.peers.nodes() {
		for !c.peers.isServing(n) && time.Now().Before(deadline) && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// fileStatuses adds every file below dir.
func (c *Client) fileStatuses(ctx context.Context, s *Status, dir blocktree.Path, spare int, ups map[blocktree.FileID]copyUp, d drains) error {
	entries, err := c.List(ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := dir.Join(e.Name)
		if e.Inode.Kind == meta.KindDir {
			if err := c.fileStatuses(ctx, s, path, spare, ups, d); err != nil {
				return err
			}
			continue
		}
		layout, err := c.layout(ctx, &e.Inode)
		if blocktree.KindOf(err) == blocktree.NotFound {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		f := c.fileStatus(path, &e.Inode, layout, spare)
		var copyUp *CopyUpStatus
		if up, ok := ups[e.Inode.ID]; ok {
			copyUp = up.status(&e.Inode)
		}
		if f.InSync < e.Inode.Code.Shards() || f.Moving > 0 {
			f.CopyUp = copyUp
		}
		d.add(layout, copyUp)
		switch {
		case f.InSync < e.Inode.Code.MinWrite():
			s.Health = HealthUnavailable
		case f.InSync < e.Inode.Code.Shards() && s.Health == HealthOK:
			s.Health = HealthDegraded
		}
		s.Files = append(s.Files, f)
	}
	return nil
}

// fileStatus sums up the views of a file.
func (c *Client) fileStatus(path blocktree.Path, inode *meta.Inode, l *stripe.Layout, spare int) FileStatus {
	d := durabilityOf(l)
	f := FileStatus{Path: path.Short(), Size: inode.SizeBytes, Code: inode.Code.String(), InSync: inode.Code.Shards(),
		Durability: d.Durability.String(), LossNumber: d.LossNumber, Lossy: d.Lossy}
	for r := range l.Regions() {
		inSync, joining := 0, 0
		v := l.View(r)
		if v.Heir != 0 {
			f.Moving++
		}
		for _, m := range v.Members {
			if m.State == stripe.InSync && !l.Marked[m.Node] && c.peers.isServing(m.Node) {
				inSync++
			}
			if m.State == stripe.Joining {
				joining++
			}
		}
		f.InSync, f.Joining = min(f.InSync, inSync), max(f.Joining, joining)
	}
	f.Tolerates = max(0, min(f.InSync-inode.Code.Data, spare))
	return f
}
