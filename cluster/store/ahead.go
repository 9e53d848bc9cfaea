package store

import "blocktree"

// Blocks of a new segment are allocated and were never written to. The first write to one changes the file's metadata, and the sync behind it has to make that durable, too: a commit of the file system's journal, which
// flushes the disk twice where the sync of a block that was written before flushes it once. So whoever writes little writes zeros ahead of it, and pays that once for all that follows there (docs/design/0084-one-flush.md).

const (
	// zeroAheadBytesMax is how far zeros are written ahead, at most: some hundreds of records of small files, and a few milliseconds of any disk. It is no more than what the segment has, and at least a piece.
	zeroAheadBytesMax = 1 << 20
	zeroPieceBytes    = 64 << 10

	// zeroAheadGroupMax is the longest write that zeros go ahead of: one that takes the disk longer than a flush would only be written twice.
	zeroAheadGroupMax = 128 << 10
)

// zeroAhead writes zeros behind what was written to a segment from at to end, where it was little and reached new blocks. Zeros are what is there already, and no record to whoever reads them. The writer calls it.
func (s *Store) zeroAhead(seg *segment, at, end int64) error {
	if seg.recycled || end <= seg.zeroed {
		return nil
	}
	seg.zeroed = end
	if end-at > zeroAheadGroupMax {
		return nil
	}
	to := min(roundUpDirect(end+min(max(end, zeroPieceBytes), zeroAheadBytesMax)), s.opts.SegmentBytes)
	s.iov = s.iov[:0]
	for n := to - end; n > 0; n -= int64(len(s.zeros)) {
		s.iov = append(s.iov, s.zeros[:min(n, int64(len(s.zeros)))])
	}
	if len(s.iov) == 0 {
		return nil
	}
	_, err := seg.file.WritevAt(s.iov, end)
	if blocktree.KindOf(err) == blocktree.NoSpace { // of a file system that copies when it writes: the records have their space
		to, err = s.opts.SegmentBytes, nil
	}
	seg.zeroed = to
	return err
}
