package cluster

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// recordsPause is the least time between two looks at the process records for nodes that are not who they were.
const recordsPause = time.Second

// strange asks for another look at who the nodes of the cluster are. It does not block.
func (c *Client) strange() { signal(c.strangers) }

// noteLayout looks at the records if a layout names a store that is not known. A host that was removed for good is such a one,
// too, and costs a question with every layout that somebody asked for.
func (c *Client) noteLayout(l *stripe.Layout) {
	if l != nil && c.keeps && slices.ContainsFunc(l.Hosts, func(n blocktree.NodeID) bool { return c.peers.peer(n) == nil }) {
		c.strange()
	}
}

// followRecords keeps connections to those who are hosts by the process records, looked up whenever there is a reason.
func (c *Client) followRecords() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.strangers:
		}
		ctx, cancel := context.WithTimeout(c.ctx, askTimeout)
		_ = c.readRecords(ctx) // without an answer the reason comes again
		cancel()
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(recordsPause):
		}
	}
}

// readRecords goes by the process records as they are now.
func (c *Client) readRecords(ctx context.Context) error {
	hosts, err := c.Hosts(ctx)
	if err == nil && len(hosts) > 0 && c.keeps {
		before := c.peers.nodes()
		c.peers.adopt(hosts)
		if !slices.Equal(before, c.peers.nodes()) {
			c.dropSpares()
		}
	}
	return err
}

// Hosts returns the process records of the cluster's sector hosts, ascending by path; none before it is founded.
func (c *Client) Hosts(ctx context.Context) ([]blocktree.Runtime, error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryRuntimes})
	if err != nil {
		return nil, err
	}
	return sectorHosts(a.Runtimes), nil
}

// recordsWait is how long a node that starts on an empty directory waits for the cluster's word, unless no other node can be reached
// or the one that answers has never been part of a group that did anything: nodes that are all new do not hold one another up.
const recordsWait = 5 * time.Second

// Records returns the process records of the sector hosts, and whether the store node is a voter of the group, for a node that starts
// on an empty directory. None if the cluster does not say.
func (c *Client) Records(ctx context.Context, node blocktree.NodeID) (hosts []blocktree.Runtime, voter bool) {
	ctx, cancel := context.WithTimeout(ctx, recordsWait)
	defer cancel()
	ask, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	watch.Go(func() {
		for ask.Err() == nil && !c.peers.hopeless() {
			select {
			case <-ask.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
		stop()
	})
	a, err := c.query(ask, meta.Query{Kind: meta.QueryStatus})
	if err != nil || a.Status == nil || a.Status.Applied <= 1 {
		return nil, false
	}
	if hosts, err = c.Hosts(ctx); err != nil { // a linearizable read: the members of the group below are as new
		return nil, false
	}
	if a, err = c.query(ctx, meta.Query{Kind: meta.QueryStatus}); err != nil || a.Status == nil {
		return nil, false
	}
	return hosts, slices.ContainsFunc(a.Status.Members, func(m meta.MemberStatus) bool { return m.Node == node && !m.Learner })
}

// Replaced says what ReplaceNode did: New is the store of the node now, in place of Old. Old is zero if it had been replaced
// before and the new store has not started yet (with force it gets another one: a disk that was lost in the midst of its first start may
// have been a learner of the group, which cannot begin anew under the same id).
type Replaced struct {
	Path     blocktree.Path
	Old, New blocktree.NodeID
}

// ReplaceNode gives the node at path, which lost its disk, a new store: design 0012. force replaces one that answers. Kinds:
// NotFound (no such node), Busy (it is not lost), Unavailable (nobody can say whether it is, no majority would remain, or a file would keep
// too few members).
func (c *Client) ReplaceNode(ctx context.Context, path blocktree.Path, force bool) (Replaced, error) {
	r, err := c.replaceNode(ctx, path, force)
	if err != nil {
		return Replaced{}, &blocktree.Error{Op: "replace", Path: path.Short(), Err: err}
	}
	return r, nil
}

func (c *Client) replaceNode(ctx context.Context, path blocktree.Path, force bool) (Replaced, error) {
	old, err := c.hostAt(ctx, path)
	if err != nil {
		return Replaced{}, err
	}
	starts, err := c.query(ctx, meta.Query{Kind: meta.QueryStarts})
	if err != nil {
		return Replaced{}, err
	}
	if !force && !slices.ContainsFunc(starts.Starts, func(n meta.NodeStart) bool { return n.Node == old.Node }) {
		return Replaced{Path: path, New: old.Node}, nil // it has a store that has never been used, as far as the cluster knows
	}
	if err := c.expendable(ctx, old, force); err != nil {
		return Replaced{}, err
	}
	op := meta.ReplaceHost{Path: path, Old: old.Node, New: newStore()}
	result, err := c.propose(ctx, op)
	if err == nil {
		err = result.Err("cluster")
	}
	if err != nil {
		return Replaced{}, err
	}
	return Replaced{Path: path, Old: op.Old, New: op.New}, nil
}

// hostAt is the sector host at path.
func (c *Client) hostAt(ctx context.Context, path blocktree.Path) (blocktree.Runtime, error) {
	hosts, err := c.Hosts(ctx)
	if err != nil {
		return blocktree.Runtime{}, err
	}
	i := slices.IndexFunc(hosts, func(r blocktree.Runtime) bool { return r.Path == path })
	if i >= 0 {
		c.peers.adopt(hosts)
		return hosts[i], nil
	}
	names := ""
	for _, h := range hosts {
		names += " " + h.Path.Short()
	}
	return blocktree.Runtime{}, &blocktree.Error{Op: "cluster", Kind: blocktree.NotFound, Err: errors.New("no node of this cluster"),
		Hint: "the nodes are" + names}
}

// expendable refuses to do without a node that is not lost, or whose voters' group would lose its majority.
func (c *Client) expendable(ctx context.Context, old blocktree.Runtime, force bool) error {
	c.awaitNodes(ctx)
	if !force {
		if err := c.refuseLiving(ctx, old.Node); err != nil {
			return err
		}
	}
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryStatus})
	if err != nil || a.Status == nil {
		return err
	}
	left, live := 0, 0
	for _, m := range a.Status.Members {
		if m.Learner || m.Node == old.Node {
			continue
		}
		left++
		if c.peers.isHeard(m.Node) {
			live++
		}
	}
	if live <= left/2 {
		return &blocktree.Error{Op: "cluster", Kind: blocktree.Unavailable,
			Err:  fmt.Errorf("of the %d voters that would remain %d answer: no majority", left, live),
			Hint: "start the other nodes first; see btnode status"}
	}
	return nil
}

// RemoveNode removes the node at path for good. Kinds: NotFound, Busy (it is not lost and does not drain, or has places in files),
// Unavailable (nobody can say whether it is lost, or no majority would remain).
func (c *Client) RemoveNode(ctx context.Context, path blocktree.Path, force bool) error {
	old, err := c.hostAt(ctx, path)
	if err == nil && !force { // one that drains may answer
		var a meta.Answer
		a, err = c.query(ctx, meta.Query{Kind: meta.QueryDraining})
		force = slices.Contains(a.Draining, old.Node)
	}
	if err == nil {
		err = c.expendable(ctx, old, force)
	}
	var r meta.Result
	if err == nil {
		r, err = c.propose(ctx, meta.RetireHost{Path: path, Node: old.Node})
	}
	if err == nil {
		err = r.Err("cluster")
	}
	if err != nil {
		return &blocktree.Error{Op: "remove", Path: path.Short(), Err: err}
	}
	return nil
}

// AwaitVoters waits until the Raft group has no member but the stores of the records, so that a store that is gone does not count.
func (c *Client) AwaitVoters(ctx context.Context) error {
	for {
		hosts, err := c.Hosts(ctx)
		if err != nil {
			return err
		}
		a, err := c.query(ctx, meta.Query{Kind: meta.QueryStatus})
		if err != nil {
			return err
		}
		if a.Status != nil && !slices.ContainsFunc(a.Status.Members, func(m meta.MemberStatus) bool {
			return !slices.ContainsFunc(hosts, func(r blocktree.Runtime) bool { return r.Node == m.Node })
		}) {
			return nil
		}
		select {
		case <-ctx.Done():
			return &blocktree.Error{Op: "cluster", Kind: blocktree.Timeout, Err: errors.New("the old store is still a member of the metadata group"),
				Hint: "the change is decided, and the leader removes it as soon as a majority of the others answers; see btnode status"}
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// newStore draws a store id that is not zero.
func newStore() blocktree.NodeID {
	for {
		var b [8]byte
		rand.Read(b[:]) // never fails (crypto/rand)
		if id := binary.BigEndian.Uint64(b[:]); id != 0 {
			return blocktree.NodeID(id)
		}
	}
}
