package blockdev

import "blocktree"

// startSectorsMax is the longest request that is started without a goroutine; the file has a bound in bytes of its own.
const startSectorsMax = 8

// StartRead is ReadAt for a caller that goes on at once: r hears of the end as blocktree.Started says. It returns false,
// and does nothing, for a read that needs a goroutine that waits: that is what ReadAt is for. Close fails the reads that were
// started and have not ended with Closed.
func (d *Device) StartRead(p []byte, off uint64, r blocktree.Started) bool {
	if d.reads == nil || len(p) == 0 || !d.aligned(off, uint64(len(p))) {
		return false
	}
	first, count := d.span(off, uint64(len(p)))
	if count > startSectorsMax || d.check("", off, uint64(len(p)), false) != nil {
		return false
	}
	if d.ahead.has(first, count) {
		d.ops.leave()
		return false // it may have to wait for that
	}
	stream := d.ahead.note(first, count)
	s, _ := d.startedReads.Get().(*startedRead)
	if s == nil {
		s = new(startedRead)
	}
	s.Started, s.d, s.first, s.dst, s.stream = r, d, first, p, stream
	if d.cache != nil {
		for i := range count {
			s.stamps[i] = d.cache.stamp(first + blocktree.SectorIndex(i)) // before the read begins
		}
	}
	defer d.ops.leave() // the device does not wait for the read: it closes the file, and that ends it
	d.ahead.asks(stream, 1)
	if !d.reads.StartRead(first, p, s) {
		d.ahead.asks(stream, -1)
		s.Started, s.dst, s.stream = nil, nil, nil
		d.startedReads.Put(s)
		return false
	}
	d.cache.missed(count) // s may be another read's by now
	d.ahead.fared(stream, first, count, 0)
	return true
}

// startedRead keeps what was read in the cache before the caller hears of it. It is pooled once it has ended; one that was given up is not: the
// file may know it yet.
type startedRead struct {
	blocktree.Started
	d      *Device
	first  blocktree.SectorIndex
	dst    []byte
	stream *stream // that it belongs to, or nil
	stamps [startSectorsMax]cacheStamp
}

// Claim implements blocktree.Started. From here until End the device counts the read as in flight.
func (s *startedRead) Claim() bool {
	s.d.ahead.asks(s.stream, -1)
	if err := s.d.ops.enter(); err != nil {
		if s.Started.Claim() {
			s.Started.End(s.d.wrap(readOp, err))
		}
		return false
	}
	if s.Started.Claim() {
		return true
	}
	s.d.ops.leave()
	return false
}

// End implements blocktree.Started.
func (s *startedRead) End(err error) {
	d, r := s.d, s.Started
	defer d.ops.leave()
	if err != nil {
		err = d.wrap(readOp, err)
	}
	for i := uint64(0); err == nil && d.cache != nil && i < uint64(len(s.dst))/d.sector; i++ {
		d.cache.put(s.first+blocktree.SectorIndex(i), s.stamps[i], s.dst[i*d.sector:(i+1)*d.sector])
	}
	s.Started, s.dst, s.stream = nil, nil, nil
	d.startedReads.Put(s)
	r.End(err)
}

// startedBytesMax is the longest write that a file starts.
const startedBytesMax = 16 << 10

// StartedBytesMax is how long a write may be that is made of several, to be started by StartWrite; 0 where the file starts none.
func (d *Device) StartedBytesMax() int {
	if d.writes == nil {
		return 0
	}
	return int(min(startedBytesMax, startSectorsMax*d.sector))
}

// StartWrite is WriteAt, without FUA, for a caller that goes on at once: p is not used any more when it returns true, and r hears of
// the end. Where r gives the write up, it goes on all the same. It returns false, and does nothing, for a write that needs a
// goroutine that waits. As with reads, Close does not wait for r to hear: its flush covers the write, or the file ends it.
func (d *Device) StartWrite(p []byte, off uint64, r blocktree.Started) bool {
	if d.writes == nil || len(p) == 0 || !d.aligned(off, uint64(len(p))) {
		return false
	}
	first, count := d.span(off, uint64(len(p)))
	if count > startSectorsMax || d.check("", off, uint64(len(p)), true) != nil {
		return false
	}
	defer d.ops.leave()
	lock := d.locks.tryLock(first, first+blocktree.SectorIndex(count-1))
	if lock == nil {
		return false
	}
	d.ahead.asks(nil, 1)
	d.cache.begin(first, count)
	d.unsynced.Store(true) // from here on a flush has something to wait for
	s, _ := d.startedWrites.Get().(*startedWrite)
	if s == nil {
		s = &startedWrite{d: d}
		s.done = s.end
	}
	s.r, s.first, s.count, s.lock = r, first, count, lock
	if d.writes.StartWrite(first, p, s.done) {
		return true
	}
	s.r, s.lock = nil, nil
	d.startedWrites.Put(s)
	d.ahead.asks(nil, -1)
	d.cache.end(first, count)
	d.locks.unlock(lock)
	return false
}

// startedWrite is a write between its start and its end, and pooled then. done is end, made once.
type startedWrite struct {
	d     *Device
	r     blocktree.Started
	first blocktree.SectorIndex
	count uint64
	lock  *rangeLock
	done  func(error)
}

// end is called once.
func (s *startedWrite) end(err error) {
	d, r := s.d, s.r
	d.ahead.asks(nil, -1)
	d.modified(s.first, s.count, err)
	d.locks.unlock(s.lock)
	s.r, s.lock = nil, nil
	d.startedWrites.Put(s)
	if err != nil {
		err = d.wrap(writeOp, err)
	}
	if r.Claim() {
		r.End(err)
	}
}
