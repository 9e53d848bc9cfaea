package store

import (
	"encoding/binary"
	"slices"
	"time"

	"blocktree"
	"blocktree/internal/invariant"
)

// commitLoop is the committer: it ends when the store is closing and nothing waits.
func (s *Store) commitLoop() {
	defer close(s.committed)
	idle := idleWatch{noted: s.Synced()}
	for {
		s.logMu.Lock()
		s.watching = false
		if s.writer {
			s.wanted = true
			s.logMu.Unlock()
			<-s.wake
			continue
		}
		s.wanted = false
		if len(s.queue.calls) > 0 {
			s.beginGroup()
			s.logMu.Unlock()
			s.awaitCompactor(&s.group)
			s.commit(&s.group)
			s.logMu.Lock()
			s.endGroup()
			s.logMu.Unlock()
			continue
		}
		if s.closing {
			s.writer = true // for good: nothing is written any more
			s.logMu.Unlock()
			s.syncLog()
			return
		}
		s.watching = s.opts.NoteAfter > 0 && (s.synced != idle.noted || len(s.unsynced) > 0)
		watching, groups := s.watching, s.groups
		s.logMu.Unlock()
		switch {
		case !watching:
			<-s.wake
		case !idle.await(s):
		default:
			idle.look(s, groups)
		}
	}
}

// beginGroup makes the caller the writer, of what waits; logMu is held, nobody is the writer, and something may wait.
func (s *Store) beginGroup() {
	s.writer = true
	s.takeGroup(&s.group)
}

// endGroup is the writer's last word; logMu is held. What was queued meanwhile is its to look for: whoever queues beside a writer goes away.
func (s *Store) endGroup() {
	s.writer = false
	s.groups++
	if s.wanted {
		signal(s.wake)
	}
}

// idleWatch is how the committer finds that the log is idle: what was put off is synced then, and what is synced noted.
type idleWatch struct {
	timer *time.Timer // nil before it is needed
	noted uint64      // up to where some header in the log says that it is synced, or nothing is there
}

// await waits for NoteAfter, and reports whether nothing has woken the committer before.
func (w *idleWatch) await(s *Store) bool {
	if w.timer == nil {
		w.timer = time.NewTimer(s.opts.NoteAfter)
	} else {
		w.timer.Reset(s.opts.NoteAfter)
	}
	defer w.timer.Stop()
	select {
	case <-s.wake:
		return false
	case <-w.timer.C:
		return true
	}
}

// look syncs and notes, unless something was written or queued since there were so many groups.
func (w *idleWatch) look(s *Store, groups uint64) {
	s.logMu.Lock()
	if s.writer || s.groups != groups || len(s.queue.calls) > 0 {
		s.logMu.Unlock()
		return
	}
	s.beginGroup()
	s.logMu.Unlock()
	s.syncLog() // first: a note says nothing of what is synced together with it
	w.noted = s.note()
	s.logMu.Lock()
	s.endGroup()
	s.logMu.Unlock()
}

// note puts a record into the log whose header says that all before it is synced, as the first record of the next group would:
// else damage to the last group would pass for a torn tail for as long as the log is idle. It returns the sequence that nobody
// need note: the note's own. It does nothing where there is no room at hand, and where something waits to be committed: of
// the records in its own group a note says nothing. Then what is committed next is noted.
func (s *Store) note() uint64 {
	recs := []Record{{Kind: KindNote}}
	items, err := s.encode(nil, recs)
	invariant.Check(err == nil, "a note is a record")
	s.logMu.Lock()
	defer s.logMu.Unlock()
	if s.accepting() != nil || len(s.queue.calls) > 0 || len(s.prepared) < s.rollsFor(items) {
		s.bufs.put(items)
		return s.synced
	}
	s.enqueue(recs, items, func(error) {})
	return s.nextSequence - 1
}

// takeGroup moves the calls that are committed together into group; logMu is held.
func (s *Store) takeGroup(group *queue) {
	group.reset()
	q := &s.queue
	if q.bytes <= blocktree.GroupCommitBytesMax {
		*group, *q = *q, *group
		return
	}
	calls := 0
	for calls < len(q.calls) && (calls == 0 || group.bytes+q.calls[calls].bytes <= blocktree.GroupCommitBytesMax) {
		group.bytes += q.calls[calls].bytes
		calls++
	}
	end := q.calls[calls-1].end
	group.calls = append(group.calls, q.calls[:calls]...)
	group.items = append(group.items, q.items[:end]...)
	q.calls = append(q.calls[:0], q.calls[calls:]...)
	q.items = append(q.items[:0], q.items[end:]...)
	for i := range q.calls {
		q.calls[i].end -= end
	}
	q.bytes -= group.bytes
}

// commit makes a group durable and calls back.
func (s *Store) commit(group *queue) {
	s.logMu.Lock()
	err, synced := s.fatal, s.synced
	s.logMu.Unlock()
	if err == nil {
		for i := range group.items {
			if group.items[i].record {
				patchSynced(group.items[i].buf, synced)
			}
		}
		err = s.writeGroup(group.items)
		if blocktree.KindOf(err) == blocktree.NoSpace {
			s.noSpace(group, err)
			return
		}
	}
	if err == nil {
		err = s.failed() // latched meanwhile by a checkpoint
	}
	if err == nil {
		err = s.tellReached(group)
	}
	lazy := err == nil && group.isLazy() && s.unsyncedBytes+group.bytes <= blocktree.GroupCommitBytesMax
	if err == nil && slices.ContainsFunc(group.calls, func(c call) bool { return c.lazy }) {
		s.opts.OnGroup(group.tellWritten)
	}
	if err == nil && !lazy && group.isSync() && s.unsyncedBytes+group.bytes <= blocktree.GroupCommitBytesMax {
		s.commitAside(group)
		return
	}
	switch {
	case lazy:
		s.putOff(group)
	case err == nil:
		if err = s.syncPutOff(group.items); err == nil {
			err = s.syncGroup(group.items)
		}
	}
	s.logMu.Lock()
	if err == nil {
		err = s.fatal // the same, while it was synced
	}
	if err != nil {
		s.latch(err)
		err = s.fatal
	} else {
		s.noteWritten(group)
		if !lazy {
			s.noteSynced()
		}
	}
	s.syncedCond.Broadcast()
	s.logMu.Unlock()
	if !lazy {
		for i := range group.items {
			s.unpinBefore(group.items[i].seg)
		}
	}
	s.bufs.put(group.items)
	if slices.ContainsFunc(group.calls, func(c call) bool { return c.done != nil }) {
		s.opts.OnGroup(func() { group.tell(err) })
	}
}

// tell calls back those that have not been.
func (q *queue) tell(err error) {
	for i := range q.calls {
		if done := q.calls[i].done; done != nil {
			done(err)
		}
	}
}

// failed is the error that was fatal, if there was one.
func (s *Store) failed() error {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	return s.fatal
}

// noteWritten notes that a group is in its files; logMu is held.
func (s *Store) noteWritten(group *queue) {
	if len(group.items) > 0 { // else what was void since the last record is not named so in any header yet
		s.written = group.calls[len(group.calls)-1].sequence
	}
	for i := range group.items {
		if group.items[i].record {
			s.stats.Records++
		}
	}
	s.stats.Bytes += uint64(group.bytes)
	s.stats.VolatileBytes = s.unsyncedBytes
}

// noteSynced notes that all that was written is synced; logMu is held.
func (s *Store) noteSynced() {
	s.synced = s.written
	s.settled = max(s.settled, s.synced)
}

// syncLog syncs what was put off when nothing comes that would.
func (s *Store) syncLog() {
	if len(s.unsynced) == 0 {
		return
	}
	err := s.syncPutOff(nil)
	s.logMu.Lock()
	defer s.logMu.Unlock()
	if err != nil {
		s.latch(err)
	}
	if s.fatal == nil {
		s.noteSynced()
		s.stats.VolatileBytes = 0
	}
	s.syncedCond.Broadcast()
}

// unpinBefore lets go of the file before seg, which nothing will be written to any more: the log has gone on in seg, and what was
// written to that file is synced.
func (s *Store) unpinBefore(seg *segment) {
	if seg != s.writing {
		s.segs.unpin(s.writing)
		s.writing = seg
	}
}

// prepareLoop makes segments ahead until the store closes, so that Append seldom has to.
func (s *Store) prepareLoop() {
	defer close(s.preparerDone)
	for {
		if err := s.prepare(1 + dataReserveSegments); ignore(err, blocktree.NoSpace, blocktree.Closed) != nil {
			s.logMu.Lock()
			s.latch(err)
			s.logMu.Unlock()
			return
		}
		select {
		case <-s.prepareWake:
		case <-s.stop:
			return
		}
	}
}

// writeGroup writes items, one call for all that lie side by side and are written in the same way.
func (s *Store) writeGroup(items []item) error {
	for from := 0; from < len(items); {
		first, end := &items[from], int64(items[from].offset)
		s.iov = s.iov[:0]
		to := from
		for ; to < len(items) && items[to].seg == first.seg && items[to].direct == first.direct && int64(items[to].offset) == end; to++ {
			it := &items[to]
			end += it.bytes()
			if len(it.payload) == 0 {
				s.iov = append(s.iov, it.buf)
				continue
			}
			s.iov = append(s.iov, it.buf[:it.split], it.payload)
			if len(it.buf) > it.split {
				s.iov = append(s.iov, it.buf[it.split:])
			}
		}
		err := s.write(first, end)
		clear(s.iov)
		if err == nil {
			err = s.zeroAhead(first, end, to == len(items) || items[to].seg != first.seg)
		}
		if err != nil {
			return err
		}
		from = to
	}
	return nil
}

// syncGroup syncs every segment that items were written to.
func (s *Store) syncGroup(items []item) error {
	if s.opts.mutant == forgetDatasync {
		return nil
	}
	var last *segment
	for i := range items {
		if seg := items[i].seg; seg != last {
			if err := s.datasync(seg); err != nil {
				return err
			}
			last = seg
		}
	}
	return nil
}

// datasync syncs a segment's file, and counts that.
func (s *Store) datasync(seg *segment) error {
	begun := time.Now()
	if err := seg.file.Datasync(); err != nil {
		return err
	}
	took := time.Since(begun)
	s.logMu.Lock()
	defer s.logMu.Unlock()
	s.stats.Syncs++
	s.stats.SyncTimes.Observe(took)
	return nil
}

// noSpace fails group and all that is queued behind it, whose sequences are void from now on, and makes sure that what
// was written of it is never replayed. The writer runs it, so nothing is written meanwhile. A checkpoint that was begun
// before the last call was told may describe records that never were: it waits until settled goes on, and then fails.
func (s *Store) noSpace(group *queue, cause error) {
	s.logMu.Lock()
	tail := queue{items: append([]item(nil), s.queue.items...), calls: append([]call(nil), s.queue.calls...)}
	s.queue.reset()
	last := s.nextSequence - 1
	for _, q := range []*queue{group, &tail} {
		for i := range q.items {
			s.voids = append(s.voids, q.items[i].voids...) // their header was not written
		}
	}
	if s.opts.mutant != forgetVoid {
		s.voids = appendSequences(s.voids, sequences{firstSequence(group.items), last}) // one range, however often it happens
	}
	s.active.end = s.opts.SegmentBytes // the next record begins a segment
	s.logMu.Unlock()

	fatal := s.syncPutOff(nil) // it is settled from now on
	if fatal == nil {
		fatal = s.cutBack(group.items, tail.items)
	}
	err := error(blocktree.E("store.Append", blocktree.NoSpace, cause))
	s.logMu.Lock()
	if fatal != nil {
		s.latch(fatal)
	}
	if s.fatal != nil {
		err = s.fatal
	}
	s.logMu.Unlock()
	for _, q := range []*queue{group, &tail} {
		s.bufs.put(q.items)
		for _, c := range q.calls {
			c.done(err)
		}
	}
	s.logMu.Lock()
	s.noSpaceCount++
	s.settled = last // but synced goes on only with a header that names the voids
	s.wantCheckpoint()
	s.syncedCond.Broadcast()
	s.logMu.Unlock()
}

func firstSequence(items []item) uint64 {
	for i := range items {
		if items[i].record {
			return binary.BigEndian.Uint64(items[i].buf[offSequence:])
		}
	}
	return 0
}

// cutBack truncates the segment of the first item to where it would have begun, and all later ones to nothing, and
// releases what the items had pinned.
func (s *Store) cutBack(lists ...[]item) error {
	var last *segment
	cut := int64(lists[0][0].offset)
	for _, items := range lists {
		for i := range items {
			if items[i].at != 0 {
				s.pins.settle(items[i].at, 0, blocktree.RunSectorsMax, true)
			}
			seg := items[i].seg
			if seg == last {
				continue
			}
			last = seg
			if err := seg.file.Truncate(cut); err != nil {
				return err
			}
			if err := seg.file.Sync(); err != nil {
				return err
			}
			s.logMu.Lock()
			seg.bytes = cut
			s.logMu.Unlock()
			cut = 0
		}
	}
	return nil
}
