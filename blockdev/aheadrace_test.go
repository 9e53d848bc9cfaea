package blockdev

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"

	"pgregory.net/rapid"
)

const (
	crowdSectors = 2 * pieceLen
	crowdWriters = 8
	crowdPart    = 4096 / crowdWriters
)

// crowd is a device with many clients at once. Each writer has an eighth of every sector, which nobody else writes, and counts in it; writes of
// parts, and of whole sectors, may fail with or without effect. Readers go by every way that the engine has.
type crowd struct {
	*storm
	acked, tried [crowdSectors][crowdWriters]atomic.Uint64 // the highest that was acknowledged, and begun
	parts        [crowdSectors]sync.RWMutex                // held for writing by who writes a whole sector; tried only, as time stands still for who waits for it
}

// StartRead and StartWrite are of the storm's calls, not of the file beneath.
func (c *crowd) StartRead(first blocktree.SectorIndex, dst []byte, r blocktree.Started) bool {
	if c.dice(8) == 0 {
		return false
	}
	go func() {
		got := make([]byte, len(dst))
		err := c.ReadSectors(context.Background(), first, got)
		if r.Claim() {
			copy(dst, got)
			r.End(err)
		}
	}()
	return true
}

func (c *crowd) StartWrite(first blocktree.SectorIndex, src []byte, done func(error)) bool {
	if c.dice(8) == 0 {
		return false
	}
	src = append([]byte(nil), src...)
	go func() { done(c.WriteSectors(context.Background(), first, src)) }()
	return true
}

// heard is a Started that is waited for.
type heard struct{ end chan error }

func (h *heard) Claim() bool   { return true }
func (h *heard) End(err error) { h.end <- err }

func (c *crowd) await(started bool, h *heard, otherwise func() error) error {
	if started {
		return <-h.end
	}
	return otherwise()
}

// part writes the next count of one writer into its part of a sector.
func (c *crowd) part(sector, w int) {
	for !c.parts[sector].TryRLock() {
		time.Sleep(time.Millisecond)
	}
	defer c.parts[sector].RUnlock()
	n := c.tried[sector][w].Add(1)
	p := make([]byte, crowdPart)
	binary.BigEndian.PutUint64(p, n)
	binary.BigEndian.PutUint64(p[crowdPart-8:], n)
	if c.dev.WriteAt(context.Background(), p, uint64(sector*4096+w*crowdPart), false) == nil {
		c.acked[sector][w].Store(n)
	}
}

// whole writes the next counts of all.
func (c *crowd) whole(sector int) {
	for !c.parts[sector].TryLock() {
		time.Sleep(time.Millisecond)
	}
	defer c.parts[sector].Unlock()
	p := make([]byte, 4096)
	var n [crowdWriters]uint64
	for w := range n {
		n[w] = c.tried[sector][w].Add(1)
		binary.BigEndian.PutUint64(p[w*crowdPart:], n[w])
		binary.BigEndian.PutUint64(p[(w+1)*crowdPart-8:], n[w])
	}
	h := &heard{make(chan error, 1)}
	off := uint64(sector * 4096)
	if c.await(c.dev.StartWrite(p, off, h), h, func() error { return c.dev.WriteAt(context.Background(), p, off, false) }) != nil {
		return
	}
	for w := range n {
		c.acked[sector][w].Store(n[w])
	}
}

// look reads count sectors as the engine does. What was acknowledged before is there, what was not begun is not.
func (c *crowd) look(first, count int) error {
	least := make([]uint64, count*crowdWriters)
	for i := range least {
		least[i] = c.acked[first+i/crowdWriters][i%crowdWriters].Load()
	}
	p, off := make([]byte, count*4096), uint64(first*4096)
	if !c.dev.TryReadAt(p, off) {
		h := &heard{make(chan error, 1)}
		if c.await(c.dev.StartRead(p, off, h), h, func() error { return c.dev.ReadAt(context.Background(), p, off) }) != nil {
			return nil
		}
	}
	for i := range least {
		part := p[i*crowdPart:][:crowdPart]
		head, tail := binary.BigEndian.Uint64(part), binary.BigEndian.Uint64(part[crowdPart-8:])
		if most := c.tried[first+i/crowdWriters][i%crowdWriters].Load(); head != tail || head < least[i] || head > most {
			return fmt.Errorf("part %d of sector %d is %d and %d, and was %d before and at most %d", i%crowdWriters, first+i/crowdWriters, head, tail, least[i], most)
		}
	}
	return nil
}

func (c *crowd) run(step int) error {
	failed := make(chan error, 1)
	var writers, readers sync.WaitGroup
	var stop atomic.Bool
	for w := range crowdWriters {
		writers.Go(func() {
			for range 60 {
				sector := int(c.dice(4)) // most of the time all of them want the same
				if c.dice(3) == 0 {
					sector = int(c.dice(crowdSectors))
				}
				if c.dice(6) == 0 {
					c.whole(sector)
				} else {
					c.part(sector, w)
				}
			}
		})
	}
	for i := range 3 {
		readers.Go(func() {
			for at := i * 16; !stop.Load(); at = (at + step) % crowdSectors {
				if err := c.look(at, min(step, crowdSectors-at)); err != nil {
					select {
					case failed <- err:
					default:
					}
					return
				}
				if c.dice(50) == 0 {
					at = 0
				}
				time.Sleep(time.Duration(c.dice(3)) * 100 * time.Microsecond)
			}
		})
	}
	readers.Go(func() { // the lease runs out and is renewed; another epoch is not there to be had, as nobody else writes
		for !stop.Load() {
			time.Sleep(time.Duration(c.dice(20)) * time.Millisecond)
			c.mu.Lock()
			c.held = !c.held
			c.mu.Unlock()
		}
	})
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	c.mu.Lock()
	c.held = true
	c.mu.Unlock()
	select {
	case err := <-failed:
		return err
	default:
	}
	for at := 0; at < crowdSectors; at += 8 {
		if err := c.look(at, 8); err != nil {
			return err
		}
	}
	return nil
}

// TestNobodyIsUndone: clients that write parts of the same sectors at once, some of them in vain, undo nothing of each other's, and what they were told
// is written is what everybody reads from then on, from the cache, from what was read ahead, or from the file.
func TestNobodyIsUndone(t *testing.T) {
	var hits, aheadHits, stale uint64
	rapid.Check(t, func(rt *rapid.T) {
		plan := stormPlan{seed: rapid.Uint64().Draw(rt, "seed"), failing: rapid.SampledFrom([]uint64{0, 0, 4}).Draw(rt, "failing")}
		step := rapid.SampledFrom([]int{1, 1, 4, 8, 32}).Draw(rt, "step")
		var err error
		synctest.Test(t, func(t *testing.T) {
			c := &crowd{storm: &storm{plan: plan, epoch: 1, held: true, random: plan.seed}}
			c.File = memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: stormBytes}, Lease: c.lease})
			cache, cacheErr := NewCacheAhead(8<<20, 2<<20)
			if cacheErr != nil {
				t.Fatal(cacheErr)
			}
			defer cache.Close()
			if c.dev, err = Open(c, Options{Cache: cache}); err != nil {
				t.Fatal(err)
			}
			err = c.run(step)
			st := cache.Stats()
			hits, aheadHits, stale = hits+st.Hits, aheadHits+st.AheadHits, stale+st.Stale
			if closeErr := c.dev.Close(); closeErr != nil {
				t.Error(closeErr)
			}
			if a := c.dev.ahead; a.others.Load() != 0 || a.reads.Load() != 0 || a.reading.Load() != 0 || a.live.Load() != 0 || cache.Stats().AheadUsedBytes != 0 {
				t.Errorf("after closing: %d others, %d reads of %d bytes, %d pieces", a.others.Load(), a.reads.Load(), a.reading.Load(), a.live.Load())
			}
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
	if hits == 0 || aheadHits == 0 || stale == 0 {
		t.Errorf("the cache took little part: %d hits, %d read ahead, %d stale", hits, aheadHits, stale)
	}
	t.Logf("%d hits, %d read ahead, %d stale", hits, aheadHits, stale)
}
