package cluster

import (
	"context"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// heardWait is how long a node is watched before it is believed to live: the metadata group hears from one that has just stopped for an
// election timeout, or follows it for as long if it led.
const heardWait = 3 * blocktree.RaftElectionTicks * blocktree.RaftTick

// heardFrom reports whether the metadata group hears from a node, whoever else cannot reach it: it leads, or whoever leads hears
// from it, for all of heardWait.
func (c *Client) heardFrom(ctx context.Context, node blocktree.NodeID) bool {
	for until := time.Now().Add(heardWait); c.groupHears(ctx, node); {
		if time.Now().After(until) {
			return true
		}
		select {
		case <-ctx.Done():
			return true
		case <-time.After(2 * blocktree.RaftTick):
		}
	}
	return false
}

// groupHears is heardFrom at this moment, as the nodes that can be reached say.
func (c *Client) groupHears(ctx context.Context, node blocktree.NodeID) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, n := range c.peers.nodes() {
		conn := c.peers.conn(n)
		if n == node || conn == nil {
			continue
		}
		r, err := conn.CallWait(ctx, codeQuery, nil, meta.EncodeQuery(nil, meta.Query{Kind: meta.QueryStatus}))
		if err != nil {
			continue
		}
		a, err := meta.DecodeAnswer(r.Body)
		heard := err == nil && a.Status != nil && (a.Status.Leader == node || a.Status.Leader == n &&
			slices.ContainsFunc(a.Status.Members, func(m meta.MemberStatus) bool { return m.Node == node && m.Recent }))
		r.Release()
		if heard {
			return true
		}
	}
	return false
}
