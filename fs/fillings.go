package fs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/internal/dispatch"
)

// fillings are the terms that services have granted a client: what is asked about a directory, and what is made with spares, goes by the connection that the term came by.
type fillings struct {
	number atomic.Int64 // of those that are remembered
	mu     sync.Mutex
	dirs   map[blocktree.Path]*granted
}

// granted is a term of a directory.
type granted struct {
	actor *dispatch.Actor // nil: the connection is gone, or the service is not well
	dir   blocktree.FileID
	until time.Time
}

// fillingFor is how long a term is remembered when it is over: which directory it was of is said with what was made in it and is sent late.
const fillingFor = blocktree.MountWaitMax

// note notes a term that was asked for then, of an answer; without one the connection and the directory stay.
func (x *fillings) note(path blocktree.Path, f *Filling, asked time.Time, answer *dispatch.Answer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.dirs[path]
	switch {
	case f.Term <= 0 && g != nil:
		g.until = time.Now()
	case f.Term > 0:
		if g != nil {
			g.release()
		} else {
			x.prune(asked)
		}
		if x.dirs == nil {
			x.dirs = map[blocktree.Path]*granted{}
		}
		x.dirs[path] = &granted{answer.Actor(), f.Dir, asked.Add(f.Term)}
	}
	x.number.Store(int64(len(x.dirs)))
}

// prune forgets what is of no use any more, and what ended first where there is too much; with mu.
func (x *fillings) prune(now time.Time) {
	var first blocktree.Path
	for path, g := range x.dirs {
		if now.Sub(g.until) > blocktree.FSFillSpareFor {
			g.release()
		}
		if now.Sub(g.until) > fillingFor {
			delete(x.dirs, path)
		} else if first == "" || g.until.Before(x.dirs[first].until) {
			first = path
		}
	}
	if len(x.dirs) >= blocktree.FSKeptDirsMax {
		x.dirs[first].release()
		delete(x.dirs, first)
	}
}

func (g *granted) release() {
	if g.actor != nil {
		g.actor.Release()
		g.actor = nil
	}
}

// of is the connection by which to ask about a directory, nil: by any; with a spare also when the term is over.
func (x *fillings) of(path blocktree.Path, spare bool) *dispatch.Actor {
	if x.number.Load() == 0 {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.dirs[path]
	if g == nil || time.Now().After(g.until) && !spare {
		return nil
	}
	return g.actor
}

// meant is the directory that is meant by what is made at a path.
func (x *fillings) meant(path blocktree.Path, o CreateOptions) blocktree.FileID {
	if o.Dir != (blocktree.FileID{}) {
		return o.Dir
	}
	return x.dir(path.Parent())
}

// dir is the directory that was filled at a path last, zero: not known.
func (x *fillings) dir(path blocktree.Path) (id blocktree.FileID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if g := x.dirs[path]; g != nil {
		id = g.dir
	}
	return id
}

// gone notes that a connection is of no use.
func (x *fillings) gone(path blocktree.Path, a *dispatch.Actor) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if g := x.dirs[path]; g != nil && g.actor == a {
		g.release()
	}
}

// close lets go of all connections.
func (x *fillings) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, g := range x.dirs {
		g.release()
	}
	x.dirs = nil
	x.number.Store(0)
}

// toFilled sends a message about a directory by the connection that a term of it came by. done is false where there is none, or it certainly brought nothing there.
func (c *Client) toFilled(ctx context.Context, dir blocktree.Scope, m dispatch.Message, spare bool) (answer dispatch.Answer, done bool, err error) {
	a := c.fillings.of(dir, spare)
	if a == nil {
		return answer, false, nil
	}
	answer, err = c.dispatcher.Dispatch(ctx, dispatch.Address{Kind: dispatch.ToActor, Actor: a}, m)
	u := (*dispatch.Undelivered)(nil)
	undone := errors.As(err, &u) && !u.Maybe
	switch blocktree.KindOf(err) {
	case blocktree.Unsupported:
		return answer, false, nil
	case blocktree.Unavailable, blocktree.Undeliverable, blocktree.Closed, blocktree.Timeout:
		c.fillings.gone(dir, a)
	}
	return answer, !undone, err
}
