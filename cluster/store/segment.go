package store

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"

	"blocktree"
	"blocktree/internal/vfs"
)

const (
	segmentPrefix = "segment-"
	indexPrefix   = "index-"
)

func segmentName(dir string, n uint32) string {
	return path.Join(dir, fmt.Sprintf("%s%08x", segmentPrefix, n))
}

func indexName(dir string, n uint32) string {
	return path.Join(dir, fmt.Sprintf("%s%08x", indexPrefix, n))
}

// numberOf reads the number out of a file name that segmentName or indexName made.
func numberOf(base, prefix string) (uint32, bool) {
	rest, ok := strings.CutPrefix(base, prefix)
	n, err := strconv.ParseUint(rest, 16, 32)
	return uint32(n), ok && err == nil && len(rest) == 8 && strings.ToLower(rest) == rest
}

// openSegmentsMax bounds the file descriptors of segments that are only read.
const openSegmentsMax = 512

// segment is one file of the log.
type segment struct {
	number uint32
	name   string
	end    int64 // where the next record goes; guarded by Store.logMu, final once the segment is not active
	bytes  int64 // of the file; guarded by Store.logMu

	recycled bool  // made of the file of a dead one
	zeroed   int64 // all before it has been written to once, or never will be ahead; the writer's
	long     int64 // where the last long write ended; the writer's

	file  vfs.File // nil while closed; guarded by segments.mu
	users int      // readers within the file; guarded by segments.mu
	keep  bool     // not to be closed: active or prepared; guarded by segments.mu
	gone  bool     // deleted; guarded by segments.mu
}

// segments holds the files of the log that exist.
type segments struct {
	fs     vfs.FS
	mu     sync.Mutex
	byNo   map[uint32]*segment
	opened int // files
	max    int // of opened, as far as they are idle
	closed bool
}

func newSegments(fs vfs.FS) *segments {
	return &segments{fs: fs, byNo: map[uint32]*segment{}, max: openSegmentsMax}
}

func (ss *segments) add(s *segment) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.byNo[s.number] = s
	if s.file != nil {
		ss.opened++
	}
}

// acquire returns a segment's open file; release gives it back. NotFound when there is no such segment.
func (ss *segments) acquire(n uint32) (*segment, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.closed {
		return nil, blocktree.E("store.segment", blocktree.Closed, nil)
	}
	s := ss.byNo[n]
	if s == nil {
		return nil, blocktree.E("store.segment", blocktree.NotFound, fmt.Errorf("segment %08x was deleted", n))
	}
	if s.file == nil {
		ss.closeIdle()
		f, err := ss.fs.Open(s.name)
		if err != nil {
			return nil, err
		}
		s.file = f
		ss.opened++
	}
	s.users++
	return s, nil
}

// closeIdle closes files that nobody uses until there is room for one more; mu is held.
func (ss *segments) closeIdle() {
	for _, s := range ss.byNo {
		if ss.opened < ss.max {
			return
		}
		if s.file != nil && s.users == 0 && !s.keep {
			_ = s.file.Close() // only read since its last sync
			s.file = nil
			ss.opened--
		}
	}
}

// hold keeps a segment's open file until release.
func (ss *segments) hold(s *segment) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.users++
}

func (ss *segments) release(s *segment) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.users--
	if s.users == 0 && s.gone {
		ss.drop(s)
	}
}

// drop closes a deleted segment's file; mu is held.
func (ss *segments) drop(s *segment) {
	if s.file != nil {
		_ = s.file.Close() // it has no name any more
		s.file = nil
		ss.opened--
	}
}

// remove deletes a segment's file. Readers within it finish.
func (ss *segments) remove(n uint32) error {
	ss.mu.Lock()
	s := ss.byNo[n]
	if s == nil {
		ss.mu.Unlock()
		return nil
	}
	delete(ss.byNo, n)
	s.gone = true
	if s.users == 0 {
		ss.drop(s)
	}
	ss.mu.Unlock()
	return ss.fs.Remove(s.name)
}

// unpin lets a segment's file be closed when idle.
func (ss *segments) unpin(s *segment) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.keep = false
	if f, can := s.file.(vfs.Direct); can {
		f.EndDirect() // nothing is written to it any more
	}
	ss.closeIdle()
}

// numbers returns the segments before limit.
func (ss *segments) numbers(limit uint32) []uint32 {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var out []uint32
	for n := range ss.byNo {
		if n < limit {
			out = append(out, n)
		}
	}
	return out
}

// closeAll closes every file, those in use when their reader is done.
func (ss *segments) closeAll() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.closed = true
	for _, s := range ss.byNo {
		s.gone = true
		if s.users == 0 {
			ss.drop(s)
		}
	}
}

// createSegment makes and allocates the file of segment n, durable with its name, and empty of records.
func (s *Store) createSegment(n uint32, bytes int64) (*segment, error) {
	seg := &segment{number: n, name: segmentName(s.dir, n), bytes: bytes, keep: true}
	f, err := s.fs.Create(seg.name)
	if err != nil {
		return nil, err
	}
	err = f.Allocate(bytes)
	if err == nil {
		err = f.Datasync()
	}
	if err == nil && s.opts.mutant != forgetSegmentDirSync {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		_ = f.Close()             // the error before is the one to tell
		_ = s.fs.Remove(seg.name) // best effort: the next start removes what this leaves
		return nil, err
	}
	seg.file = f
	return seg, nil
}

// spaceFor refuses a segment that would take what checkpoints need, and one for data where what is kept in reserve could not be
// made up afterwards.
func (s *Store) spaceFor(reserved bool) error {
	need := s.opts.SegmentBytes
	if !reserved {
		need += dataReserveSegments * s.opts.SegmentBytes
	}
	if s.freeBytes() < need {
		return blocktree.E("store.segment", blocktree.NoSpace, errors.New("what is left is for checkpoints"))
	}
	return nil
}

// prepare brings the number of segments made ahead to want. It returns NoSpace, Closed, or an error that the caller latches.
func (s *Store) prepare(want int) error {
	s.prepareMu.Lock()
	defer s.prepareMu.Unlock()
	for {
		s.logMu.Lock()
		enough := len(s.prepared) >= want
		if enough && want > dataReserveSegments {
			s.short = false
		}
		reserved := len(s.prepared) < dataReserveSegments // it is none for data
		n, closing := s.nextSegment, s.closing
		if !enough && !closing {
			s.nextSegment++
		}
		s.logMu.Unlock()
		if enough {
			return nil
		}
		if closing {
			return blocktree.E("store.segment", blocktree.Closed, nil)
		}
		seg, err := s.makeSegment(n, reserved)
		if err != nil {
			s.logMu.Lock()
			short := blocktree.KindOf(err) == blocktree.NoSpace
			if short && !s.short {
				signal(s.compactWake)
			}
			s.short = s.short || short
			if short {
				s.nextSegment = n // nothing was written under it, and a full disk refuses more often than there are numbers
			}
			s.logMu.Unlock()
			return err
		}
		s.segs.add(seg)
		s.logMu.Lock()
		s.prepared = append(s.prepared, seg)
		s.logMu.Unlock()
		if _, short := s.spaceLeft(); short {
			s.setOverfull(true, true) // until the compactor, which may be slower than writers are, has looked
			signal(s.compactWake)
		}
	}
}
