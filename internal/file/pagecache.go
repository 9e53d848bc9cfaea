package file

import (
	"context"
	"sync"

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
func (g *guard) source(ctx context.Context) tree.Pages {
	return tree.Pages{Cache: &g.cache, Fetch: func(id tree.PageID, ref tree.Ref) (*tree.Page, error) {
		p := new(tree.Page)
		return p, g.pages.ReadSectors(ctx, g.shape.Address(id, ref.Place()), p[:])
	}}
}
