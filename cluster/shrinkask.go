package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

const (
	// shrinkHeard is how long a holder may take to hear that its file is to be smaller: it looks each sizesInterval, and a try at each of several nodes may take askTimeout.
	shrinkHeard = 15 * time.Second
	// shrinkLook lies between two looks at what has become of it.
	shrinkLook = 500 * time.Millisecond
	// shrinkRefusedMax is how often one after the other it may be Busy though nobody has the lease: who had it may have given it back in between.
	shrinkRefusedMax = 3
	// takeBackWait bounds taking an ask back.
	takeBackWait = 3 * time.Second
)

// shrinkLive is itself, which takes the lease, for who asks whoever has the file, as long as somebody has.
func (c *Client) shrinkLive(ctx context.Context, inode *meta.Inode, to uint64, itself func() error) error {
	a := shrinkAsker{c: c, inode: inode, to: to}
	defer a.takeBack()
	for refused := 0; ; {
		err := itself()
		if k := blocktree.KindOf(err); k != blocktree.Busy && (k != blocktree.Unsupported || inode.Integrity == meta.IntegritySector) {
			return err
		}
		for done := false; !done; {
			held, e := a.ask(ctx)
			if e != nil || a.done {
				return e
			}
			if done = !held; held {
				refused = 0
			} else if refused++; refused == shrinkRefusedMax || blocktree.KindOf(err) == blocktree.Unsupported {
				return err // it is not for want of a lease
			}
			if held && !a.heard && time.Since(a.since) >= shrinkHeard {
				return err
			}
			select {
			case <-ctx.Done():
				return &blocktree.Error{Kind: blocktree.Unavailable, Err: errors.New("its holder has not made it smaller in time"),
					Hint: fmt.Sprintf("what lies behind byte %d may be zeros by now, and btnode file stat tells its size; ask again", to)}
			case <-time.After(shrinkLook):
			}
		}
	}
}

// shrinkAsker is somebody who asks holders of a file to make it smaller.
type shrinkAsker struct {
	c     *Client
	inode *meta.Inode // as it was
	to    uint64
	epoch blocktree.Epoch // of the holder that was asked, since then; heard: it works at it
	since time.Time
	heard bool
	done  bool // it has the size
}

// ask looks whether it is done, and else asks who holds the file. It returns false where nobody does.
func (a *shrinkAsker) ask(ctx context.Context) (held bool, err error) {
	layout, err := a.c.layout(ctx, a.inode) // before its size: what is asked by it is of that size
	if err != nil {
		return false, err
	}
	now, err := a.c.StatFile(ctx, a.inode.ID)
	switch {
	case err != nil:
		return false, err
	case now.SizeBytes == a.to:
		a.done = true
		return true, nil
	case now.SizeBytes != a.inode.SizeBytes:
		return false, &blocktree.Error{Kind: blocktree.Busy, Err: fmt.Errorf("it had %d bytes, and has %d", a.inode.SizeBytes, now.SizeBytes), Hint: "somebody else changes its size; look, and ask again"}
	}
	l, err := a.c.query(ctx, meta.Query{Kind: meta.QueryLease, File: a.inode.ID})
	switch {
	case blocktree.KindOf(err) == blocktree.NotFound:
		return false, nil
	case err != nil:
		return false, err
	}
	if l.Lease.Epoch != a.epoch {
		a.epoch, a.since, a.heard = l.Lease.Epoch, time.Now(), false
	}
	r, err := a.c.propose(ctx, askShrink(a.inode, meta.AskShrink{File: a.inode.ID, Epoch: a.epoch, SizeBytes: a.to, Seq: layout.Seq}))
	switch {
	case err != nil:
		return false, err
	case r.Kind == blocktree.Exists:
		a.heard = true
	case r.Kind == blocktree.Fenced, r.Kind == blocktree.Invalid, r.Kind == blocktree.StaleView: // it has just got another holder, its size, or another view: the next look tells
	default:
		err = r.Err("cluster.AskShrink")
	}
	return true, err
}

// askShrink is the command that asks it of a file's holder.
func askShrink(of *meta.Inode, o meta.AskShrink) meta.Op {
	if of.Integrity == meta.IntegritySector {
		return o
	}
	return meta.AskShrinkTree{AskShrink: o}
}

// takeBack has nobody do later what is not waited for any more.
func (a *shrinkAsker) takeBack() {
	if a.done || a.epoch == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(a.c.ctx, takeBackWait)
	defer cancel()
	_, _ = a.c.propose(ctx, askShrink(a.inode, meta.AskShrink{File: a.inode.ID, Epoch: a.epoch})) // where it fails the holder does what it was asked for
}
