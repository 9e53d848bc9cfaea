package cluster

import (
	"context"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// wantFor bounds how long a query waits for a directory that another session keeps, while the cluster answers: one whose client is well gives it back within half a second. It bounds the command that asks for that, too.
const wantFor = 2 * time.Second

// wanting is a command that says of a directory that it is wanted, while it is asked for on behalf of all who wait for its answer.
type wanting struct {
	waiters int // under Client.mu
	cancel  context.CancelFunc
	ended   chan struct{}
	err     error // when it has ended: of a refusal, or nobody knows
}

// othersKeep reports whether another session than the client's keeps a directory: what its own keeps its user knows, and asks nobody.
func (c *Client) othersKeep(k *meta.KeptBy) bool {
	if k == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session == nil || c.session.id != k.Session
}

// queryWhenLeft asks a query again that was answered a, until nobody else keeps the directory in which that found nothing, or which it lists. After wantFor, and where the caller may not want it, the answer is what it is. Its keeper is told by one command, however many ask. While the cluster does not answer its keeper cannot leave it, and time does not count.
func (c *Client) queryWhenLeft(ctx context.Context, q meta.Query, a meta.Answer) (meta.Answer, error) {
	left := c.wantFor
	for pause := keptPauseMin; c.othersKeep(a.Kept) && left > 0; pause = min(2*pause, keptPauseMax) {
		if !a.Kept.Wanted {
			err := c.want(ctx, a.Kept.Dir, q.Caller)
			if isRefusal(err) || isOlder(err) {
				return a, nil
			}
			if err != nil { // where questions are answered, and commands are not, this ends
				left -= c.wantFor / 2
			}
		}
		wait := min(pause, left)
		left -= wait
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		if ctx.Err() != nil { // it may be there
			return meta.Answer{}, &blocktree.Error{Op: "cluster", Kind: blocktree.Unavailable, Err: errKept("another session keeps the names in the directory"), Hint: "ask again"}
		}
		var err error
		if a, err = c.queryOnce(ctx, q); err != nil {
			return a, err
		}
	}
	return a, nil
}

// want has the keeper of a directory told that it is wanted, on behalf of a caller. Those who want one at a time share the command. An error is that of a refusal, or nobody knows.
func (c *Client) want(ctx context.Context, dir blocktree.FileID, caller *meta.Caller) (err error) {
	for first := false; !first; {
		var w *wanting
		if w, first = c.joinWant(dir, caller); w == nil {
			return blocktree.E("cluster", blocktree.Closed, nil)
		}
		select {
		case <-w.ended:
			err = w.err
		case <-ctx.Done():
			err = blocktree.E("cluster", blocktree.Unavailable, ctx.Err())
		}
		c.leaveWant(dir, w)
		if !isRefusal(err) { // else who asked first may not, perhaps
			break
		}
	}
	return err
}

// joinWant is the command about a directory, which is asked for by the first who waits for it; nil: the client is closed.
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
			r, err := c.proposeOnce(ctx, meta.Command{ID: meta.NewCommandID(), Op: meta.Want{Dir: dir}, Caller: caller})
			if w.err = err; err == nil && !r.Kept {
				w.err = r.Err("want")
			}
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

// dropWant has nobody else wait for w; Client.mu is held.
func (c *Client) dropWant(dir blocktree.FileID, w *wanting) {
	if c.wants[dir] == w {
		delete(c.wants, dir)
	}
}
