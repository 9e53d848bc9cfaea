package blockdev

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"blocktree"
	"blocktree/internal/invariant"
)

const (
	// aheadPieceBytes is how much is read ahead by one read of the file: large enough that a sector in it costs a fraction of one that is read by
	// itself, small enough that the first of it is not long in coming.
	aheadPieceBytes = 256 << 10

	// aheadPieceSectorsMax is how many sectors a piece has at most.
	aheadPieceSectorsMax = aheadPieceBytes / blocktree.SectorBytesMin
)

// pieces are what all devices of a Cache have read ahead, bounded in number. A nil *pieces is none.
type pieces struct {
	most int // as many exist at a time

	mu             sync.Mutex
	all            map[pieceKey]*piece
	held           int    // those that have memory, also when they are not in all any more
	oldest, newest *piece // of those that were read, in the order in which they were
	buffers        sync.Pool

	now          atomic.Uint64 // reads that any device has noted
	read, unread atomic.Uint64 // sectors
}

// pieceKey says which part of which open device a piece is of: slot n begins aheadPieceBytes×n into it.
type pieceKey struct {
	open uint64
	slot uint64
}

// piece is a run of sectors within one slot, with the state that makes them believable. Its data and stamps do not change once it is ready.
type piece struct {
	key    pieceKey
	first  blocktree.SectorIndex
	count  uint64
	stream *stream
	live   *atomic.Int64 // of its device: pieces that can be found
	ready  chan struct{}
	ok     bool // valid when it is ready
	stamps []cacheStamp
	memory *pieceMemory

	// Guarded by pieces.mu.
	left       uint64 // sectors that nobody has read yet
	passed     [aheadPieceSectorsMax / 64]uint64
	users      int // who reads it in, waits for it, or copies from it
	found      bool
	listed     bool
	prev, next *piece
}

type pieceMemory struct {
	data   [aheadPieceBytes]byte
	stamps [aheadPieceSectorsMax]cacheStamp
}

func newPieces(bytesMax int64) *pieces {
	most := int(bytesMax / pieceBytes)
	if most == 0 {
		return nil
	}
	return &pieces{most: most, all: make(map[pieceKey]*piece)}
}

// pieceBytes is what a piece costs: its data, and what is known of as many sectors as it may have.
const pieceBytes = int64(unsafe.Sizeof(pieceMemory{}))

// take returns a new piece for sectors that nobody has read ahead yet, in use by the caller; nil with room where somebody has, nil without where
// there is no room.
func (p *pieces) take(key pieceKey, s *stream, live *atomic.Int64, first blocktree.SectorIndex, count uint64) (_ *piece, room bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.all[key]; old != nil {
		if old.stream == s || !old.listed || old.users > 0 {
			return nil, true
		}
		p.drop(old) // of an earlier scan
	}
	if p.held >= p.most && !p.makeRoom(s) {
		return nil, false
	}
	p.held++
	m, _ := p.buffers.Get().(*pieceMemory)
	if m == nil {
		m = new(pieceMemory)
	}
	x := &piece{key: key, first: first, count: count, stream: s, live: live, ready: make(chan struct{}), memory: m,
		stamps: m.stamps[:count], left: count, users: 1, found: true}
	p.all[key] = x
	live.Add(1)
	return x, true
}

// makeRoom drops a piece of a stream that has ended, or has not been read of for long. p.mu is held.
func (p *pieces) makeRoom(s *stream) bool {
	now := p.now.Load()
	for x := p.oldest; x != nil; x = x.next {
		if x.users == 0 && x.stream != s && (x.stream.ended.Load() || x.stream.used.Load()+aheadProtected < now) {
			p.drop(x)
			return true
		}
	}
	return false
}

// arrived ends the use of the piece by who read it in.
func (p *pieces) arrived(x *piece, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x.ok = ok
	close(x.ready)
	if ok {
		p.read.Add(x.count)
	}
	if x.found && (!ok || x.left == 0) {
		p.drop(x)
	}
	if x.found {
		x.listed = true
		x.prev = p.newest
		if x.prev != nil {
			x.prev.next = x
		} else {
			p.oldest = x
		}
		p.newest = x
	}
	p.unuse(x)
}

// use returns the piece that has sector, or nil. Who gets one calls done.
func (p *pieces) use(key pieceKey, sector blocktree.SectorIndex) *piece {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.all[key]
	if x == nil || sector < x.first || sector >= x.first+blocktree.SectorIndex(x.count) {
		return nil
	}
	x.users++
	return x
}

func (p *pieces) done(x *piece) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unuse(x)
}

// unuse gives the piece's memory back when nobody needs it any more. p.mu is held.
func (p *pieces) unuse(x *piece) {
	x.users--
	invariant.Check(x.users >= 0, "a piece is given up more often than it is used")
	p.free(x)
}

// pass says that sectors from first up to end, of one slot, have been read, from here or elsewhere. A piece of which all have been is dropped.
func (p *pieces) pass(key pieceKey, first, end blocktree.SectorIndex) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.all[key]
	if x == nil {
		return
	}
	first, end = max(first, x.first), min(end, x.first+blocktree.SectorIndex(x.count))
	for s := first; s < end; s++ {
		i := uint64(s - x.first)
		if bit := uint64(1) << (i % 64); x.passed[i/64]&bit == 0 {
			x.passed[i/64] |= bit
			x.left--
		}
	}
	if x.left == 0 && x.listed {
		p.drop(x)
	}
}

// drop makes a piece that can be found one that cannot. p.mu is held.
func (p *pieces) drop(x *piece) {
	x.found = false
	delete(p.all, x.key)
	x.live.Add(-1)
	if x.listed {
		if x.prev != nil {
			x.prev.next = x.next
		} else {
			p.oldest = x.next
		}
		if x.next != nil {
			x.next.prev = x.prev
		} else {
			p.newest = x.prev
		}
		x.listed, x.prev, x.next = false, nil, nil
	}
	if x.left > 0 && x.ok {
		p.unread.Add(x.left)
		x.stream.wasted.Store(true)
	}
	p.free(x)
}

// free takes the memory of a piece that is neither found nor used. p.mu is held.
func (p *pieces) free(x *piece) {
	if x.found || x.users > 0 || x.memory == nil {
		return
	}
	p.buffers.Put(x.memory)
	x.memory, x.stamps = nil, nil
	p.held--
}

// forget drops all pieces of a device that is closed; nobody uses them any more.
func (p *pieces) forget(open uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, x := range p.all {
		if key.open == open {
			p.drop(x)
		}
	}
}

// holds is how many pieces have memory.
func (p *pieces) holds() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}
