package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

const (
	// shrinkWait is how long the lease is waited for: as long as a node takes to let go of a file that it heals.
	shrinkWait = 2 * time.Second
	// cutsMax is how many regions are made zeros at a time.
	cutsMax = 64
	// resizeTriesMax is how often a path is followed that leads to another file each time.
	resizeTriesMax = 3
	// resizePause lies between two tries where the layout changes all the time.
	resizePause = 20 * time.Millisecond
)

// ResizeOptions say which size a file is to have.
type ResizeOptions struct {
	// Bytes makes the new size of that of now. An error of it is returned as it is.
	Bytes func(now uint64) (uint64, error)
	// Shrink allows a smaller size: what is behind it is gone for good.
	Shrink bool
	// Live has a holder that has the file open asked to make it smaller itself (docs/design/0047), which it does while it is used, instead of Busy.
	Live bool
	// ShrinkTree makes a file of integrity tree smaller: it has the lease, makes the record that there are no floors from a byte on, and calls cut with what it has the lease
	// through, which does the rest. nil: Unsupported, unless somebody has it open who does it, with Live.
	ShrinkTree func(ctx context.Context, to uint64, cut func(context.Context, *Handle) error) error
}

// Resize gives the file at path another size, and returns what it was and is (docs/design/0021). It grows whoever has it open, who hears of it within 5
// seconds; what is new reads as zeros. To be made smaller its lease is taken, without force; who has it is asked, with Live. The same size is no error. Kinds: NotFound,
// Invalid (a directory, no such size, or a smaller one that is not allowed), Busy (somebody has it, or changes its size), TooLarge, Unavailable.
func (c *Client) Resize(ctx context.Context, path blocktree.Path, o ResizeOptions) (was, is uint64, err error) {
	for try := 1; ; try++ {
		inode, err := c.Stat(ctx, path)
		if err != nil {
			return 0, 0, err
		}
		was, is, err := c.resize(ctx, path, inode, o)
		if blocktree.KindOf(err) == blocktree.NotFound && try < resizeTriesMax {
			if now, e := c.Stat(ctx, path); e == nil && now.ID != inode.ID {
				continue // it has moved to the directory's own cluster, or was made anew
			}
		}
		return was, is, err
	}
}

func (c *Client) resize(ctx context.Context, path blocktree.Path, inode *meta.Inode, o ResizeOptions) (was, is uint64, err error) {
	if c, err = c.HomeOf(ctx, inode.ID); err != nil {
		return 0, 0, err
	}
	fail := func(err error) (uint64, uint64, error) {
		return 0, 0, &blocktree.Error{Op: "resize", Path: path.Short(), Err: err}
	}
	if inode.Kind != meta.KindFile {
		what := "it is a directory"
		if inode.Kind == meta.KindLink {
			what = "it is a symbolic link"
		}
		return fail(&blocktree.Error{Kind: blocktree.Invalid, Err: errors.New(what), Hint: "files have sizes; btnode file ls shows which there are"})
	}
	shrink := func() error { return c.shrink(ctx, path, inode, is) }
	if inode.Integrity != meta.IntegritySector {
		shrink = func() error { return c.shrinkTree(ctx, inode, is, o.ShrinkTree) }
	}
	if itself := shrink; o.Live {
		shrink = func() error { return c.shrinkLive(ctx, inode, is, itself) }
	}
	was = inode.SizeBytes
	if is, err = o.Bytes(was); err != nil {
		return 0, 0, err
	}
	switch sector := uint64(inode.SectorBytes); {
	case is == was:
		return was, is, nil
	case is == 0 || is%sector != 0:
		err = &blocktree.Error{Kind: blocktree.Invalid, Err: fmt.Errorf("a size of %d bytes", is), Hint: fmt.Sprintf("a whole number of the file's sectors of %d bytes, not zero", sector)}
	case is > blocktree.FileBytesMax:
		err = &blocktree.Error{Kind: blocktree.TooLarge, Err: fmt.Errorf("a size of %d bytes", is), Hint: fmt.Sprintf("at most %d", uint64(blocktree.FileBytesMax))}
	case is > was:
		err = c.grow(ctx, inode, is)
	case !o.Shrink:
		err = &blocktree.Error{Kind: blocktree.Invalid, Err: fmt.Errorf("%d bytes are fewer than the %d that it has", is, was),
			Hint: "whatever lies behind the new end would be gone for good; if that is meant, say --shrink"}
	default:
		err = shrink()
	}
	if err != nil {
		return fail(err)
	}
	return was, is, nil
}

// grow asks until nothing else has changed the file's layout at the same time.
func (c *Client) grow(ctx context.Context, inode *meta.Inode, to uint64) error {
	for {
		l, err := c.layout(ctx, inode)
		if err != nil {
			return err
		}
		if err := sizeStands(l, inode.SizeBytes); err != nil {
			return err
		}
		again, err := c.proposeSize(ctx, inode, meta.Resize{File: inode.ID, Seq: l.Seq, SizeBytes: to, Time: time.Now().UnixNano()})
		if !again {
			return err
		}
	}
}

// sizeStands refuses a layout of another size than was thought.
func sizeStands(l *stripe.Layout, bytes uint64) error {
	if now := l.Size() * uint64(l.SectorBytes); now != bytes {
		return &blocktree.Error{Kind: blocktree.Busy, Err: fmt.Errorf("it had %d bytes, and has %d", bytes, now), Hint: "somebody else changes its size; look, and ask again"}
	}
	return nil
}

// proposeSize asks for a size, and says whether to ask again under the newest layout.
func (c *Client) proposeSize(ctx context.Context, inode *meta.Inode, size meta.Resize) (again bool, err error) {
	var op meta.Op = size
	if inode.Integrity != meta.IntegritySector {
		op = meta.ResizeTree{Resize: size}
	}
	r, err := c.propose(ctx, op)
	if err != nil || r.Kind != blocktree.StaleView {
		if err == nil {
			err = r.Err("cluster")
		}
		return false, err
	}
	select {
	case <-ctx.Done():
		return false, blocktree.E("cluster", blocktree.Unavailable, ctx.Err())
	case <-time.After(resizePause):
	}
	return true, nil
}

// shrink takes the lease, makes what is to be cut zeros, and only then moves the end.
func (c *Client) shrink(ctx context.Context, path blocktree.Path, inode *meta.Inode, to uint64) error {
	h, err := c.Open(ctx, path, inode, OpenOptions{Wait: shrinkWait})
	if err != nil {
		return c.NotToShrink(ctx, inode.ID, err)
	}
	defer func() {
		if e := h.Close(); e != nil && err == nil {
			c.cfg.Logger.Warn("the lease was not given back well", "path", path.Short(), "err", e)
		}
	}()
	return h.shrink(ctx, inode.SizeBytes, to)
}

// NotToShrink is err of who would have opened a file to make it smaller. Where it is Busy because somebody has it, the hint says what to do.
func (c *Client) NotToShrink(ctx context.Context, f blocktree.FileID, err error) error {
	if blocktree.KindOf(err) != blocktree.Busy {
		return err
	}
	if l, e := c.Holder(ctx, f); e == nil && l == nil { // it is for something else
		return err
	}
	return &blocktree.Error{Kind: blocktree.Busy, Err: err, Hint: "who has it open is asked to make it smaller by btnode file resize --shrink; where that says the same it cannot: stop the server, or close the file, first"}
}

// shrinkTree is shrink by who makes records of the file's tree.
func (c *Client) shrinkTree(ctx context.Context, inode *meta.Inode, to uint64, shrink func(context.Context, uint64, func(context.Context, *Handle) error) error) error {
	if shrink == nil {
		return &blocktree.Error{Kind: blocktree.Unsupported, Err: errors.New("a file of integrity tree is made smaller by who reads it"), Hint: "name the secret key of somebody who reads it (btnode file resize --shrink --reader-key FILE)"}
	}
	return shrink(ctx, to, func(ctx context.Context, h *Handle) error { return h.shrink(ctx, inode.SizeBytes, to) })
}

// shrink makes the file, of was bytes, end at byte to.
func (h *Handle) shrink(ctx context.Context, was, to uint64) error {
	if err := sizeStands(h.layout(), was); err != nil {
		return err
	}
	x := cutting{h: h, was: was, to: to}
	if err := x.cut(ctx); err != nil {
		return &blocktree.Error{Op: "cut", Err: err, Hint: fmt.Sprintf("what lies behind byte %d may be zeros by now, and btnode file stat tells its size; ask again", to)}
	}
	return nil
}

// cutting is a file of was bytes on its way to end at byte to.
type cutting struct {
	h       *Handle
	was, to uint64
	asked   blocktree.ViewID // of the layout that Raft was asked by last, if it was
}

// cut makes the file end there: zeros first, durably, then the size, under one epoch.
func (x *cutting) cut(ctx context.Context) error {
	h, l := x.h, x.h.layout()
	if err := h.zeroFrom(ctx, l, blocktree.SectorIndex(x.to/uint64(l.SectorBytes))); err != nil {
		return err
	}
	if err := h.Flush(ctx); err != nil {
		return err
	}
	s, err := h.client.theSession(ctx)
	if err != nil {
		return err
	}
	for {
		if err := sizeStands(l, x.was); err != nil {
			return err
		}
		x.asked = l.Seq
		again, err := h.client.proposeSize(ctx, &h.inode, meta.Resize{File: h.inode.ID, Seq: l.Seq, SizeBytes: x.to, Session: s.id, Epoch: h.epoch, Time: time.Now().UnixNano()})
		if !again {
			return err
		}
		if l, err = h.client.layout(ctx, &h.inode); err != nil {
			return err
		}
		if l.Epoch != h.epoch {
			return blocktree.E("cluster", blocktree.Fenced, fmt.Errorf("epoch %d, now %d", h.epoch, l.Epoch))
		}
	}
}

// zeroFrom writes zeros from a sector to the end, a region at a time, cutsMax of them at once.
func (h *Handle) zeroFrom(ctx context.Context, l *stripe.Layout, first blocktree.SectorIndex) error {
	var writes []*Write
	var failed error
	wait := func(keep int) {
		for len(writes) > keep {
			if err := writes[0].Wait(ctx); err != nil && failed == nil {
				failed = err
			}
			writes = writes[1:]
		}
	}
	for end := blocktree.SectorIndex(l.Size()); first < end && failed == nil; {
		region := l.RegionOf(first)
		at, n := l.Run(region)
		count := min(at+blocktree.SectorIndex(n), end) - first
		v, err := h.Begin(region)
		if err != nil {
			failed = err
			break
		}
		writes = append(writes, h.Zero(region, first, uint32(count), v))
		first += count
		wait(cutsMax - 1)
	}
	wait(0)
	return failed
}
