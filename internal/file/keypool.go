package file

import (
	"slices"
	"sync"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/internal/workers"
)

// KeyPool draws the key of the next file ahead, and wraps it to the readers that the last one had, so that who makes a file does not wait for that (docs/design/0087). A key that it gives away it has no more: no other file gets it, whatever becomes of the one that it was drawn for.
// Its zero value has none ready; of most lists of readers it has none. Close has to follow. Any number of callers may use it at once.
type KeyPool struct {
	draws workers.Pool

	mu     sync.Mutex
	next   []*nextKey // the one that was asked for last at the end
	closed bool
}

// nextKey is what the next file of a suite and list of readers gets. KeyPool.mu is of what follows those.
type nextKey struct {
	suite   uint8
	readers []keys.PublicKey

	drawing bool
	access  *keys.Access // nil: none is ready
	key     keys.FileKey
}

// create is keys.Create, of a key that was drawn before where one is ready; nil has none.
func (p *KeyPool) create(suite uint8, readers []keys.PublicKey) (*keys.Access, keys.FileKey, error) {
	if p == nil {
		return keys.Create(suite, readers)
	}
	if a, key := p.take(suite, readers); a != nil {
		return a, key, nil
	}
	a, key, err := keys.Create(suite, readers)
	if err == nil {
		p.note(suite, readers)
	}
	return a, key, err
}

// take returns the key that is ready, which nobody else gets from then on, and has another one drawn; nil: none is.
func (p *KeyPool) take(suite uint8, readers []keys.PublicKey) (*keys.Access, keys.FileKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.find(suite, readers)
	if n == nil {
		return nil, keys.FileKey{}
	}
	a, key := n.access, n.key
	n.access, n.key = nil, keys.FileKey{}
	p.ahead(n)
	return a, key
}

// note has the next key of a list drawn that is not known yet, which the one that was asked for longest ago makes room for.
func (p *KeyPool) note(suite uint8, readers []keys.PublicKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.find(suite, readers) != nil {
		return
	}
	n := &nextKey{suite: suite, readers: slices.Clone(readers)}
	p.next = append(p.next, n)
	if len(p.next) > blocktree.KeyPoolListsMax {
		p.next = slices.Delete(p.next, 0, 1)
	}
	p.ahead(n)
}

// find is the entry of a list of readers, in that order, which is the one that was asked for last from then on; with mu.
func (p *KeyPool) find(suite uint8, readers []keys.PublicKey) *nextKey {
	i := slices.IndexFunc(p.next, func(n *nextKey) bool { return n.suite == suite && slices.Equal(n.readers, readers) })
	if i < 0 {
		return nil
	}
	n := p.next[i]
	p.next = append(slices.Delete(p.next, i, i+1), n)
	return n
}

// ahead has a key drawn, unless one is being drawn; with mu.
func (p *KeyPool) ahead(n *nextKey) {
	if n.drawing || p.closed {
		return
	}
	n.drawing = true
	p.draws.Go(func() {
		a, key, err := keys.Create(n.suite, n.readers)
		p.mu.Lock()
		defer p.mu.Unlock()
		n.drawing = false
		if err == nil { // else who asks is told
			n.access, n.key = a, key
		}
	})
}

// Close forgets what is ready, and waits for what is being drawn. From then on nothing is ready.
func (p *KeyPool) Close() {
	p.mu.Lock()
	p.next, p.closed = nil, true
	p.mu.Unlock()
	p.draws.Wait()
}
