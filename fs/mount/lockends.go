package mount

import (
	"context"
	"math"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// How locks end: those of fcntl when their process closes the file, by whatever handle, those of flock with their handle.

// owned is whose locks of flock a handle has; 0: nobody's.
type owned struct{ atomic.Uint64 }

// closings has go-fuse's Flush, which says not whose close it is, say so.
type closings struct {
	fuse.RawFileSystem
	tree *tree
}

// Flush implements fuse.RawFileSystem. The owner goes by the channel that it could be interrupted by, which it is not.
func (c closings) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	var by <-chan struct{} = make(chan struct{})
	c.tree.closings.Store(by, in.LockOwner)
	defer c.tree.closings.Delete(by)
	return c.RawFileSystem.Flush(by, in)
}

// closedBy gives back what the process that closes the file has locked by fcntl. What is gone with its service is not the error of a close.
func (n *node) closedBy(ctx context.Context) {
	c, ok := ctx.(*fuse.Context)
	if !ok {
		return
	}
	if owner, ok := n.tree.closings.Load(c.Cancel); ok {
		_ = n.unlock(ctx, max(owner.(uint64), 1), span{0, math.MaxInt64 + 1})
	}
}

// released gives back what a handle has locked by flock.
func (n *node) released(ctx context.Context, o *owned) {
	if owner := o.Swap(0); owner != 0 {
		_ = n.unlock(ctx, owner, flockSpan) // it ends with its service else
	}
}
