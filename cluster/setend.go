package cluster

import (
	"cmp"
	"context"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// Ending is the end of a held file on its way to another byte. It may be asked for again: it is done once.
type Ending struct {
	handle  *Handle
	bytes   uint64
	wrote   int64 // when the file was last written, as far as that was not noted; 0: it was
	command meta.Command
}

// NewEnding says where the file, which ends at byte was, is to end (docs/design/0059).
func (h *Handle) NewEnding(ctx context.Context, was, bytes uint64) (*Ending, error) {
	s, err := h.client.theSession(ctx)
	if err != nil {
		return nil, err
	}
	wrote := h.touch.at.Load()
	return &Ending{h, bytes, wrote, meta.Command{ID: meta.NewCommandID(),
		Op: meta.SetEnd{File: h.inode.ID, Session: s.id, Epoch: h.epoch, Was: was, Bytes: bytes, Time: cmp.Or(wrote, h.client.cfg.Clock.Now().UnixNano())}}}, nil
}

// Ask blocks until it is known what came of it, or ctx ends (Unavailable): then it must be asked again before any other. It returns where the file ends now, also with StaleView: it was not where it was said to be. Other kinds: Fenced, NotFound,
// Invalid (behind its size).
func (e *Ending) Ask(ctx context.Context) (now uint64, err error) {
	r, err := e.handle.client.proposeCommand(ctx, e.command)
	switch {
	case err != nil && isRefusal(err):
		return 0, err
	case err != nil:
		return 0, &blocktree.Error{Op: "set the end", Kind: blocktree.Unavailable, Err: err}
	case r.Kind == blocktree.Other:
		e.handle.notedWith(e.wrote)
	case r.Kind == blocktree.StaleView && r.Inode != nil:
		if now = r.Inode.Length(); now == e.bytes { // it may have been done so long ago that the group has forgotten the command
			return now, nil
		}
		return now, r.Err("set the end")
	}
	return e.bytes, r.Err("set the end")
}

// Grow makes the file at least so large, a whole number of sectors, and returns when the handle goes by that. Kinds: TooLarge, Unavailable, Fenced, NotFound.
func (h *Handle) Grow(ctx context.Context, to uint64) error {
	ctx = h.own(ctx)
	for h.SizeBytes() < to {
		if err := h.ended(); err != nil {
			return err
		}
		l, err := h.client.layout(ctx, &h.inode)
		if err != nil {
			return err
		}
		if l.Epoch != h.epoch {
			return blocktree.E("cluster", blocktree.Fenced, nil)
		}
		if l.Size()*uint64(l.SectorBytes) < to {
			if _, err := h.client.proposeSize(ctx, &h.inode, meta.Resize{File: h.inode.ID, Seq: l.Seq, SizeBytes: to, Time: time.Now().UnixNano()}); err != nil {
				return err
			}
			continue
		}
		h.enter()
		if !h.over {
			h.holder.Refresh()
		}
		h.leave()
		select {
		case <-ctx.Done():
			return blocktree.E("cluster", contextKind(ctx), ctx.Err())
		case <-time.After(resizePause):
		}
	}
	return nil
}

// End asks the cluster where reading the file as bytes ends, and whether that is a length of its own: else it is its size.
func (h *Handle) End(ctx context.Context) (bytes uint64, own bool, err error) {
	i, err := h.client.StatFile(ctx, h.inode.ID)
	if err != nil {
		return 0, false, err
	}
	return i.Length(), i.HasLength, nil
}
