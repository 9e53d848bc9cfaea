package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"

	"blocktree"
	"blocktree/internal/vfs"
)

// Checkpoint is a checkpoint that was begun. Finish it, once.
type Checkpoint struct {
	s        *Store
	state    checkpointState
	frozen   []*page
	noSpace  uint64 // Store.noSpaceCount when it was begun
	logBytes int64
	index    vfs.File // the file that pages are written to
	newIndex bool     // it is a new one

	indexLive int64 // bytes of the pages that it holds
}

// pageBytes is the length of all pages of a table.
func pageBytes(t *tableTree) (total int64) {
	t.Ascend(func(e tableEntry) bool {
		total += int64(e.bytes)
		return true
	})
	return total
}

// BeginCheckpoint takes the store's state, and blob as the machine's, at this point of the log. The caller holds the lock
// under which it calls Append and Index, and blob is to describe everything that those did and nothing else. blob must
// not change before Finish returns. It does not wait for the disk; its cost is the copying of what changed since the
// last checkpoint by reference. Kind Busy while another checkpoint is unfinished, TooLarge, Closed, or the fatal error.
func (s *Store) BeginCheckpoint(blob []byte) (*Checkpoint, error) {
	return s.beginCheckpoint(blob, false)
}

// beginCheckpoint is BeginCheckpoint; once the store closes only the last one is begun, as the directory may soon be another
// process's.
func (s *Store) beginCheckpoint(blob []byte, last bool) (*Checkpoint, error) {
	if len(blob) > BlobBytesMax {
		return nil, blocktree.E("store.BeginCheckpoint", blocktree.TooLarge, fmt.Errorf("blob of %d bytes", len(blob)))
	}
	ix := s.ix
	ix.mu.Lock()
	defer ix.mu.Unlock()
	s.logMu.Lock()
	defer s.logMu.Unlock()
	switch {
	case s.fatal != nil:
		return nil, s.fatal
	case !s.opened || s.closing && !last:
		return nil, blocktree.E("store.BeginCheckpoint", blocktree.Closed, nil)
	case s.checkpoints:
		return nil, blocktree.E("store.BeginCheckpoint", blocktree.Busy, errors.New("another checkpoint is being written"))
	}
	s.checkpoints = true
	if blob == nil {
		blob = []byte{}
	}
	c := &Checkpoint{s: s, noSpace: s.noSpaceCount, logBytes: s.logBytes}
	s.logBytes = 0
	c.state = checkpointState{
		at:          position{s.active.number, s.active.end, s.nextSequence - 1},
		indexNumber: s.indexNumber, indexBytes: s.indexBytes, nextSegment: s.nextSegment, blob: blob,
		table: ix.table.Clone(), zeros: ix.zeros.Clone(),
	}
	s.pins.snapshot(&c.state)
	for _, p := range ix.changed {
		if p.dirty && ix.cache[p.key] == p {
			p.frozen = true
			c.frozen = append(c.frozen, p)
		}
	}
	ix.changed = nil
	return c, nil
}

// Finish makes the checkpoint durable and deletes what it makes superfluous. It blocks until the log is durable up to
// where the checkpoint was begun, and then for the disk; so it must not be called from a callback of Append. Kind NoSpace, also when records before it found no space: begin
// another one later; nothing was lost. Any other error of the disk is fatal.
func (c *Checkpoint) Finish() error {
	s := c.s
	err := c.wait()
	if err == nil {
		err = c.write()
		if blocktree.KindOf(err) == blocktree.NoSpace && s.releaseReserve() {
			err = c.write()
		}
	}
	if err != nil && blocktree.KindOf(err) != blocktree.NoSpace {
		s.logMu.Lock()
		s.latch(err)
		s.logMu.Unlock()
	}
	c.end(err == nil)
	if err == nil {
		s.deleteDead(&c.state)
	}
	s.logMu.Lock()
	s.checkpoints = false
	s.syncedCond.Broadcast()
	if err != nil {
		s.logBytes += c.logBytes
	} else {
		s.stats.Checkpoints++
		s.durableAt = c.state.at.segment
	}
	s.logMu.Unlock()
	signal(s.compactWake)
	if err != nil {
		return &blocktree.Error{Op: "store.Checkpoint", Path: s.dir, Kind: blocktree.KindOf(err), Err: err}
	}
	return nil
}

// wait blocks until the log is durable up to the checkpoint.
func (c *Checkpoint) wait() error {
	s := c.s
	s.logMu.Lock()
	defer s.logMu.Unlock()
	asked := false
	for s.fatal == nil && s.noSpaceCount == c.noSpace && s.settled < c.state.at.sequence && s.opts.mutant != forgetCheckpointWait {
		if s.lazyTo > s.settled && !asked {
			asked = true
			s.enqueueSync(func(error) {})
		}
		s.checkpointWaits++
		s.checkpointNeeds = c.state.at.sequence
		s.syncedCond.Broadcast() // the committer, if it waits for the compactor
		s.syncedCond.Wait()
	}
	if s.fatal != nil {
		return s.fatal
	}
	if s.noSpaceCount != c.noSpace {
		return blocktree.E("log", blocktree.NoSpace, errors.New("records before the checkpoint found no space"))
	}
	return nil
}

// write writes pages and checkpoint file.
func (c *Checkpoint) write() error {
	if err := c.writePages(); err != nil {
		c.abandonIndex()
		return err
	}
	s := c.s
	temporary := path.Join(s.dir, checkpointName+temporarySuffix)
	f, err := s.fs.Create(temporary)
	if err != nil {
		c.abandonIndex()
		return err
	}
	s.checkpointFiles++
	c.state.starts, c.state.serial = s.starts, s.checkpointFiles
	err = c.state.write(f, s.id)
	if size, sizeErr := f.Size(); err == nil && sizeErr == nil {
		s.logMu.Lock()
		s.checkpointBytes = size
		s.logMu.Unlock()
	}
	if err == nil && s.opts.mutant != forgetCheckpointSync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = s.fs.Remove(temporary) // best effort: the next checkpoint empties it
		c.abandonIndex()
		return err
	}
	if err := s.fs.Rename(temporary, path.Join(s.dir, checkpointName)); err != nil {
		if blocktree.KindOf(err) == blocktree.NoSpace { // it did not happen; of other errors nobody knows
			c.abandonIndex()
		}
		return err
	}
	if s.opts.mutant == forgetCheckpointDirSync {
		return nil
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		// Never NoSpace: it may be the checkpoint now, so that what it names must not be written again.
		return blocktree.E("store.Checkpoint", blocktree.IO, err)
	}
	return nil
}

// indexSlack is how much garbage an index file may have whatever its size.
func (s *Store) indexSlack() int64 { return min(indexSlackBytes, s.opts.SegmentBytes) }

const indexSlackBytes = 1 << 20

// writePages appends the frozen pages to the index file, or all pages to a new one when more than half would be garbage,
// and sets table, indexNumber and indexBytes to what the checkpoint is to say.
func (c *Checkpoint) writePages() error {
	err := c.writePagesTo(false)
	if errors.Is(err, errUnreadablePage) { // then the old file, with its garbage, is the better one
		c.s.log.Error("index file not rewritten", "error", err)
		c.abandonIndex()
		err = c.writePagesTo(true)
	}
	return err
}

var errUnreadablePage = errors.New("unreadable index page")

// writePagesTo is writePages, to the old file only if so told.
func (c *Checkpoint) writePagesTo(old bool) error {
	s := c.s
	c.state.table = s.ix.tableClone()
	s.logMu.Lock()
	c.state.indexNumber, c.state.indexBytes = s.indexNumber, s.indexBytes
	s.logMu.Unlock()
	c.index, c.newIndex = s.ix.file, false
	liveBytes := pageBytes(c.state.table)
	w := &pageWriter{off: c.state.indexBytes}
	if c.index == nil || !old && c.state.indexBytes > 2*liveBytes+s.indexSlack() {
		c.state.indexNumber++
		f, err := s.fs.Create(indexName(s.dir, c.state.indexNumber))
		if err != nil {
			return err
		}
		c.index, c.newIndex = f, true
		w.off = 0
	}
	w.f = c.index
	for _, p := range c.frozen {
		if len(p.runs) == 0 {
			c.state.table.Delete(tableEntry{key: p.key})
		}
	}
	if c.newIndex {
		if err := c.copyPages(w); err != nil {
			return err
		}
	}
	for _, p := range c.frozen {
		if len(p.runs) > 0 {
			at := w.add(func(b []byte) []byte { return encodePage(b, p, s.id) })
			at.key, at.crc = p.key, pageCRC(w.last)
			c.state.table.ReplaceOrInsert(at)
		}
	}
	w.flush()
	if w.err != nil {
		return w.err
	}
	c.state.indexBytes, c.indexLive = w.off, pageBytes(c.state.table)
	if s.opts.mutant != forgetIndexSync {
		if err := c.index.Datasync(); err != nil {
			return err
		}
	}
	if c.newIndex {
		return s.fs.SyncDir(s.dir)
	}
	return nil
}

// copyPages copies the pages that did not change from the old index file. Damaged ones are copied as they are.
func (c *Checkpoint) copyPages(w *pageWriter) error {
	frozen := make(map[pageKey]bool, len(c.frozen))
	for _, p := range c.frozen {
		frozen[p.key] = true
	}
	moved := make([]tableEntry, 0, c.state.table.Len())
	var err error
	c.state.table.Ascend(func(t tableEntry) bool {
		if frozen[t.key] || t.condemned() {
			return true
		}
		b := make([]byte, t.bytes)
		if err = readFull(c.s.ix.file, b, int64(t.offset)); err != nil {
			err = fmt.Errorf("%w: %w", errUnreadablePage, err)
			return false
		}
		at := w.add(func(out []byte) []byte { return append(out, b...) })
		at.key, at.crc = t.key, t.crc // a damaged page must not become a good one
		moved = append(moved, at)
		return true
	})
	for _, t := range moved {
		c.state.table.ReplaceOrInsert(t)
	}
	return err
}

// abandonIndex closes and removes an index file that no checkpoint will name.
func (c *Checkpoint) abandonIndex() {
	if c.newIndex {
		_ = c.index.Close()                                        // nothing in it is needed
		_ = c.s.fs.Remove(indexName(c.s.dir, c.state.indexNumber)) // best effort: Open removes what is left
		c.newIndex = false
	}
}

// pageWriter gathers pages into large writes. The first error sticks.
type pageWriter struct {
	f   vfs.File
	off int64 // of the end, buffered bytes included
	buf []byte
	err error

	last []byte // the page added last; good until the next call
}

func (w *pageWriter) add(encode func([]byte) []byte) tableEntry {
	before := len(w.buf)
	w.buf = encode(w.buf)
	w.last = w.buf[before:]
	at := tableEntry{offset: uint64(w.off), bytes: uint32(len(w.last))}
	w.off += int64(at.bytes)
	if len(w.buf) >= 1<<20 {
		w.flush()
	}
	return at
}

func (w *pageWriter) flush() {
	if w.err == nil && len(w.buf) > 0 {
		_, w.err = w.f.WriteAt(w.buf, w.off-int64(len(w.buf)))
	}
	w.buf = w.buf[:0]
}

// end lets the frozen pages go: after a success they are clean and the new table holds.
func (c *Checkpoint) end(success bool) {
	s, ix := c.s, c.s.ix
	ix.mu.Lock()
	old, oldNumber := ix.file, uint32(0)
	if success {
		s.logMu.Lock()
		oldNumber = s.indexNumber
		s.indexNumber, s.indexBytes, s.indexLive = c.state.indexNumber, c.state.indexBytes, c.indexLive
		s.logMu.Unlock()
		ix.table, ix.file, ix.name = c.state.table, c.index, indexName(s.dir, c.state.indexNumber)
	}
	for _, p := range c.frozen {
		p.frozen = false
		if ix.cache[p.key] != p {
			continue
		}
		if !success {
			ix.changed = append(ix.changed, p)
			continue
		}
		ix.dirtyBytes -= p.memoryBytes()
		p.dirty = false
		if len(p.runs) == 0 {
			delete(ix.cache, p.key)
			continue
		}
		ix.linkFront(p)
	}
	ix.evict(nil)
	ix.mu.Unlock()
	if success && c.newIndex && old != nil {
		_ = old.Close()                              // only read since its last sync
		_ = s.fs.Remove(indexName(s.dir, oldNumber)) // best effort: Open removes what is left
	}
}

func (ix *index) tableClone() *tableTree {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	return ix.table.Clone()
}

// releaseReserve gives back the space of dead files and of the last prepared segment, so that a checkpoint can be written that
// lets more go.
func (s *Store) releaseReserve() bool {
	freed := s.removeRetired()
	s.logMu.Lock()
	var last *segment
	if n := len(s.prepared); n > 0 {
		last = s.prepared[n-1]
		s.prepared = s.prepared[:n-1]
	}
	s.logMu.Unlock()
	if last != nil && s.segs.remove(last.number) == nil {
		freed = true
	}
	return freed && s.fs.SyncDir(s.dir) == nil
}

// deleteDead removes or retires the segments that lie before a durable checkpoint and have no live sector in it.
func (s *Store) deleteDead(state *checkpointState) {
	gone := 0
	tight, _ := s.spaceLeft()
	for _, n := range s.segs.numbers(state.at.segment) {
		live := state.live[n].sectors
		if s.opts.mutant == forgetDurableLive {
			live = s.pins.liveSectors(n)
		}
		if live > 0 || n == state.target && s.opts.mutant != forgetTarget {
			continue
		}
		if tight || !s.retire(n) {
			if err := s.segs.remove(n); err != nil {
				s.log.Warn("dead segment not removed", "segment", n, "error", err)
				continue
			}
		}
		gone++
	}
	if gone > 0 {
		signal(s.prepareWake) // there may be room again for what is made ahead
		s.log.Debug("dead segments let go", "segments", gone)
	}
}

// readCheckpointFile reads the checkpoint of a directory.
func readCheckpointFile(fs vfs.FS, dir string, id identity) (*checkpointState, error) {
	name := path.Join(dir, checkpointName)
	f, err := fs.Open(name)
	if blocktree.KindOf(err) == blocktree.NotFound {
		return nil, lostStore(name, err)
	}
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c, err := readCheckpoint(bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<20), id)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, lostStore(name, err)
	}
	c.fileBytes = size
	return c, nil
}
