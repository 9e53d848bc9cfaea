package file

import (
	"context"
	"sync"

	"blocktree"
	"blocktree/crypto/tree"
)

const (
	// writerPages is how many pages one write of a fold has at most: 256 KiB.
	writerPages = 64
	// writesAtOnce bounds a fold's writes in flight, so that those of the file's users need not wait behind many.
	writesAtOnce = 8
)

// pageWriter writes the pages of a fold to the companion, those side by side in one write.
type pageWriter struct {
	ctx   context.Context
	guard *guard
	shape *tree.Shape
	first blocktree.SectorIndex
	buf   []byte
	slots chan struct{}
	wg    sync.WaitGroup
	mu    sync.Mutex
	err   error // the first
}

func newPageWriter(ctx context.Context, g *guard, s *tree.Shape) *pageWriter {
	return &pageWriter{ctx: ctx, guard: g, shape: s, slots: make(chan struct{}, writesAtOnce)}
}

// keep implements tree.Keep. The new pages are what the next look at the tree wants.
func (w *pageWriter) keep(id tree.PageID, ref tree.Ref, p *tree.Page) error {
	at := w.shape.Address(id, ref.Place())
	if n := len(w.buf) / tree.PageBytes; n == writerPages || n > 0 && at != w.first+blocktree.SectorIndex(n) {
		w.send()
	}
	if len(w.buf) == 0 {
		w.first = at
	}
	w.buf = append(w.buf, p[:]...)
	w.guard.cache.Put(id, ref, p)
	return either(w.guard.step("page"), w.failed())
}

func (w *pageWriter) send() {
	if len(w.buf) == 0 {
		return
	}
	first, buf := w.first, w.buf
	w.buf = nil
	w.slots <- struct{}{}
	w.wg.Go(func() {
		defer func() { <-w.slots }()
		if err := w.guard.pages.WriteSectors(w.ctx, first, buf); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.err == nil {
				w.err = err
			}
		}
	})
}

func (w *pageWriter) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// finish waits until all is written, and returns the first error.
func (w *pageWriter) finish() error {
	w.send()
	w.wg.Wait()
	return w.failed()
}
