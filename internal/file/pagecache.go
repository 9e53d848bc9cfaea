package file

import (
	"context"
	"fmt"
	"sync"
	"time"

	"blocktree"
	"blocktree/crypto/tree"
)

// cachePages bounds the pages that a guard keeps: 8 MiB.
const cachePages = 2048

type cacheKey struct {
	id  tree.PageID
	ref tree.Ref
}

// pageCache is a tree.Cache of at most cachePages.
type pageCache struct {
	mu    sync.Mutex
	pages map[cacheKey]*tree.Page
}

// Get implements tree.Cache.
func (c *pageCache) Get(id tree.PageID, ref tree.Ref) *tree.Page {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pages[cacheKey{id, ref}]
}

// Put implements tree.Cache; if there are many, the page takes the place of any other one.
func (c *pageCache) Put(id tree.PageID, ref tree.Ref, p *tree.Page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pages) >= cachePages {
		for other := range c.pages {
			delete(c.pages, other)
			break
		}
	}
	c.pages[cacheKey{id, ref}] = p
}

// source is where the pages of the tree come from: the cache, or the companion.
func (g *guard) source(ctx context.Context, s *tree.Shape) tree.Pages {
	return tree.Pages{Cache: &g.cache, Fetch: func(id tree.PageID, ref tree.Ref) (*tree.Page, error) {
		p, at := new(tree.Page), s.Address(id, ref.Place())
		if err := g.roomFor(ctx, uint64(at)+1); err != nil {
			return nil, err
		}
		return p, g.pages.ReadSectors(ctx, at, p[:])
	}}
}

const (
	roomPause    = 20 * time.Millisecond
	roomPatience = 10 * time.Second
)

// roomFor returns when the companion is known to have so many pages: it grows with its file, and whoever has it open hears of that later. If it does not, the cluster has not grown both. Kind Corrupt.
func (g *guard) roomFor(ctx context.Context, pages uint64) error {
	for began := g.now(); g.pages.sectors() < pages; {
		if g.now().Sub(began) > roomPatience {
			return blocktree.E("integrity", blocktree.Corrupt, fmt.Errorf("the file that holds the tree has %d pages, not %d", g.pages.sectors(), pages))
		}
		if err := g.pages.hear(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return blocktree.E("integrity", blocktree.Unavailable, ctx.Err())
		case <-time.After(roomPause):
		}
	}
	return nil
}

// hear asks for the size of the file.
func (f *File) hear(ctx context.Context) error {
	if f.handle != nil {
		return f.handle.Hear(ctx)
	}
	return f.reader.Hear(ctx)
}
