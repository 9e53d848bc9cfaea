package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/stripe"
)

// A file of durability flush may lose what was acknowledged and not flushed. Who has it open then is told so, by everything, until it is opened
// again (docs/design/0014).

// lostHint is for who had the file open.
const lostHint = "what was flushed is there, what was written since may be gone; open the file again"

func lostError(path blocktree.Path) error {
	return &blocktree.Error{Op: "cluster", Path: path.Short(), Kind: blocktree.Lost, Hint: lostHint}
}

// LossNumber is the file's loss number under which it was opened. It does not block.
func (h *Handle) LossNumber() uint64 { return h.loss }

// sayIfLost says that what is taken over is what a loss has left, if it was this holder's epoch that found out.
func (c *Client) sayIfLost(path blocktree.Path, l *stripe.Layout) {
	if l.Loss > 0 && l.LossEpoch == l.Epoch {
		c.cfg.Logger.Warn("acknowledged writes that were not flushed may be gone: too few nodes have kept what they had not synced",
			"path", path.Short(), "lossNumber", l.Loss)
	}
}

// opening is the loss number that a reader without a lease goes by: that of the first layout that it saw.
type opening struct {
	known bool
	loss  uint64
	lost  bool // a later layout had another one
}

// judge notes a layout that the cluster gave, and says whether the file may be read under it: Other, Lost, or StaleView if it is older than what
// was seen before.
func (o *opening) judge(l *stripe.Layout) blocktree.Kind {
	if !o.known {
		o.known, o.loss = true, l.Loss
	}
	o.lost = o.lost || l.Loss > o.loss
	switch {
	case o.lost:
		return blocktree.Lost
	case l.Loss < o.loss:
		return blocktree.StaleView
	}
	return blocktree.Other
}

// LossNumber is the file's loss number under which it was opened: that of the first layout that was asked for. It asks for one if there was none.
func (r *Reader) LossNumber(ctx context.Context) (uint64, error) {
	r.mu.Lock()
	o := r.opening
	r.mu.Unlock()
	if o.known {
		return o.loss, nil
	}
	l, err := r.client.layout(ctx, &r.inode)
	if err != nil {
		return 0, &blocktree.Error{Op: "cluster: loss number", Path: r.path.Short(), Err: err}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opening.judge(l)
	return r.opening.loss, nil
}
