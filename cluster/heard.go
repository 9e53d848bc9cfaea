package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// silentWait is how long whoever leads the metadata group must have heard nothing from a node before it counts as lost: one that has just come
// to lead has heard nothing from anybody yet. heardWait is how long a node is watched before it is believed to live, as the group hears from
// one that has just stopped for an election timeout, or follows it for as long if it led; or before it is given up to find one who leads.
const (
	silentWait = blocktree.RaftElectionTicks * blocktree.RaftTick
	heardWait  = 3 * silentWait
)

// standing is what the metadata group says of a node.
type standing int

const (
	standingUnknown standing = iota // nobody who can be asked leads
	standingSilent                  // who leads does not hear from it
	standingHeard                   // it leads, or who leads hears from it
)

// answers reports whether a node says that it is that one and serves; it is asked, as the end of a connection takes its time to come here.
func (c *Client) answers(ctx context.Context, node blocktree.NodeID) bool {
	conn := c.peers.conn(node)
	if conn == nil || !c.peers.isServing(node) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, blocktree.DeadAfter)
	defer cancel()
	_, err := hello(ctx, conn, node)
	return err == nil
}

// refuseLiving refuses to take a node for lost that answers, or that the metadata group hears from, whoever else cannot reach it; also where
// the group cannot say. It blocks for up to twice heardWait and an askTimeout.
func (c *Client) refuseLiving(ctx context.Context, node blocktree.NodeID) error {
	const hint = "stop the node first, or say --force to give up what its disk has"
	if c.answers(ctx, node) {
		return &blocktree.Error{Op: "cluster", Kind: blocktree.Busy, Err: fmt.Errorf("store %v answers: it is not lost", node), Hint: hint}
	}
	begun := time.Now()
	said := lasting{since: begun, asked: begun}
	for {
		asked := time.Now()
		s, term := c.standing(ctx, node)
		said.note(s, term, asked, time.Now())
		over := time.Since(begun) >= 2*heardWait
		switch lasted := said.asked.Sub(said.since); {
		case ctx.Err() != nil:
			return blocktree.E("cluster", blocktree.Canceled, ctx.Err())
		case said.standing == standingSilent && lasted >= silentWait:
			return nil
		case said.standing == standingHeard && (over || lasted >= heardWait):
			return &blocktree.Error{Op: "cluster", Kind: blocktree.Busy,
				Err: fmt.Errorf("the cluster hears from store %v, though it cannot be reached from here: it is not lost", node), Hint: hint}
		case over || said.standing == standingUnknown && lasted >= heardWait:
			return &blocktree.Error{Op: "cluster", Kind: blocktree.Unavailable, Err: errors.New("no node that can be reached leads the cluster, and so knows whether store " +
				node.String() + " is lost"), Hint: "ask from where all nodes can be reached, or say --force to give up what its disk has; see btnode status"}
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * blocktree.RaftTick):
		}
	}
}

// lasting is what was said of a node last: since when, by a question of when.
type lasting struct {
	standing standing
	term     uint64 // of who said that it is silent
	since    time.Time
	asked    time.Time
}

// note takes the answer to a question that was asked at one time and answered at another. An answer is of somewhen between: what it says began
// when it was there, if it is new, and has lasted until it was asked for. Each leader's silence is its own: one that has just come to lead has
// heard nothing from anybody, and the node may be one that only the leader before did not hear.
func (l *lasting) note(said standing, term uint64, asked, answered time.Time) {
	if said != l.standing || said == standingSilent && term != l.term {
		l.since = answered
	}
	l.standing, l.term, l.asked = said, term, asked
}

// standing asks all nodes at once, so that one that does not answer keeps nobody else from being asked. Of several who say that they lead
// the one of the newest term does, unless somebody knows a newer one. It returns that term, too.
func (c *Client) standing(ctx context.Context, node blocktree.NodeID) (standing, uint64) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var term uint64
	said, heard := standingUnknown, false
	for _, n := range c.peers.nodes() {
		conn := c.peers.conn(n)
		if n == node || conn == nil {
			continue
		}
		wg.Go(func() {
			r, err := conn.CallWait(ctx, codeQuery, nil, meta.EncodeQuery(nil, meta.Query{Kind: meta.QueryStatus}))
			if err != nil {
				return
			}
			defer r.Release()
			a, err := meta.DecodeAnswer(r.Body)
			if err != nil || a.Status == nil {
				return
			}
			s, leads := a.Status, a.Status.Leader == n
			mu.Lock()
			defer mu.Unlock()
			if s.Leader == node || leads && slices.ContainsFunc(s.Members, func(m meta.MemberStatus) bool { return m.Node == node && m.Recent }) {
				heard = true
				cancel() // nobody else's word counts
			}
			if s.Term > term {
				term, said = s.Term, standingUnknown
			}
			if leads && s.Term == term {
				said = standingSilent
			}
		})
	}
	wg.Wait()
	if heard {
		return standingHeard, term
	}
	return said, term
}
