package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"syscall"

	"blocktree"
	"blocktree/internal/vfs"
)

// Store is an open store. See the package comment for the order in which its methods are to be used.
type Store struct {
	fs     vfs.FS
	dir    string
	id     identity
	opts   Options
	log    *slog.Logger
	lock   io.Closer
	starts uint64

	segs      *segments
	pins      *pins
	ix        *index
	bufs      buffers
	readBufs  readBuffers
	iov       [][]byte              // the writer's
	zeroBlock [vfs.DirectBytes]byte // nobody writes to it
	zeros     []byte                // nobody writes to it
	writing   *segment              // the writer's: the last segment that was written to
	group     queue                 // the writer's: what it writes

	prepareMu sync.Mutex // held while segments are made

	superblockMu sync.Mutex
	suspect      bool // the next Open is to read the whole index, even after a clean stop
	suspectNoted bool // so says the superblock
	released     bool // the directory may be another process's

	logMu           sync.Mutex
	active          *segment
	prepared        []*segment
	retired         []*segment // dead, and no part of the log any more: their files are used again
	nextSegment     uint32
	nextSequence    uint64
	synced          uint64 // all sequences up to here are durable or durably void
	settled         uint64 // all sequences up to here are durable or void
	voids           []sequences
	queue           queue
	fatal           error
	opened          bool // Open has returned
	closing         bool
	checkpoints     bool       // one is being written
	checkpointFiles uint64     // how many this start began to write; for whoever has set checkpoints
	checkpointWaits int        // how often one waited for the log; tests
	makingRoom      bool       // there is little space, and more to come: data should wait
	checkpointBytes int64      // of the last checkpoint file
	checkpointNeeds uint64     // one waits until the log is settled up to here
	durableAt       uint32     // the segment of the durable checkpoint's position
	short           bool       // there was no space for a segment
	lazyTo          uint64     // sequence of the newest record that nobody waits for
	written         uint64     // sequence of the newest record that is in its file
	writer          bool       // somebody is the writer: the committer, or a caller of WriteLazy
	wanted          bool       // the committer found that it was somebody else: who is wakes it, and nobody is it before
	watching        bool       // the committer looks soon whether the log is idle
	syncing         bool       // the committer syncs beside who writes
	groups          uint64     // that were written, or failed
	unsynced        []*segment // written to by groups that nobody waits for; the writer's own
	unsyncedBytes   int64      // of those groups; the writer's own
	aside           int        // so many of unsynced, the first, are being synced beside who writes; the writer's own
	asideBytes      int64      // and so many of unsyncedBytes; the writer's own
	overfull        bool       // the compactor cannot keep up: groups wait for it
	compactSeen     uint64     // nextSequence when the compactor looked last
	noSpaceCount    uint64
	toldIndirect    bool // that the file system has no direct writes
	logBytes        int64
	stats           Stats
	indexNumber     uint32
	indexBytes      int64 // of the index file that hold or held pages
	indexLive       int64 // of that, of pages that the last checkpoint names
	syncedCond      *sync.Cond

	wake         chan struct{} // for the committer
	prepareWake  chan struct{} // for the preparer
	compactWake  chan struct{} // for the compactor
	stop         chan struct{} // closed to end the preparer
	committed    chan struct{} // closed when the committer has ended
	preparerDone chan struct{} // closed when the preparer has ended
	compactor    *compactor
	fatalCh      chan error
	wantCh       chan struct{}
	recovery     Recovery
	bad          map[place]bool // records of which Open found sectors damaged
	closeOnce    sync.Once
	closeErr     error
}

// Fatal gives, once, the first error of a write or sync. The process must exit then: what it would find out by trying
// again is worth nothing.
func (s *Store) Fatal() <-chan error { return s.fatalCh }

// CheckpointWanted gives a value when the owner should take a checkpoint soon: much log was written, much of the index
// changed, segments died, or space ran out.
func (s *Store) CheckpointWanted() <-chan struct{} { return s.wantCh }

func (s *Store) wantCheckpoint() { signal(s.wantCh) }

// signal leaves a token in a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// latch makes err the store's end; logMu is held.
func (s *Store) latch(err error) {
	if s.fatal != nil {
		return
	}
	kind := blocktree.KindOf(err)
	if kind == blocktree.Other || kind == blocktree.NoSpace {
		kind = blocktree.IO
	}
	hint := "the disk failed; look at the kernel's log before starting the node again"
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		hint = "the file system took a write and had no space for it when it was synced; free space before starting the node again"
	}
	s.fatal = &blocktree.Error{Op: "store", Path: s.dir, Kind: kind, Err: err, Hint: hint}
	s.fatalCh <- s.fatal
	s.syncedCond.Broadcast()
}

// Recovery says what Open found. Its slices are shared: read only.
func (s *Store) Recovery() Recovery { return s.recovery }

// Damaged returns the damage that Open found in the log after the checkpoint, and the damaged index pages that it knew when it
// ended. Not every page is read at Open: only those that replay needs, and all of them when the start before met a damaged
// one. Read only.
func (s *Store) Damaged() []Run { return s.recovery.Damaged }

// Synced returns the highest log sequence known durable: the tail mark of DESIGN section 5.
func (s *Store) Synced() uint64 {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	return s.synced
}

// indexed runs an operation on the index and asks for a checkpoint where it is time.
func (s *Store) indexed(op string, file blocktree.FileID, f func(ix *index) error) error {
	s.ix.mu.Lock()
	err := f(s.ix)
	dirty, suspect := s.ix.dirtyBytes, s.ix.suspect
	s.ix.suspect = false
	s.ix.mu.Unlock()
	if suspect {
		s.noteSuspect()
	}
	if dirty > s.opts.DirtyBytes {
		s.wantCheckpoint()
	}
	s.wantDead()
	if err == nil {
		return nil
	}
	kind := blocktree.KindOf(err)
	if kind == blocktree.Other {
		kind = blocktree.Invalid
	}
	return &blocktree.Error{Op: op, Path: "file " + file.String(), Kind: kind, Err: err}
}

// deadSegmentsMax is how many dead segments are worth a checkpoint; one, when there was no space for another segment.
const deadSegmentsMax = 4

// wantDead asks for a checkpoint when enough segments have died.
func (s *Store) wantDead() {
	dead := s.pins.deadSegments()
	if dead == 0 {
		return
	}
	s.logMu.Lock()
	short := s.short
	s.logMu.Unlock()
	if short || dead >= deadSegmentsMax {
		s.wantCheckpoint()
	}
}

// Index makes x the committed content of its sectors, unless something newer (by version, then by place in the log) is
// there; applying it again changes nothing. x is Data: sectors of a record that Append or replay gave and Drop did not
// take; or Zero: Count, Version and the Ref of the zero record. It may read index pages from the disk.
//
// Kinds: Invalid when x is not what the record at x.Ref is or was dropped before; Corrupt when an index page turns out to be
// damaged: then x is applied in part, and what was not applied stays pending; the next Open will report the page. Of pages
// that Damaged names, and within Open, damage is no error: x is applied to the other pages, and what was not applied stays
// pending until DropRange takes it.
func (s *Store) Index(file blocktree.FileID, x Extent) error {
	return s.indexed("store.Index", file, func(ix *index) error {
		if x.Count == 0 || x.Version.IsZero() || x.Ref.Segment == 0 || x.First > sectorsEnd-blocktree.SectorIndex(x.Count) {
			return errors.New("no sectors, version or record, or sectors past the end of the world")
		}
		switch x.Content {
		case Data:
			if x.Ref.Count > blocktree.RunSectorsMax || x.Index+x.Count > x.Ref.Count || x.Index > x.Ref.Count {
				return fmt.Errorf("sectors %d to %d of a record of %d", x.Index, x.Index+x.Count, x.Ref.Count)
			}
			return ix.indexData(file, x)
		case Zero:
			if x.Count > ZeroSectorsMax {
				return fmt.Errorf("%d sectors in one tombstone", x.Count)
			}
			return ix.setZero(file, x.First, uint64(x.Count), x.Version, x.Ref.place())
		}
		return fmt.Errorf("content %d cannot be indexed", x.Content)
	})
}

// Drop voids the sectors [index, index+count) of a pending data record: they will not be indexed. Sectors that are not
// pending are left alone.
func (s *Store) Drop(ref Ref, index, count uint32) {
	s.ix.mu.Lock()
	s.pins.settle(ref.place(), index, count, true)
	s.ix.mu.Unlock()
	s.wantDead()
}

// DropRange forgets all that is indexed in a range of a file, which may be all of it: the sectors are Absent again.
// Pending records are not touched, but for sectors that Index could not apply. Its cost is that of the index pages that exist
// there. A damaged page that lies in the range as a whole is empty and good afterwards; what it kept alive keeps its segments
// until the next Open. One that lies there in part stays damaged: Kind Corrupt, before anything is changed, unless Damaged names
// it or this is within Open.
func (s *Store) DropRange(file blocktree.FileID, first blocktree.SectorIndex, count uint64) error {
	return s.indexed("store.DropRange", file, func(ix *index) error {
		if uint64(first)+count < uint64(first) || uint64(first)+count > sectorsEnd {
			return fmt.Errorf("%d sectors from %d", count, first)
		}
		return ix.forget(file, first, count)
	})
}

// sectorsEnd bounds ranges so that rounding up to pages cannot overflow.
const sectorsEnd = 1 << 62

// Lookup appends the committed content of count sectors to dst, as runs in order without gaps, and returns it. It may
// read index pages. Kind Corrupt when an index page is damaged: what its sectors hold is unknown, they must not be taken
// for absent. The next Open will report it, and until DropRange covers it, that stays so.
func (s *Store) Lookup(file blocktree.FileID, first blocktree.SectorIndex, count uint32, dst []Extent) ([]Extent, error) {
	err := s.indexed("store.Lookup", file, func(ix *index) (err error) {
		if uint64(first)+uint64(count) > sectorsEnd {
			return fmt.Errorf("%d sectors from %d", count, first)
		}
		dst, err = ix.lookup(file, first, uint64(count), dst)
		return err
	})
	return dst, err
}

// Zeros appends where count sectors from first on hold data and where not, as runs in order without gaps of which only First, Count and
// Content mean anything: Data, or Zero for all that reads as zeros, absent or not. It returns extentsMax runs at most and reads pagesMax index pages at most, and
// where it ended. What a damaged page says nothing of is Data.
func (s *Store) Zeros(file blocktree.FileID, first blocktree.SectorIndex, count uint32, extentsMax, pagesMax int) (out []Extent, end blocktree.SectorIndex, err error) {
	err = s.indexed("store.Zeros", file, func(ix *index) error {
		if uint64(first)+uint64(count) > sectorsEnd {
			return fmt.Errorf("%d sectors from %d", count, first)
		}
		w := zeroWalk{at: first, extentsMax: extentsMax}
		err := ix.walkZeros(&w, file, first+blocktree.SectorIndex(count), pagesMax)
		out, end = w.out, w.at
		return err
	})
	return out, end, err
}

// Stats returns a snapshot. It does not wait for the disk.
func (s *Store) Stats() Stats {
	s.ix.mu.Lock()
	clean, dirty, pages, zeros := s.ix.cleanBytes, s.ix.dirtyBytes, s.ix.table.Len(), s.ix.zeros.Len()
	s.ix.mu.Unlock()
	live, pending := s.pins.totals()
	s.logMu.Lock()
	defer s.logMu.Unlock()
	out := s.stats
	out.NoSpace, out.MakingRoom, out.Failed = s.noSpaceCount, s.makingRoom, s.fatal != nil
	out.CacheBytes, out.DirtyBytes, out.Pages, out.ZeroRanges = clean+dirty, dirty, pages, zeros
	out.LiveBytes, out.Pending, out.LogBytes = live, pending, s.logBytes
	out.DiskBytes = s.indexBytes
	s.segs.mu.Lock()
	for _, seg := range s.segs.byNo {
		out.DiskBytes += seg.bytes
		out.Segments++
	}
	s.segs.mu.Unlock()
	for _, seg := range s.retired {
		out.DiskBytes += seg.bytes
	}
	out.Segments -= len(s.prepared)
	return out
}

// Close waits for what was appended and for a checkpoint that was begun (which somebody must Finish), takes a checkpoint
// with blob and the clean-stop mark unless blob is nil, and releases the directory. Later calls fail with Closed; Close
// may be called again and returns the same.
func (s *Store) Close(blob []byte) error {
	s.closeOnce.Do(func() { s.closeErr = s.close(blob) })
	return s.closeErr
}

func (s *Store) close(blob []byte) error {
	s.logMu.Lock()
	s.closing = true
	s.syncedCond.Broadcast()
	s.logMu.Unlock()
	signal(s.wake)
	<-s.committed
	close(s.stop)
	<-s.preparerDone
	<-s.compactor.done
	s.prepareMu.Lock() // an Append may still be making a segment: the directory may be another process's next
	s.prepareMu.Unlock()
	s.logMu.Lock()
	for s.checkpoints {
		s.syncedCond.Wait()
	}
	s.logMu.Unlock()
	var errs []error
	if blob != nil {
		errs = append(errs, s.closeClean(blob))
	}
	return errors.Join(append(errs, s.giveBack(), s.release())...)
}

// closeClean leaves a checkpoint of the end of the log and says so in the superblock.
func (s *Store) closeClean(blob []byte) error {
	c, err := s.beginCheckpoint(blob, true)
	if err != nil {
		return err
	}
	if err := c.Finish(); err != nil {
		return err
	}
	s.superblockMu.Lock()
	defer s.superblockMu.Unlock()
	s.suspectNoted = s.suspect
	return writeSuperblock(s.fs, s.dir, superblock{identity: s.id, starts: s.starts, clean: true, suspect: s.suspect})
}

// giveBack frees what was allocated ahead, or kept. Where space is short, what was allocated ahead stays: the next start finds it empty and
// takes its space, which others would have taken by then.
func (s *Store) giveBack() error {
	s.removeRetired()
	_, short := s.spaceLeft()
	s.logMu.Lock()
	defer s.logMu.Unlock()
	if s.fatal != nil {
		return nil
	}
	for _, seg := range s.prepared {
		if short {
			break
		}
		if err := s.segs.remove(seg.number); err != nil {
			return err
		}
	}
	s.prepared = nil
	if s.active.bytes <= s.active.end {
		return nil
	}
	s.active.bytes = s.active.end
	return errors.Join(s.active.file.Truncate(s.active.end), s.active.file.Sync(), s.fs.SyncDir(s.dir))
}

// release closes the files and unlocks the directory.
func (s *Store) release() error {
	s.superblockMu.Lock()
	s.released = true
	s.superblockMu.Unlock()
	s.segs.closeAll()
	return errors.Join(s.ix.close(), s.lock.Close())
}
