package store

import (
	"errors"

	"blocktree"
)

// The file of a dead segment becomes a new one under another name (docs/design/0009-recycling.md): its blocks are allocated
// and were written before, so that syncing records in it changes nothing else of the file, and its pages are in memory. What it
// holds from before is nobody's: every record and every header says which segment it is of.

// retiredMax is how many dead files are kept for that: what one checkpoint lets go of.
const retiredMax = deadSegmentsMax

// retire keeps the file of a dead segment. It returns false where the file cannot or need not be kept: then it is to be removed.
func (s *Store) retire(n uint32) bool {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	if s.closing || len(s.retired) >= retiredMax {
		return false
	}
	seg := s.segs.retire(n, s.opts.SegmentBytes)
	if seg == nil {
		return false
	}
	s.retired = append(s.retired, seg)
	return true
}

// retire takes a segment that nobody reads, of at most so many bytes, out of the log, and closes its file, which stays where it is. It
// returns nil where there is no such segment.
func (ss *segments) retire(n uint32, bytes int64) *segment {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s := ss.byNo[n]
	if s == nil || s.users > 0 || s.bytes > bytes {
		return nil
	}
	delete(ss.byNo, n)
	s.gone = true
	ss.drop(s)
	return s
}

// takeRetired returns the file that was kept last, which memory holds most of; nil if there is none.
func (s *Store) takeRetired() *segment {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	last := len(s.retired) - 1
	if last < 0 {
		return nil
	}
	seg := s.retired[last]
	s.retired = s.retired[:last]
	return seg
}

// removeRetired removes the files that were kept, where their space is needed, and reports whether there were any. What it cannot
// remove the next start does.
func (s *Store) removeRetired() (removed bool) {
	for seg := s.takeRetired(); seg != nil; seg = s.takeRetired() {
		if err := s.fs.Remove(seg.name); err != nil {
			s.log.Warn("dead segment not removed", "segment", seg.number, "error", err)
			continue
		}
		removed = true
	}
	return removed
}

// recycle makes segment n of a file that was kept, durable under its new name before anything is written to it: else a power
// loss could bring it back as the dead segment that it was, to be removed.
func (s *Store) recycle(old *segment, n uint32) (*segment, error) {
	seg := &segment{number: n, name: segmentName(s.dir, n), bytes: s.opts.SegmentBytes, keep: true, recycled: true}
	if err := s.fs.Rename(old.name, seg.name); err != nil {
		return nil, errors.Join(err, s.fs.Remove(old.name)) // nobody else would
	}
	f, err := s.fs.Open(seg.name)
	if err != nil {
		return nil, err
	}
	if old.bytes < seg.bytes {
		if err = f.Allocate(seg.bytes); err == nil {
			err = f.Datasync()
		}
	}
	if err == nil && s.opts.mutant != forgetRecycleDirSync {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), s.fs.Remove(seg.name))
	}
	seg.file = f
	s.logMu.Lock()
	s.stats.Recycled++
	s.logMu.Unlock()
	return seg, nil
}

// makeSegment makes segment n: of a file that was kept, else of free space. reserved says that no data will be written to it.
func (s *Store) makeSegment(n uint32, reserved bool) (*segment, error) {
	if old := s.takeRetired(); old != nil {
		seg, err := s.recycle(old, n)
		if err == nil || blocktree.KindOf(err) != blocktree.NoSpace {
			return seg, err
		}
	}
	if err := s.spaceFor(reserved); err != nil {
		return nil, err
	}
	return s.createSegment(n, s.opts.SegmentBytes)
}
