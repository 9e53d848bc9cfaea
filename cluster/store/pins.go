package store

import (
	"maps"
	"math/bits"
	"sync"

	"blocktree"
)

// pins counts the live sectors of each segment and knows which sectors of which records are pending. It has its own
// lock, the innermost one.
type pins struct {
	mu      sync.Mutex
	live    map[uint32]liveCount
	pending map[place]pendingRecord
	active  uint32             // the segment that is written
	dead    uint32             // segments before it that died since the last checkpoint began
	stuck   map[place]struct{} // the pending records that have stuck sectors
	target  uint32             // the segment that the compactor writes; 0: none
}

// liveCount is what keeps a segment from being deleted. Its bytes are what the compactor would have to copy.
type liveCount struct {
	sectors int64
	bytes   int64
}

// add changes the count by n sectors. (Checkpoints that were written before bytes included headers may count too few.)
func (l liveCount) add(n int64, shardBytes, recordSectors uint32) liveCount {
	return liveCount{l.sectors + n, max(l.bytes+n*sectorCost(shardBytes, recordSectors), 0)}
}

// sectorCost is what a sector takes on the disk: shard, metadata, and its share of its record's header and padding.
func sectorCost(shardBytes, recordSectors uint32) int64 {
	n := int64(recordSectors)
	return roundUp(headerBytes+n*(int64(shardBytes)+metaBytes)) / n
}

// pendingRecord is a data record of which some sectors were neither indexed nor dropped.
type pendingRecord struct {
	file       blocktree.FileID
	first      blocktree.SectorIndex
	version    blocktree.Version
	shardBytes uint32
	count      uint16
	left       uint16
	shard      blocktree.ShardIndex
	bits       sectorSet
	stuck      sectorSet // those of bits that are committed, but whose page is damaged
}

// sectorSet is a set of the sectors of one record.
type sectorSet [blocktree.RunSectorsMax / 64]uint64

func (s *sectorSet) has(i uint32) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s *sectorSet) add(i uint32)      { s[i/64] |= 1 << (i % 64) }
func (s *sectorSet) remove(i uint32)   { s[i/64] &^= 1 << (i % 64) }

func (s *sectorSet) len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

func newPins() *pins {
	return &pins{live: map[uint32]liveCount{}, pending: map[place]pendingRecord{}, stuck: map[place]struct{}{}}
}

// add makes all sectors of a data record pending and live.
func (p *pins) add(ref Ref, r *Record) {
	rec := pendingRecord{
		file: r.File, first: r.First, version: r.Version, shardBytes: r.ShardBytes, count: uint16(r.Count),
		left: uint16(r.Count), shard: r.Shard,
	}
	for i := range r.Count {
		rec.bits.add(i)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending[ref.place()] = rec
	p.count(ref.Segment, int64(r.Count), r.ShardBytes, r.Count)
}

// copied makes n sectors of a copy live; they are indexed next.
func (p *pins) copied(to Ref, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(to.Segment, n, to.ShardBytes, to.Count)
}

// count changes a segment's live sectors by n (negative to release), which are of a record of recordSectors; p.mu is held.
func (p *pins) count(segment uint32, n int64, shardBytes, recordSectors uint32) {
	l := p.live[segment].add(n, shardBytes, recordSectors)
	if l.sectors == 0 {
		delete(p.live, segment)
		if segment < p.active {
			p.dead++
		}
		return
	}
	p.live[segment] = l
}

// release gives up n sectors that were indexed, or are void.
func (p *pins) release(segment uint32, n int64, shardBytes, recordSectors uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(segment, -n, shardBytes, recordSectors)
}

// get returns a pending record.
func (p *pins) get(at place) (pendingRecord, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.pending[at]
	return r, ok
}

// settle ends the pending state of the sectors [index, index+count) of a record and returns how many were pending.
// With drop they are released too.
func (p *pins) settle(at place, index, count uint32, drop bool) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settleLocked(at, index, count, drop)
}

// settleLocked is settle; p.mu is held.
func (p *pins) settleLocked(at place, index, count uint32, drop bool) uint32 {
	r, ok := p.pending[at]
	if !ok {
		return 0
	}
	settled := uint32(0)
	for i := index; i < min(index+count, uint32(r.count)); i++ {
		if r.bits.has(i) {
			r.bits.remove(i)
			r.stuck.remove(i)
			settled++
		}
	}
	r.left -= uint16(settled)
	if r.stuck == (sectorSet{}) {
		delete(p.stuck, at)
	}
	if r.left == 0 {
		delete(p.pending, at)
	} else {
		p.pending[at] = r
	}
	if drop && settled > 0 {
		p.count(at.segment(), -int64(settled), r.shardBytes, uint32(r.count))
	}
	return settled
}

// setActive tells which segment is written now.
func (p *pins) setActive(segment uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active = segment
}

// deadSegments returns how many segments died since the last checkpoint began.
func (p *pins) deadSegments() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// setTarget tells which segment the compactor writes from now on.
func (p *pins) setTarget(segment uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = segment
}

// snapshot copies the state into a checkpoint and begins to count dead segments anew.
func (p *pins) snapshot(c *checkpointState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = 0
	c.live, c.pending, c.target = maps.Clone(p.live), maps.Clone(p.pending), p.target
}

// uses copies the live counts, and says in which segments there are pending sectors.
func (p *pins) uses() (live map[uint32]liveCount, pending map[uint32]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pending = map[uint32]bool{}
	for at := range p.pending {
		pending[at.segment()] = true
	}
	return maps.Clone(p.live), pending
}

// totals returns the live bytes and the number of records with pending sectors.
func (p *pins) totals() (liveBytes int64, pending int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.live {
		liveBytes += l.bytes
	}
	return liveBytes, len(p.pending)
}

// liveSectors returns a segment's live sectors.
func (p *pins) liveSectors(segment uint32) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live[segment].sectors
}
