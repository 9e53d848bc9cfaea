package cluster

import (
	"context"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// drainingInterval is how often a client that holds files asks which nodes are to lose their places: nobody waits for that.
const drainingInterval = 5 * time.Second

// followDraining tells the holders of this client's files which nodes drain.
func (c *Client) followDraining() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(drainingInterval):
		}
		if len(c.handles()) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(c.ctx, askTimeout)
		a, err := c.query(ctx, meta.Query{Kind: meta.QueryDraining})
		cancel()
		if err == nil { // else it is asked again
			c.setDraining(a.Draining)
		}
	}
}

// handles lists the files that the client holds.
func (c *Client) handles() (hs []*Handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		for h := range c.session.handles {
			hs = append(hs, h)
		}
	}
	return hs
}

func (c *Client) knownDraining() []blocktree.NodeID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// setDraining passes on who drains, if that is news.
func (c *Client) setDraining(nodes []blocktree.NodeID) {
	c.mu.Lock()
	news := !slices.Equal(c.draining, nodes)
	c.draining = nodes
	c.mu.Unlock()
	if !news {
		return
	}
	c.dropSpares()
	for _, h := range c.handles() { // one that is made now asks for itself
		h.followDraining()
	}
}

// followDraining tells the machine who drains. What that is, is read here: of two that are at it at once, with other news, the last to enter
// has the newest.
func (h *Handle) followDraining() {
	h.enter()
	if h.draining = h.client.knownDraining(); !h.over {
		h.holder.Draining(h.draining)
	}
	h.leave()
}

// DrainNode has the node at path lose its places to other nodes, with redundancy as it is (docs/design/0016), or with cancel keep what
// it still has. The cluster remembers it; see Status for how far it is. Kinds: NotFound (no such node), Unavailable (too few other nodes).
func (c *Client) DrainNode(ctx context.Context, path blocktree.Path, cancel bool) error {
	host, err := c.hostAt(ctx, path)
	var r meta.Result
	if err == nil {
		r, err = c.propose(ctx, meta.DrainHost{Path: path, Node: host.Node, Cancel: cancel})
	}
	if err == nil {
		err = r.Err("cluster")
	}
	if err != nil {
		return &blocktree.Error{Op: "drain", Path: path.Short(), Err: err}
	}
	return nil
}

// DrainStatus is how far a node is that is to lose its places. LeftBytes are of the shards in Places that may have to be copied, at most;
// with none left the node can be removed. The rates are those of the files that have places there, all together.
type DrainStatus struct {
	Places         int    `json:"places"` // that it still has
	LeftBytes      uint64 `json:"leftBytes"`
	BytesPerSecond uint64 `json:"bytesPerSecond"`
	SecondsLeft    uint64 `json:"secondsLeft"` // 0: not known yet
}

// drains gathers the status of the nodes that drain, by their stores.
type drains map[blocktree.NodeID]*drainSum

type drainSum struct {
	DrainStatus
	path   blocktree.Path // as the status has it
	looked uint64         // bytes per second that are compared or copied
}

func (c *Client) drains(ctx context.Context) (drains, error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryDraining})
	d := drains{}
	for _, n := range a.Draining {
		d[n] = &drainSum{path: blocktree.Path(c.peers.runtime(n).Path.Short())}
	}
	return d, err
}

// addRates adds how fast the places of a file move, as its copy-up says; nil if nobody does.
func (d drains) addRates(l *stripe.Layout, up *CopyUpStatus) {
	for n, x := range d {
		if up == nil {
			return
		}
		if l.HasPlace(n) {
			x.BytesPerSecond += up.BytesPerSecond
			x.looked += up.LeftBytes / max(up.SecondsLeft, 1)
		}
	}
}

// report puts what was gathered into a status.
func (d drains) report(s *Status) {
	for _, x := range d {
		i := slices.IndexFunc(s.Nodes, func(n NodeStatus) bool { return n.Path == x.path })
		if i < 0 {
			continue
		}
		if x.looked > 0 && x.LeftBytes > 0 {
			x.SecondsLeft = max(1, x.LeftBytes/x.looked)
		}
		s.Nodes[i].Drain = &x.DrainStatus
	}
}
