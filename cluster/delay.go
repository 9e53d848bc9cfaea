package cluster

import (
	"errors"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
)

// delayed is a message for which its connection had no room. It is sent on that connection or not at all: when the node
// is back on another, the machine sends again whatever is unanswered.
type delayed struct {
	conn *bttp.Conn
	msg  *stripe.Message
}

// delay keeps a message until its connection has room. The machine bounds what is in flight, and so what waits here. A
// node has one goroutine that sends what waits for it, from when it gets an entry in h.delayed until it has none.
func (h *Handle) delay(conn *bttp.Conn, m *stripe.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		doneWithRun(m)
		return
	}
	q, running := h.delayed[m.Node]
	h.delayed[m.Node] = append(q, delayed{conn, m})
	if !running {
		h.wg.Go(func() { h.sendDelayed(m.Node) })
	}
}

// sendDelayed sends what waits for a node, in order, until nothing does.
func (h *Handle) sendDelayed(node blocktree.NodeID) {
	for {
		d, ok := h.nextDelayed(node)
		if !ok {
			return
		}
		err := errNotSent
		for d.conn.Err() == nil && h.ctx.Err() == nil {
			if err = h.post(d.conn, d.msg); blocktree.KindOf(err) != blocktree.Busy {
				break
			}
			_ = d.conn.AwaitRoom(h.ctx) // it fails only when h.ctx ends
			select {
			case <-h.ctx.Done():
			case <-d.conn.Done():
			case <-time.After(time.Millisecond): // the table of calls may be what is full
			}
		}
		if err != nil {
			doneWithRun(d.msg)
		}
	}
}

// nextDelayed takes what is to be sent next. That nothing waits any more and that the node has no goroutine any more is
// one step under mu: else a message that comes between the two would belong to nobody, or to two.
func (h *Handle) nextDelayed(node blocktree.NodeID) (delayed, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.delayed[node]
	if len(q) == 0 || h.ctx.Err() != nil {
		delete(h.delayed, node)
		return delayed{}, false
	}
	h.delayed[node] = q[1:]
	return q[0], true
}

// errNotSent is of a message that nobody tried to send.
var errNotSent = errors.New("not sent")
