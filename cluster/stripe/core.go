package stripe

import (
	"slices"
	"time"

	"blocktree"
)

// core is what Holder and Reader share: peers, calls that await an answer, and the Ready being filled.
type core struct {
	mut           mutant
	now           time.Duration
	lookEvery     time.Duration // how far apart two looks at everything that waits are
	lookAt        time.Duration // when the next one is due
	memberTimeout time.Duration
	stall         time.Duration
	peers         map[blocktree.NodeID]*peer
	order         []*peer // the same, ascending by node
	calls         map[uint64]*call
	nextID        uint64
	next, last    HolderReady
	stats         HolderStats
}

// peer is a node as an asker sees it.
type peer struct {
	node    blocktree.NodeID
	up      bool
	down    bool // NodeDown was said and no NodeUp since
	silent  bool // NodeSilent was said and no NodeUp since
	inc     blocktree.Incarnation
	upSince time.Duration // or since when it has not been up
	learned blocktree.ViewID

	lost       bool          // has been away for long (NodeGone)
	noRoom     time.Duration // had no space for what was to be moved to it: nothing is before then
	timedOut   bool          // left something unanswered for memberTimeout
	doubtUntil time.Duration // it was caught lying: others are asked first until then
	refusal    refusal       // the newest, of a leaseless read
	caught     bool          // it said that it has committed what only a later take-over could have, and Raft knew of none
	gone       bool          // its incarnation is not what the layout expects, or its disk failed

	// A node that is out is asked something before it may join, and less and less often if it fails after that.
	probe    *call
	probedAt time.Duration
	probed   bool
	failures int

	witness   *call  // the question whether it goes by the holder's epoch still (witness.go)
	witnessed uint64 // up to which read it has said so

	// The newest SYNC, the numbers of the last that was sent and of the newest that was answered, and whether it has answered
	// for writes since the last was sent (flush.go).
	sync           *call
	syncNo, synced uint64
	unsynced       bool

	toFence               bool // was active when the take-over began; who comes to be meanwhile serves new regions only
	fenceDone, repairDone bool
	states                []RegionState

	head, tail *call // unanswered, ascending by since
}

// call is a message that awaits its answer.
type call struct {
	msg        *Message
	peer       *peer
	owner      owner
	slot       int           // the owner's own
	since      time.Duration // when it was first sent
	slow       bool          // its owner has been told that it is late
	retry      bool          // is in a list of calls to be sent again
	gone       bool
	prev, next *call
}

// owner gets the answer of a call, or news that it takes long. The call is no longer outstanding when onAnswer runs.
type owner interface {
	onAnswer(c *call, a *Message)
	onSlow(c *call)
}

func (c *core) init(now, memberTimeout, stall, lookEvery time.Duration, mut string) {
	c.now, c.memberTimeout, c.stall, c.lookEvery, c.mut = now, memberTimeout, stall, lookEvery, parseMutant(mut)
	if c.memberTimeout == 0 {
		c.memberTimeout = blocktree.MemberTimeout
	}
	if c.stall == 0 {
		c.stall = blocktree.WriteStallTimeout
	}
	c.peers, c.calls = map[blocktree.NodeID]*peer{}, map[uint64]*call{}
}

func (c *core) peer(n blocktree.NodeID) *peer {
	p := c.peers[n]
	if p == nil {
		p = &peer{node: n, upSince: c.now}
		c.peers[n] = p
		i, _ := slices.BinarySearchFunc(c.order, n, func(p *peer, n blocktree.NodeID) int {
			if p.node < n {
				return -1
			}
			return 1
		})
		c.order = slices.Insert(c.order, i, p)
	}
	return p
}

// post sends a call, or keeps it until its peer is up.
func (c *core) post(x *call) {
	c.nextID++
	x.msg.ID = c.nextID
	x.since = c.now
	c.calls[x.msg.ID] = x
	x.prev, x.next = x.peer.tail, nil
	if x.prev != nil {
		x.prev.next = x
	} else {
		x.peer.head = x
	}
	x.peer.tail = x
	if x.peer.up {
		c.next.Messages = append(c.next.Messages, x.msg)
	}
}

// drop forgets a call: an answer to it is ignored from now on.
func (c *core) drop(x *call) {
	if x == nil || x.gone {
		return
	}
	x.gone = true
	delete(c.calls, x.msg.ID)
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		x.peer.head = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	} else {
		x.peer.tail = x.prev
	}
	x.prev, x.next = nil, nil
}

// again sends a call once more, as msg, under a new id: an answer to the earlier sending is ignored.
func (c *core) again(x *call, msg *Message) {
	delete(c.calls, x.msg.ID)
	c.nextID++
	msg.ID = c.nextID
	x.msg = msg
	c.calls[msg.ID] = x
	if x.peer.up {
		c.stats.Resent++
		c.next.Messages = append(c.next.Messages, msg)
	}
}

// dropAll forgets what a peer has not answered.
func (c *core) dropAll(p *peer) {
	for p.head != nil {
		c.drop(p.head)
	}
}

// dropRegion forgets what a peer has not answered about a region that it has left: it would refuse it for ever, and be
// taken for slow in the others.
func (c *core) dropRegion(p *peer, i blocktree.RegionIndex) {
	for x := p.head; x != nil; {
		after := x.next
		if x.msg.Kind.byView() && x.msg.Region == i {
			c.drop(x)
		}
		x = after
	}
}

// nodeUp notes that a peer can be reached, and whether that is news.
func (c *core) nodeUp(n blocktree.NodeID, inc blocktree.Incarnation) *peer {
	p := c.peer(n)
	if !p.up || p.inc != inc {
		p.upSince = c.now
	}
	p.up, p.down, p.silent, p.inc, p.timedOut, p.lost = true, false, false, inc, false, false
	return p
}

// tick moves the time and reports whether to look at everything that waits.
func (c *core) tick(now time.Duration) bool {
	c.now = max(c.now, now)
	if c.now < c.lookAt {
		return false
	}
	c.lookAt = c.now + c.lookEvery
	c.stats.Looks++
	return true
}

// scanSlow tells owners of calls that are late (reads ask another member) and returns the peers that are overdue.
func (c *core) scanSlow() []*peer {
	var overdue []*peer
	hedge := c.memberTimeout / 4
	for _, p := range c.order {
		for x := p.head; x != nil && c.now-x.since >= hedge; {
			after := x.next
			if !x.slow {
				x.slow = true
				x.owner.onSlow(x)
				if x.gone || after != nil && after.gone { // the list has changed: begin again
					after = p.head
				}
			}
			x = after
		}
		if p.up && p.head != nil && c.now-p.head.since >= c.memberTimeout {
			overdue = append(overdue, p)
		}
	}
	return overdue
}

func (c *core) done(op uint64, err blocktree.Kind, r *ReadResult) {
	c.next.Done = append(c.next.Done, Done{Op: op, Err: err, Read: r})
}

// swap gives out what is to be done and starts anew with the buffers of the time before.
func (c *core) swap() HolderReady {
	out := c.next
	clear(c.last.Messages) // what they held, shards among it, may go
	clear(c.last.Metas)
	clear(c.last.Done)
	clear(c.last.Released)
	c.next = HolderReady{
		Messages: c.last.Messages[:0], Metas: c.last.Metas[:0], Done: c.last.Done[:0], Released: c.last.Released[:0],
		Suspects: c.last.Suspects[:0],
	}
	c.last = out
	return out
}
