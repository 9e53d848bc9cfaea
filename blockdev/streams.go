package blockdev

import (
	"sync/atomic"

	"blocktree"
)

const (
	// aheadReadsMin is how many reads, each going further than those before, make a stream believed: two neighbours are common in what is read at random.
	aheadReadsMin = 3

	// aheadSlackReads is how far from a stream's end a read may begin and still belong to it, in lengths of its reads: as many parts
	// as a client makes of a request of 1 MiB, in any order. aheadSlackBytes bounds it.
	aheadSlackReads = 8
	aheadSlackBytes = 1 << 20

	// aheadMissesMax is how many reads of a stream in a row may find nothing read ahead before its window is halved.
	aheadMissesMax = 8

	// aheadProtected is for how many reads of anybody a stream that is believed is not displaced by one that may never be, and its pieces not
	// by those of another.
	aheadProtected = 128
)

// stream is a run of reads that go on about where the last one ended. It is guarded by its device's lock, but for what the pieces know
// of it.
type stream struct {
	low, front blocktree.SectorIndex // the reads lie between them
	read       uint64                // sectors between them that were read, at most all
	reads      int                   // those that moved front
	longest    uint64                // of the last reads, in sectors
	window     uint64                // sectors to have ahead of front; 0: not believed
	asked      blocktree.SectorIndex // what is before it was asked for, or read by others
	hits       uint64                // sectors, since the window last grew
	misses     int                   // reads, since the last that was served

	used   atomic.Uint64 // when it was last read of, in reads of anybody
	wasted atomic.Bool   // a piece of it was dropped unread
	ended  atomic.Bool   // it is forgotten
}

// streams finds streams in the reads of a device. It has no clock and no memory of its own: same reads, same streams.
type streams struct {
	all                     [blocktree.ReadAheadStreamsMax]*stream
	slackMax, least, window uint64 // in sectors: aheadSlackBytes, and the window's bounds
}

func newStreams(sectorBytes uint64, windowBytes int64) streams {
	return streams{slackMax: aheadSlackBytes / sectorBytes, least: aheadPieceBytes / sectorBytes, window: uint64(windowBytes) / sectorBytes}
}

// note learns of a read of count sectors at moment now. It returns the stream that it belongs to if that is believed, else nil.
func (t *streams) note(first blocktree.SectorIndex, count, now uint64) *stream {
	s := t.find(first, count)
	if s == nil {
		s = t.displace(now)
		s.begin(first, count)
	} else if dense := s.extend(first, count, t.slackMax); (dense || s.young()) && !s.ended.Load() {
		t.open(s, dense)
	} else {
		s.ended.Store(true)
		s = t.replace(s)
		s.begin(first, count)
	}
	s.used.Store(now)
	if s.window == 0 {
		return nil
	}
	return s
}

// find returns the stream whose end is closest to first, of those that a read there may belong to.
func (t *streams) find(first blocktree.SectorIndex, count uint64) (best *stream) {
	nearest := t.slackMax + 1
	for _, s := range t.all {
		if s == nil {
			continue
		}
		away := uint64(first) - uint64(s.front)
		if first < s.front {
			away = uint64(s.front) - uint64(first)
		}
		if away < nearest && away <= aheadSlackReads*max(s.longest, count) {
			best, nearest = s, away
		}
	}
	return best
}

// displace returns a new stream in the place of the one that is least likely to go on.
func (t *streams) displace(now uint64) *stream {
	at, oldest := 0, ^uint64(0)
	for i, s := range t.all {
		if s == nil {
			at = i
			break
		}
		used := s.used.Load()
		if s.window > 0 && used+aheadProtected > now {
			used += aheadProtected
		}
		if used < oldest {
			at, oldest = i, used
		}
	}
	if old := t.all[at]; old != nil {
		old.ended.Store(true)
	}
	t.all[at] = new(stream)
	return t.all[at]
}

// replace returns a new stream in the place of old, whose pieces it does not own.
func (t *streams) replace(old *stream) *stream {
	for i, s := range t.all {
		if s == old {
			t.all[i] = new(stream)
			return t.all[i]
		}
	}
	return old // cannot be: it was found there
}

func (s *stream) begin(first blocktree.SectorIndex, count uint64) {
	s.low, s.front, s.read, s.reads, s.longest = first, first+blocktree.SectorIndex(count), count, 1, count
}

// extend adds a read and reports whether the stream is dense yet.
func (s *stream) extend(first blocktree.SectorIndex, count, slackMax uint64) bool {
	if end := first + blocktree.SectorIndex(count); end > s.front {
		s.front = end
		s.reads++
	}
	s.low = min(s.low, first)
	span := uint64(s.front - s.low)
	s.read = min(s.read+count, span)
	s.longest = max(s.longest-s.longest/8, count)
	dense := 2*s.read >= span
	if keep := 4 * slackMax; span > 2*keep { // what was long ago does not count
		s.low, s.read = s.front-blocktree.SectorIndex(keep), s.read*keep/span
	}
	return dense
}

// young reports whether the reads are so few that the parts of one, in no order, may be sparse.
func (s *stream) young() bool { return uint64(s.front-s.low) <= 2*aheadSlackReads*s.longest }

// open opens the window of a stream that has proved itself.
func (t *streams) open(s *stream, dense bool) {
	if s.window == 0 && s.reads >= aheadReadsMin && dense {
		s.window = min(t.least, t.window)
	}
	s.asked = max(s.asked, s.front)
}

// fared changes the window of a stream that is believed by how many sectors of a read of it had been read ahead.
func (t *streams) fared(s *stream, served uint64) {
	switch {
	case s.wasted.Swap(false):
		s.halve(t.least)
	case served > 0:
		s.misses = 0
		if s.hits += served; s.hits >= s.window {
			s.window, s.hits = min(2*s.window, t.window), 0
		}
	default:
		if s.misses++; s.misses >= aheadMissesMax {
			s.halve(t.least)
		}
	}
}

func (s *stream) halve(least uint64) {
	s.window, s.hits, s.misses = max(s.window/2, min(least, s.window)), 0, 0
}
