package blockdev

import (
	"context"
	"sync"
	"sync/atomic"

	"blocktree"
)

const (
	// aheadFlyingMax is how many pieces of a device are being read at a time: 2 MiB, which keeps the line busy.
	aheadFlyingMax = 8

	// aheadOthersMax is how many requests that belong to no stream may be at the file while a read ahead begins: with more it would be in their
	// way.
	aheadOthersMax = 4

	// aheadReadingMax is how many bytes more than one read may want together while a read ahead begins: with more, clients keep the line busy
	// themselves, and a copy out of a piece is all that they would get.
	aheadReadingMax = 256 << 10
)

// ahead reads ahead for one device (docs/design/0023-cache-and-ahead.md). A nil *ahead does not.
type ahead struct {
	d      *Device
	pieces *pieces
	sector uint64
	slot   uint64 // sectors of a piece
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	live   atomic.Int64 // pieces that can be found
	flying atomic.Int64 // pieces being read
	others atomic.Int64 // requests at the file that belong to no stream

	reads   atomic.Int64 // reads that have not ended
	reading atomic.Int64 // bytes that they want

	mu      sync.Mutex
	streams streams
	closed  bool
}

// newAhead returns nil for a device without a cache, and for one whose file never waits.
func newAhead(d *Device) *ahead {
	if d.cache == nil || d.cache.cache.pieces == nil || d.prompt {
		return nil
	}
	p := d.cache.cache.pieces
	a := &ahead{d: d, pieces: p, sector: d.sector, slot: aheadPieceBytes / d.sector,
		streams: newStreams(d.sector, min(blocktree.ReadAheadWindowBytesMax, int64(p.most)*aheadPieceBytes/2))}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// close waits for what is being read and gives all memory back. No call of the device is in flight any more.
func (a *ahead) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.cancel()
	a.wg.Wait()
	a.pieces.forget(a.d.cache.open)
}

// asks counts a client's request that is at the file: n is 1 before, -1 after it. Its stream is nil if it belongs to none.
func (a *ahead) asks(s *stream, n int64) {
	if a != nil && s == nil {
		a.others.Add(n)
	}
}

// wants counts a client's read and its bytes: n is 1 before it is noted, -1 after it.
func (a *ahead) wants(n int64, bytes int) {
	if a != nil {
		a.reads.Add(n)
		a.reading.Add(n * int64(bytes))
	}
}

func (a *ahead) key(sector blocktree.SectorIndex) pieceKey {
	return pieceKey{a.d.cache.open, uint64(sector) / a.slot}
}

// slotEnd is where the slot of a sector ends.
func (a *ahead) slotEnd(sector blocktree.SectorIndex) blocktree.SectorIndex {
	return (sector/blocktree.SectorIndex(a.slot) + 1) * blocktree.SectorIndex(a.slot)
}

// has reports whether any of count sectors from first on was read ahead, or is being.
func (a *ahead) has(first blocktree.SectorIndex, count uint64) bool {
	if a == nil || a.live.Load() == 0 {
		return false
	}
	a.pieces.mu.Lock()
	defer a.pieces.mu.Unlock()
	for at, end := first, first+blocktree.SectorIndex(count); at < end; at = a.slotEnd(at) {
		if a.pieces.all[a.key(at)] != nil {
			return true
		}
	}
	return false
}

// serve fills dst from sector first on as far as it was read ahead and is believed yet, and returns how many sectors that is. It waits, until ctx
// ends, for pieces that are being read; with none, nil, it does not wait.
func (a *ahead) serve(ctx context.Context, first blocktree.SectorIndex, dst []byte) (served uint64) {
	if a == nil || a.live.Load() == 0 {
		return 0
	}
	keep := uint64(len(dst))/a.sector <= cacheReadSectorsMax
	for len(dst) > 0 {
		at := first + blocktree.SectorIndex(served)
		x := a.pieces.use(a.key(at), at)
		if x == nil {
			return served
		}
		n := uint64(0)
		if x.await(ctx) {
			n = a.copy(x, at, dst, keep)
		}
		end := x.first + blocktree.SectorIndex(x.count)
		a.pieces.done(x)
		served += n
		dst = dst[n*a.sector:]
		if at+blocktree.SectorIndex(n) < end {
			return served // all of it, or the rest is not to be had here
		}
	}
	return served
}

// await reports whether the piece was read in. Without ctx it does not wait.
func (x *piece) await(ctx context.Context) bool {
	select {
	case <-x.ready:
		return x.ok
	default:
	}
	if ctx == nil {
		return false
	}
	select {
	case <-x.ready:
		return x.ok
	case <-ctx.Done():
		return false
	}
}

// copy fills dst from sector at of a piece on, as far as its sectors are what everybody would read now, and returns how many those are. With keep they
// are cached as if they had been read from the file.
func (a *ahead) copy(x *piece, at blocktree.SectorIndex, dst []byte, keep bool) uint64 {
	skip := uint64(at - x.first)
	stamps := x.stamps[skip:]
	stamps = stamps[:min(uint64(len(stamps)), uint64(len(dst))/a.sector)]
	n := a.d.cache.current(at, stamps)
	data := x.memory.data[skip*a.sector : (skip+n)*a.sector]
	copy(dst, data)
	for i := uint64(0); keep && i < n; i++ {
		a.d.cache.put(at+blocktree.SectorIndex(i), stamps[i], data[i*a.sector:(i+1)*a.sector])
	}
	return n
}

// note learns of a client's read, has read what will be wanted next, and returns the stream that the read belongs to, or nil.
func (a *ahead) note(first blocktree.SectorIndex, count uint64) *stream {
	if a == nil {
		return nil
	}
	now := a.pieces.now.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.streams.note(first, count, now)
	if s != nil {
		a.extend(s)
	}
	return s
}

// fared says of a read that was noted how many of its sectors came from here.
func (a *ahead) fared(s *stream, first blocktree.SectorIndex, count, served uint64) {
	if a == nil {
		return
	}
	if a.live.Load() > 0 {
		for at, end := first, first+blocktree.SectorIndex(count); at < end; at = a.slotEnd(at) {
			a.pieces.pass(a.key(at), at, min(end, a.slotEnd(at)))
		}
	}
	if served > 0 {
		a.d.cache.cache.aheadHits.Add(served)
	}
	if s == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams.fared(s, served)
}

// extend asks for what is missing in the window of a stream. Reads longer than half a piece are left alone: they wait for little but their bytes, and
// pieces would only add a copy. a.mu is held.
func (a *ahead) extend(s *stream) {
	if s.longest > a.slot/2 || a.reading.Load() > aheadReadingMax && a.reads.Load() > 1 {
		return
	}
	end := a.d.Size() / a.sector // as it is now
	to := blocktree.SectorIndex(min(uint64(s.front)+s.window, end))
	for s.asked < to && !a.closed && a.others.Load() <= aheadOthersMax && a.flying.Load() < aheadFlyingMax {
		if _, valid := a.d.cache.lease.Lease(); !valid {
			return // nothing would be believed
		}
		count := min(uint64(a.slotEnd(s.asked)), end) - uint64(s.asked)
		x, room := a.pieces.take(a.key(s.asked), s, &a.live, s.asked, count)
		if !room {
			return
		}
		s.asked += blocktree.SectorIndex(count)
		if x != nil {
			a.wg.Add(1)
			a.flying.Add(1)
			go a.read(x)
		}
	}
}

// read is the goroutine that reads a piece in.
func (a *ahead) read(x *piece) {
	defer a.wg.Done()
	a.d.cache.stampAll(x.first, x.stamps) // before the read begins
	err := a.d.file.ReadSectors(a.ctx, x.first, x.memory.data[:x.count*a.sector])
	if err != nil {
		x.stream.ended.Store(true)
		if a.ctx.Err() == nil {
			_ = a.d.wrap(readOp, err) // where a loss is noticed; else whoever wants the sectors is told what is wrong with them
		}
	}
	a.flying.Add(-1)
	a.pieces.arrived(x, err == nil)
}
