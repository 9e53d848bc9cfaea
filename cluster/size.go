package cluster

import (
	"context"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// sizesInterval is how often a client asks for the sizes of what it has open: a file that nobody reads or writes tells nobody of its new size
// (docs/design/0021). With the time of an answer that is 5 s at most.
const sizesInterval = 2 * time.Second

// size is how many bytes a file has as far as whoever has it open has heard.
type size struct {
	bytes  atomic.Uint64
	layout *stripe.Layout // that says so; of a Handle only, under its mu
}

// note goes by a layout, and returns what the size was and is.
func (s *size) note(l *stripe.Layout) (old, now uint64) {
	if l == s.layout {
		return 0, 0
	}
	first := s.layout == nil
	s.layout = l
	now = l.Size() * uint64(l.SectorBytes)
	if old = s.bytes.Swap(now); first {
		old = now
	}
	return old, now
}

// SizeBytes is the size of the file as far as the handle has heard: never more than it is. It does not block.
func (h *Handle) SizeBytes() uint64 { return h.size.bytes.Load() }

// SizeBytes is the size of the file as far as the reader has heard. It does not block.
func (r *Reader) SizeBytes() uint64 { return r.size.Load() }

func (c *Client) sizeChanged(path blocktree.Path, old, now uint64) {
	c.cfg.Logger.Info("the file has another size", "path", path.Short(), "sizeBytes", now, "wasBytes", old)
}

// followSizes tells handles and readers of files that have another size.
func (c *Client) followSizes() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(sizesInterval):
		}
		for _, h := range c.handles() {
			if !c.tellInode(h.inode.ID, h.inodeIs) {
				break
			}
			h.lookForShrink()
		}
		for _, r := range c.openReaders() {
			if !c.tellInode(r.inode.ID, func(i *meta.Inode) { r.sizeIs(i.SizeBytes) }) {
				break
			}
		}
	}
}

// tellInode tells who has a file open what the cluster says of it. It returns false where the cluster does not answer, so that all are asked about again later; a file
// that was removed says nothing of the others.
func (c *Client) tellInode(f blocktree.FileID, tell func(*meta.Inode)) bool {
	ctx, cancel := context.WithTimeout(c.ctx, askTimeout)
	defer cancel()
	switch inode, err := c.StatFile(ctx, f); {
	case err == nil:
		tell(inode)
	case blocktree.KindOf(err) != blocktree.NotFound:
		return false
	}
	return true
}

// StatFile describes a file as the cluster knows it now. NotFound where it is no more.
func (c *Client) StatFile(ctx context.Context, f blocktree.FileID) (*meta.Inode, error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryStatID, File: f})
	if err == nil {
		err = checkInode(a.Inode)
	}
	if err != nil {
		return nil, err
	}
	return a.Inode, nil
}

// inodeIs tells the handle what the cluster says of its file.
func (h *Handle) inodeIs(i *meta.Inode) {
	h.sizeIs(i.SizeBytes)
	h.accessIs(i)
}

// Hear asks the cluster for the size of the file, for who knows that it has another one: the handle goes by it soon.
func (h *Handle) Hear(ctx context.Context) error {
	inode, err := h.client.StatFile(ctx, h.inode.ID)
	if err == nil {
		h.sizeIs(inode.SizeBytes)
	}
	return err
}

// Hear asks the cluster for the size of the file, and goes by it.
func (r *Reader) Hear(ctx context.Context) error {
	inode, err := r.client.StatFile(ctx, r.inode.ID)
	if err == nil {
		r.sizeIs(inode.SizeBytes)
	}
	return err
}

// sizeIs has the machine ask for the layout that says so, if that is news.
func (h *Handle) sizeIs(bytes uint64) {
	if bytes == h.SizeBytes() {
		return
	}
	h.enter()
	if !h.over {
		h.holder.Refresh()
	}
	h.leave()
}

func (r *Reader) sizeIs(bytes uint64) {
	if old := r.size.Swap(bytes); old != bytes {
		r.client.sizeChanged(r.path, old, bytes)
	}
}

// openReaders lists the files that are open without a lease.
func (c *Client) openReaders() (rs []*Reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.readers {
		rs = append(rs, r)
	}
	return rs
}

// listReader and unlistReader keep which files are open without a lease.
func (c *Client) listReader(r *Reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers == nil {
		c.readers = map[*Reader]struct{}{}
	}
	c.readers[r] = struct{}{}
}

func (c *Client) unlistReader(r *Reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.readers, r)
}
