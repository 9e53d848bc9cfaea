package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// A holder makes its own file smaller, as somebody else asks it to (docs/design/0047).

// shrinks is who is told that the file is to be smaller.
type shrinks struct {
	mu      sync.Mutex
	do      func(ctx context.Context, bytes uint64) error // nil: nobody
	ctx     context.Context
	running bool
	wg      sync.WaitGroup
}

// FollowShrink has do called, once at a time, with the size in bytes that somebody asks for, and again while it fails and is asked for, until stop: that ends the ctx of a call and
// waits for it. A call should come to Shrink.
func (h *Handle) FollowShrink(do func(ctx context.Context, bytes uint64) error) (stop func()) {
	ctx, cancel := context.WithCancel(h.ctx)
	x := &h.shrinks
	x.mu.Lock()
	defer x.mu.Unlock()
	x.do, x.ctx = do, ctx
	return func() {
		x.mu.Lock()
		x.do = nil
		x.mu.Unlock()
		cancel()
		x.wg.Wait()
	}
}

// follows reports whether somebody would make the file smaller, and does not at the moment.
func (x *shrinks) follows() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.do != nil && !x.running
}

// start has it done by a goroutine of its own, unless that is so already, or nobody follows any more.
func (x *shrinks) start(do func(context.Context, func(context.Context, uint64) error)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.do == nil || x.running {
		return
	}
	x.running = true
	ctx, call := x.ctx, x.do
	x.wg.Go(func() {
		do(ctx, call)
		x.mu.Lock()
		x.running = false
		x.mu.Unlock()
	})
}

// lookForShrink asks whether the file is to be smaller, and has that done.
func (h *Handle) lookForShrink() {
	if !h.shrinks.follows() {
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, askTimeout)
	defer cancel()
	a, err := h.client.query(ctx, meta.Query{Kind: meta.QueryShrink, File: h.inode.ID})
	if err != nil || a.Inode == nil || a.Lease == nil || a.Lease.Epoch != h.epoch {
		return // nobody asks, or the cluster does not answer, or is of a version before
	}
	bytes := a.Inode.SizeBytes
	h.shrinks.start(func(ctx context.Context, do func(context.Context, uint64) error) {
		log := h.client.cfg.Logger.With("path", h.path.Short(), "sizeBytes", bytes)
		err := h.heardShrink(ctx, bytes)
		if err == nil {
			err = h.confirmShrink(ctx, bytes)
		}
		if err == nil {
			log.Info("the file is made smaller, as it was asked for")
			err = do(ctx, bytes)
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("the file could not be made smaller; it is tried again as long as it is asked for", "err", err)
		}
	})
}

// heardShrink tells who asks that it is worked at.
func (h *Handle) heardShrink(ctx context.Context, bytes uint64) error {
	s, err := h.client.theSession(ctx)
	if err != nil {
		return err
	}
	r, err := h.client.propose(ctx, askShrink(&h.inode, meta.AskShrink{File: h.inode.ID, Epoch: h.epoch, SizeBytes: bytes, Session: s.id}))
	if err == nil && r.Kind != blocktree.Exists { // it was heard before, and did not succeed
		err = r.Err("cluster.AskShrink")
	}
	return err
}

// confirmShrink asks every node, each for itself, whether the file is to have that size: what is cut is gone for good, and that must not hang on the word of one of them (docs/design/0029).
func (h *Handle) confirmShrink(ctx context.Context, bytes uint64) error {
	nodes := h.client.peers.nodes()
	said, most := mostSay(nodes, func(node blocktree.NodeID) bool {
		a, err := h.client.queryNode(ctx, node, meta.Query{Kind: meta.QueryShrink, File: h.inode.ID})
		return err == nil && a.Inode != nil && a.Inode.SizeBytes == bytes && a.Lease != nil && a.Lease.Epoch == h.epoch
	})
	if !most {
		return blocktree.E("shrink", blocktree.Unavailable, fmt.Errorf("%d of %d nodes say that it is asked for", said, len(nodes)))
	}
	return nil
}

// mostSay asks some nodes, all at a time, and returns how many say so, and whether they are more than half.
func mostSay(nodes []blocktree.NodeID, say func(blocktree.NodeID) bool) (said int, most bool) {
	var n atomic.Int64
	var wg sync.WaitGroup
	for _, node := range nodes {
		wg.Go(func() {
			if say(node) {
				n.Add(1)
			}
		})
	}
	wg.Wait()
	said = int(n.Load())
	return said, said > len(nodes)/2
}

// Shrink makes the file end at byte to, a whole number of sectors. Nothing may be read or written behind that from the call on, but what had begun must have ended. When it returns with settled, the handle goes by a
// size that nothing it has asked for can change any more: to, if err is nil. Else nothing may be written behind to through this handle ever again, as the end may yet move there.
func (h *Handle) Shrink(ctx context.Context, to uint64) (settled bool, err error) {
	was := h.SizeBytes()
	switch {
	case to == was:
		return true, nil
	case to == 0 || to > was || to%uint64(h.inode.SectorBytes) != 0:
		return true, blocktree.E("shrink", blocktree.Invalid, fmt.Errorf("%d bytes of %d", to, was))
	}
	x := cutting{h: h, was: was, to: to}
	err = x.cut(ctx)
	if x.asked == 0 { // for no other size
		return true, err
	}
	if e := x.settle(ctx); e != nil {
		return false, e
	}
	if err == nil && h.SizeBytes() != to {
		err = blocktree.E("shrink", blocktree.Busy, errors.New("it has got another size meanwhile"))
	}
	return true, err
}

// ended is why the handle can do nothing any more; nil while it can.
func (h *Handle) ended() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// settle returns when the handle goes by a layout of this epoch that is newer than any which a Resize of this cut was asked by, so that no copy of it does anything later.
func (x *cutting) settle(ctx context.Context) error {
	h := x.h
	for {
		if err := h.ended(); err != nil {
			return err // it goes by nothing newer any more
		}
		l, err := h.client.layout(ctx, &h.inode)
		switch {
		case err != nil && (ctx.Err() != nil || blocktree.KindOf(err) == blocktree.NotFound):
			return err
		case err != nil:
		case l.Epoch != h.epoch:
			return blocktree.E("cluster", blocktree.Fenced, fmt.Errorf("epoch %d, now %d", h.epoch, l.Epoch))
		case l.Seq > x.asked && h.layout().Seq >= l.Seq:
			return nil
		case l.Seq > x.asked:
			h.enter()
			if !h.over {
				h.holder.Refresh()
			}
			h.leave()
		default: // the same size once more: that makes the one before stale
			_, _ = h.client.proposeSize(ctx, &h.inode, meta.Resize{File: h.inode.ID, Seq: l.Seq, SizeBytes: l.Size() * uint64(l.SectorBytes), Time: time.Now().UnixNano()})
		}
		select {
		case <-ctx.Done():
			return blocktree.E("cluster", blocktree.Canceled, ctx.Err())
		case <-time.After(resizePause):
		}
	}
}
