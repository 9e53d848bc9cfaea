package cluster

import (
	"context"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// wantFor bounds how long a directory is wanted for a query from who keeps it: one that is well gives it back within half a second.
const wantFor = 2 * time.Second

// wanting is a directory that another session keeps while it is asked to give it back, for all who wait for that.
type wanting struct {
	waiters int // under Client.mu
	cancel  context.CancelFunc
	ended   chan struct{}
	err     error // when it has ended
}

// want has another session give a directory back, on behalf of a caller, and waits until it has, for wantFor at most. Those who want one at a time share the commands: it is kept from the first, so that once it was left nobody keeps it. An error says that nobody knows yet, as ctx has ended; that it is kept still is none.
func (c *Client) want(ctx context.Context, dir blocktree.FileID, caller *meta.Caller) error {
	for first := false; !first; {
		var w *wanting
		if w, first = c.joinWant(dir, caller); w == nil {
			return blocktree.E("cluster", blocktree.Closed, nil)
		}
		ended := false
		select {
		case <-w.ended:
			ended = true
		case <-ctx.Done():
		}
		c.leaveWant(dir, w)
		if !ended {
			return &blocktree.Error{Op: "cluster: a directory that another session keeps", Kind: blocktree.Unavailable, Err: ctx.Err(), Hint: "ask again"}
		}
		if !isRefusal(w.err) { // else who asked first may not, perhaps
			break
		}
	}
	return nil
}

// joinWant is the asking for a directory, which is begun for the first who waits for it; nil: the client is closed.
func (c *Client) joinWant(dir blocktree.FileID, caller *meta.Caller) (w *wanting, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false
	}
	if w = c.wants[dir]; w == nil {
		if c.wants == nil {
			c.wants = map[blocktree.FileID]*wanting{}
		}
		ctx, cancel := context.WithTimeout(c.ctx, c.wantFor)
		w, first = &wanting{cancel: cancel, ended: make(chan struct{})}, true
		c.wants[dir] = w
		c.wg.Go(func() {
			defer cancel()
			r, err := c.proposeHere(ctx, meta.Command{ID: meta.NewCommandID(), Op: meta.Want{Dir: dir}, Caller: caller})
			w.err = either(err, r.Err("want"))
			c.mu.Lock()
			defer c.mu.Unlock()
			c.dropWant(dir, w)
			close(w.ended)
		})
	}
	w.waiters++
	return w, first
}

// leaveWant ends the wait of one; the last one ends the asking.
func (c *Client) leaveWant(dir blocktree.FileID, w *wanting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.waiters--; w.waiters == 0 {
		c.dropWant(dir, w)
		w.cancel()
	}
}

// dropWant lets nobody else wait for w; Client.mu is held.
func (c *Client) dropWant(dir blocktree.FileID, w *wanting) {
	if c.wants[dir] == w {
		delete(c.wants, dir)
	}
}

// isSession reports whether a session is the client's.
func (c *Client) isSession(id meta.SessionID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session != nil && c.session.id == id
}
