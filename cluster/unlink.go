package cluster

import (
	"context"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// Kept is a file without a name that the session of a client keeps (docs/design/0066), or that it may keep.
type Kept struct {
	client  *Client
	session meta.SessionID
	file    blocktree.FileID
}

// Unlink takes the name from the file that was at a path, and has the client's session keep it until it is forgotten. What it returns is nil only where nothing is kept, certainly. Kinds: NotFound (another file has the name), Busy (another session holds it), Permission, Elsewhere (its entry is another
// cluster's), Unsupported (a cluster of a version before), Unavailable: then it may have happened.
func (c *Client) Unlink(ctx context.Context, path blocktree.Path, f blocktree.FileID) (*Kept, error) {
	return c.keepNameless(ctx, "remove", path, f, func(s meta.SessionID) meta.Op { return meta.Unlink{Path: path, File: f, Session: s} })
}

// RenameOver is Rename with what is replaced kept, as Unlink keeps it.
func (c *Client) RenameOver(ctx context.Context, o meta.Rename) (*Kept, error) {
	return c.keepNameless(ctx, "rename", o.From, o.Over, func(s meta.SessionID) meta.Op { return meta.RenameOver{Rename: o, Session: s} })
}

// sessionsTried is how many sessions one name is taken away under: the one that is there may have ended without a word.
const sessionsTried = 3

func (c *Client) keepNameless(ctx context.Context, what string, path blocktree.Path, f blocktree.FileID, op func(meta.SessionID) meta.Op) (k *Kept, err error) {
	home, err := c.HomeOf(ctx, f)
	for tries := 0; err == nil && tries < sessionsTried; tries++ {
		var s *session
		if s, err = home.theSession(ctx); err != nil {
			break
		}
		var r meta.Result
		if k, r, err = home.keepOnce(ctx, &Kept{home, s.id, f}, op(s.id)); err != nil || r.Kind == blocktree.Other {
			break
		}
		if err = r.Err(what); r.Kind != blocktree.Fenced {
			break
		}
		home.loseSession(s, err)
		err = nil
		if tries == sessionsTried-1 {
			err = r.Err(what)
		}
	}
	if err != nil {
		err = &blocktree.Error{Op: what, Path: path.Short(), Err: err}
	}
	return k, err
}

// keepOnce asks under one session. Of a command of which nobody knows what became it is found out in the background, before the file is forgotten.
func (c *Client) keepOnce(ctx context.Context, k *Kept, op meta.Op) (*Kept, meta.Result, error) {
	command := meta.Command{ID: meta.NewCommandID(), Op: op, Caller: behind(ctx, nil), Keeper: c.keeperIn(ctx)}
	r, err := c.proposeCommand(ctx, command)
	switch {
	case isOlder(err):
		return nil, r, blocktree.E("cluster", blocktree.Unsupported, err)
	case err != nil && isRefusal(err):
		return nil, r, err
	case err != nil:
		c.inTurn(k.file, func() { _, _ = c.proposeCommand(c.ctx, command) }) // it ends with the client only
		return k, r, err
	case r.Kind != blocktree.Other:
		return nil, r, nil
	}
	return k, r, nil
}

const (
	// forgetPauseMin and forgetPauseMax lie between two tries to forget a file that is held still, by who heals it.
	forgetPauseMin, forgetPauseMax = 50 * time.Millisecond, 2 * time.Second
)

// Forget frees the file, which nobody has open any more. It does not wait for that: if the client ends before, its session's end does it.
func (k *Kept) Forget() {
	c := k.client
	c.inTurn(k.file, func() {
		for pause := forgetPauseMin; ; pause = min(2*pause, forgetPauseMax) {
			r, err := c.propose(c.ctx, meta.Forget{Session: k.session, File: k.file})
			if err != nil || r.Kind != blocktree.Busy {
				return
			}
			select {
			case <-c.ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	})
}
