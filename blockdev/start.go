package blockdev

import "blocktree"

// startSectorsMax is the longest read that is started without a goroutine; the file has a bound in bytes of its own.
const startSectorsMax = 8

// StartRead is ReadAt for a caller that goes on at once: r hears of the end as blocktree.StartedRead says. It returns false,
// and does nothing, for a read that needs a goroutine that waits: that is what ReadAt is for. Close fails the reads that were
// started and have not ended with Closed.
func (d *Device) StartRead(p []byte, off uint64, r blocktree.StartedRead) bool {
	if d.starter == nil || len(p) == 0 || !d.aligned(off, uint64(len(p))) {
		return false
	}
	first, count := d.span(off, uint64(len(p)))
	if count > startSectorsMax || d.check("", off, uint64(len(p)), false) != nil {
		return false
	}
	s := &startedRead{StartedRead: r, d: d, first: first, dst: p}
	if d.cache != nil {
		for i := range count {
			s.stamps[i] = d.cache.stamp(first + blocktree.SectorIndex(i)) // before the read begins
		}
	}
	defer d.ops.leave() // the device does not wait for the read: it closes the file, and that ends it
	return d.starter.StartRead(first, p, s)
}

// startedRead keeps what was read in the cache before the caller hears of it.
type startedRead struct {
	blocktree.StartedRead
	d      *Device
	first  blocktree.SectorIndex
	dst    []byte
	stamps [startSectorsMax]cacheStamp
}

// Claim implements blocktree.StartedRead. From here until End the device counts the read as in flight.
func (s *startedRead) Claim() bool {
	if err := s.d.ops.enter(); err != nil {
		if s.StartedRead.Claim() {
			s.StartedRead.End(s.d.wrap(readOp, err))
		}
		return false
	}
	if s.StartedRead.Claim() {
		return true
	}
	s.d.ops.leave()
	return false
}

// End implements blocktree.StartedRead.
func (s *startedRead) End(err error) {
	d := s.d
	defer d.ops.leave()
	if err != nil {
		s.StartedRead.End(d.wrap(readOp, err))
		return
	}
	for i := uint64(0); d.cache != nil && i < uint64(len(s.dst))/d.sector; i++ {
		d.cache.put(s.first+blocktree.SectorIndex(i), s.stamps[i], s.dst[i*d.sector:(i+1)*d.sector])
	}
	s.StartedRead.End(nil)
}
