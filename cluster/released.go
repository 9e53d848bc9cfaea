package cluster

import (
	"context"
	"slices"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
)

// Released reports whether no write to a file can be acknowledged to somebody whose lease has ended, when nobody has the lease. A node that was cut off together with a
// holder of before serves it until it hears of the end, and where a region is kept by such nodes alone what is written is acknowledged. So each node is asked, and answers
// after it has caught up with the cluster; of every region one member in sync must have, as a write takes them all. Unknown are the nodes that have not answered
// within appliedWait. NotFound (there is no such file), Unavailable.
func (c *Client) Released(ctx context.Context, f blocktree.FileID) (ok bool, unknown []blocktree.Path, err error) {
	inode, err := c.StatFile(ctx, f)
	if err != nil {
		return false, nil, err
	}
	layout, err := c.layout(ctx, inode)
	if err != nil {
		return false, nil, err
	}
	if c, err = c.HomeOf(ctx, f); err != nil {
		return false, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, appliedWait)
	defer cancel()
	nodes := c.peers.nodes()
	answers := make(chan blocktree.NodeID, len(nodes))
	for _, n := range nodes {
		go func() {
			conn := c.peers.conn(n)
			if conn == nil || !saysReleased(ctx, conn, f) {
				n = 0
			}
			answers <- n
		}()
	}
	done := map[blocktree.NodeID]bool{}
	for range nodes {
		if n := <-answers; n != 0 {
			done[n] = true
			if !ok && covers(layout, done) {
				ok = true
				cancel() // the others need not answer
			}
		}
	}
	for _, n := range nodes {
		if !done[n] {
			unknown = append(unknown, c.peers.runtime(n).Path)
		}
	}
	slices.Sort(unknown)
	return ok, unknown, nil
}

// covers says whether every region has a member in sync among some nodes.
func covers(l *stripe.Layout, some map[blocktree.NodeID]bool) bool {
	for r := range l.Regions() {
		if !slices.ContainsFunc(l.View(r).Members, func(m stripe.ViewMember) bool { return m.State == stripe.InSync && some[m.Node] }) {
			return false
		}
	}
	return true
}

// saysReleased asks a node, which answers after a ReadIndex, whether nobody has the lease of a file.
func saysReleased(ctx context.Context, conn *bttp.Conn, f blocktree.FileID) bool {
	r, err := conn.CallWait(ctx, codeQuery, nil, meta.EncodeQuery(nil, meta.Query{Kind: meta.QueryLease, File: f}))
	if err != nil {
		return false
	}
	defer r.Release()
	a, err := meta.DecodeAnswer(r.Body)
	return err == nil && a.Kind == blocktree.NotFound
}
