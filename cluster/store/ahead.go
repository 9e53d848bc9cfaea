package store

import "blocktree"

// Blocks of a new segment are allocated and were never written to. The first write to one changes the file's metadata, and the sync behind it has to make that durable, too: a commit of the file system's journal, which
// flushes the disk twice where the sync of a block that was written before flushes it once. So whoever writes little writes zeros ahead of it, and pays that once for all that follows there (docs/design/0084-one-flush.md).

const (
	// zeroAheadBytesMax is how far zeros are written ahead, at most: some hundreds of records of small files, and a few milliseconds of any disk. It is no more than what the segment has since the last long write, and at least a piece.
	zeroAheadBytesMax = 1 << 20
	zeroPieceBytes    = 64 << 10

	// zeroAheadGroupMax is the longest write that zeros go ahead of: one that takes the disk longer than a flush would only be written twice.
	zeroAheadGroupMax = 128 << 10
)

// zeroAhead writes zeros behind what was written to a segment from first to end, where it was little and reached new blocks, and is the last of a group there: else they would be written over at once. Zeros are what is there already, and no record to whoever reads them.
// Behind a long write they begin with few again: where long and short records take turns the next long one goes over them. The writer calls it.
func (s *Store) zeroAhead(first *item, end int64, last bool) error {
	seg := first.seg
	if first.direct || end-int64(first.offset) > zeroAheadGroupMax {
		seg.long = end
		return nil
	}
	if !last || seg.recycled || end <= seg.zeroed {
		return nil
	}
	to := min(roundUpDirect(end+min(max(end-seg.long, zeroPieceBytes), zeroAheadBytesMax)), s.opts.SegmentBytes)
	s.iov = s.iov[:0]
	for n := to - end; n > 0; n -= int64(len(s.zeros)) {
		s.iov = append(s.iov, s.zeros[:min(n, int64(len(s.zeros)))])
	}
	if len(s.iov) == 0 { // the segment is full
		return nil
	}
	_, err := seg.file.WritevAt(s.iov, end)
	if blocktree.KindOf(err) == blocktree.NoSpace { // of a file system that copies when it writes: the records have their space
		to, err = s.opts.SegmentBytes, nil
	}
	seg.zeroed = to
	return err
}
