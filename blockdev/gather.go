package blockdev

import (
	"context"
	"sync"

	"blocktree"
)

const (
	// gatherFlying is how many writes of a chain are at the file before the next ones wait for each other: one that is answered, and one that is
	// worked on meanwhile.
	gatherFlying = 2

	// gatherBytesMax is the longest run that is made of several writes: 32 of 4 KiB.
	gatherBytesMax = 128 << 10
)

// gather makes one run of writes that go on where the one before ended, while others of that chain are in flight: a run costs the members as
// much as a single write does. Each write keeps its range lock and its answer, and a chain waits for nothing but its own writes.
type gather struct {
	d  *Device
	wg sync.WaitGroup

	mu     sync.Mutex
	chains [blocktree.WriteChainsMax]*chain
	now    uint64
}

// chain is a sequence of writes, each of which begins where the one before ended.
type chain struct {
	next   blocktree.SectorIndex
	flying int     // at the file
	held   *bundle // waits until one of them ends; nil: none does
	used   uint64
}

// bundle is a run of several writes, or of one that waits for others.
type bundle struct {
	chain  *chain
	first  blocktree.SectorIndex
	buffer *Buffer
	writes []startedWrite
}

// startedWrite is a write of locked sectors that nobody waits for.
type startedWrite struct {
	blocktree.Started
	first blocktree.SectorIndex
	count uint64
	lock  *rangeLock
}

// add returns the chain of a write that is to go to the file now, or nil if it was kept and will go with others.
func (g *gather) add(w startedWrite, p []byte) *chain {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now++
	c := g.find(w.first)
	c.next, c.used = w.first+blocktree.SectorIndex(w.count), g.now
	if c.held != nil && len(c.held.buffer.B)+len(p) > gatherBytesMax {
		g.send(c)
	}
	if c.held == nil {
		if c.flying < gatherFlying {
			c.flying++
			return c
		}
		c.held = &bundle{chain: c, first: w.first, buffer: g.d.memory.scratch(gatherBytesMax)}
		c.held.buffer.B = c.held.buffer.B[:0]
	}
	c.held.buffer.B = append(c.held.buffer.B, p...)
	c.held.writes = append(c.held.writes, w)
	return nil
}

// find returns the chain that a write at first goes on with, a new one in the place of that least recently used if there is none. g.mu is
// held.
func (g *gather) find(first blocktree.SectorIndex) *chain {
	at := 0
	for i, c := range g.chains {
		switch {
		case c == nil:
			at = i
		case c.next == first:
			return c
		case g.chains[at] != nil && c.used < g.chains[at].used:
			at = i
		}
	}
	if old := g.chains[at]; old != nil && old.held != nil {
		g.send(old)
	}
	g.chains[at] = new(chain)
	return g.chains[at]
}

// landed says that a write or a bundle of the chain has ended, or was not begun after all.
func (g *gather) landed(c *chain) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.flying--
	if c.held != nil && c.flying < gatherFlying {
		g.send(c)
	}
}

// send has the chain's bundle written. g.mu is held.
func (g *gather) send(c *chain) {
	b := c.held
	c.held = nil
	c.flying++
	g.wg.Add(1)
	go g.write(b)
}

// write is the goroutine of a bundle. Nobody waits for it who could give up; the file ends it.
func (g *gather) write(b *bundle) {
	defer g.wg.Done()
	err := g.d.file.WriteSectors(context.Background(), b.first, b.buffer.B)
	b.buffer.Release()
	g.landed(b.chain)
	for i := range b.writes {
		g.d.endWrite(&b.writes[i], err)
	}
}

// close has all that is kept written, and returns when that has ended. No more is added.
func (g *gather) close() {
	g.mu.Lock()
	for _, c := range g.chains {
		if c != nil && c.held != nil {
			g.send(c)
		}
	}
	g.mu.Unlock()
	g.wg.Wait()
}
