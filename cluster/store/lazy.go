package store

import (
	"slices"
	"time"

	"blocktree"
)

// What need not be durable yet (docs/design/0014). Whoever writes a group that consists of such records only leaves the sync to
// the next one that asks for it. All that was said of the log stays true: records lie in it in the order of their appending, so a sync
// makes them durable together with those after them, and headers name as synced what was synced. What is put off is no more than a group, as the
// next start has to name what of it is torn.

// AppendLazy is Append of records that need not be durable yet: written is called, once, when they are in the log file, where a restart
// after a kill of the process finds them. They are written by the next WriteLazy, which the caller owes, if nothing that is appended or synced
// beside them has them written before. They are durable when anything that was appended later, or a Sync that was asked for later, is.
func (s *Store) AppendLazy(recs []Record, written func(error)) ([]Ref, error) {
	return s.append(recs, written, true)
}

const (
	// lazyBytesMax is the most that WriteLazy writes by itself at a time: so much is in the page cache in less time than it takes to wake another
	// goroutine and have it run.
	lazyBytesMax = 256 << 10
	// lazyRounds is how often it does, where others queue meanwhile, before the committer goes on. That does not while it syncs aside: then there is no bound but
	// the end of the sync.
	lazyRounds = 4
)

// WriteLazy has written what AppendLazy has queued: in the caller's goroutine, where it is short, nobody waits for more than that, and nobody writes already; else
// by the committer, or whoever writes. It makes the calls back, with no lock of the store held, and waits for no sync and no compactor.
func (s *Store) WriteLazy() { s.writeLazy(false) }

// writeLazy is WriteLazy, also by the committer.
func (s *Store) writeLazy(committer bool) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	for round := 0; len(s.queue.calls) > 0 && !s.writer && !s.wanted; round++ { // who writes looks for more
		if round >= lazyRounds && (committer || !s.syncing) || !s.isBrief() {
			signal(s.wake)
			return
		}
		s.beginGroup()
		s.logMu.Unlock()
		s.commit(&s.group)
		s.logMu.Lock()
		s.endGroup()
	}
	if !s.writer && len(s.unsynced) > 0 && !s.watching && s.opts.NoteAfter > 0 {
		signal(s.wake) // it is the committer who sees that the log is idle
	}
}

// isBrief reports whether what waits is for WriteLazy; logMu is held, and nobody is the writer.
func (s *Store) isBrief() bool {
	q := &s.queue
	switch {
	case s.closing || s.overfull || s.fatal != nil:
		return false
	case q.bytes > lazyBytesMax || s.unsyncedBytes+q.bytes > blocktree.GroupCommitBytesMax: // then it is synced, too
		return false
	case !q.isLazy():
		return false
	}
	for i := range q.items {
		if it := &q.items[i]; it.direct || !it.record {
			return false // past the page cache, or into a new file
		}
	}
	return true
}

// Sync has all that was appended before made durable; done is called once, by another goroutine. Closed, and the error that was fatal, as
// Append.
func (s *Store) Sync(done func(error)) error {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	if err := s.accepting(); err != nil && blocktree.KindOf(err) != blocktree.Busy {
		return err
	}
	s.enqueueSync(done)
	return nil
}

// enqueueSync queues a call without records; logMu is held.
func (s *Store) enqueueSync(done func(error)) {
	s.queue.calls = append(s.queue.calls, call{done: done, end: len(s.queue.items), sequence: s.nextSequence - 1, at: time.Now()})
	signal(s.wake)
}

// isLazy reports whether nobody in a group waits for it to be durable.
func (q *queue) isLazy() bool {
	for i := range q.calls {
		if !q.calls[i].lazy {
			return false
		}
	}
	return true
}

// isSync reports whether of a group nothing waits to be durable but calls of Sync.
func (q *queue) isSync() bool {
	for i := range q.calls {
		if c := &q.calls[i]; !c.lazy && c.bytes > 0 {
			return false
		}
	}
	return true
}

// commitAside ends a group that is a sync's, and is written: others write while it is synced. The committer alone does that.
func (s *Store) commitAside(group *queue) {
	s.putOff(group)
	s.bufs.put(group.items)
	var calls []call
	for _, c := range group.calls {
		if c.done != nil {
			calls = append(calls, c)
		}
	}
	s.logMu.Lock()
	s.noteWritten(group)
	s.logMu.Unlock()
	err := s.syncAside()
	s.opts.OnGroup(func() { (&queue{calls: calls}).tell(err) })
}

// syncAside syncs what is put off. Meanwhile the caller, who is the committer, is not the writer: what is put off since stays so.
func (s *Store) syncAside() error {
	segs := slices.Clone(s.unsynced)
	for _, seg := range segs {
		s.segs.hold(seg)
		defer s.segs.release(seg)
	}
	s.aside, s.asideBytes = len(segs), s.unsyncedBytes
	s.logMu.Lock()
	upTo := s.written
	s.syncing = true
	s.endGroup()
	s.logMu.Unlock()
	s.writeLazy(true) // what was queued beside the group, whose owners went away
	var err error
	for i := 0; i < len(segs) && err == nil && s.opts.mutant != forgetDatasync && s.opts.mutant != forgetPutOff; i++ {
		err = s.datasync(segs[i])
	}
	s.logMu.Lock()
	if err != nil {
		s.latch(err) // at once: who writes may tell others that all is well, or hang
	}
	for s.writer {
		s.wanted = true
		s.logMu.Unlock()
		<-s.wake
		s.logMu.Lock()
	}
	s.writer, s.wanted, s.syncing = true, false, false
	if err = s.fatal; err == nil {
		s.synced = max(s.synced, upTo) // voids since are above it
		s.settled = max(s.settled, s.synced)
	}
	s.dropAside(segs)
	s.stats.VolatileBytes = s.unsyncedBytes
	s.syncedCond.Broadcast()
	s.logMu.Unlock()
	return err
}

// dropAside forgets of what is put off what was synced aside, unless it was synced otherwise meanwhile.
func (s *Store) dropAside(segs []*segment) {
	if s.aside == 0 {
		return
	}
	for _, seg := range segs {
		s.unpinBefore(seg)
	}
	s.unsynced = append(s.unsynced[:0], s.unsynced[s.aside:]...)
	s.unsyncedBytes -= s.asideBytes
	s.aside, s.asideBytes = 0, 0
}

// tellReached says up to where the log is written, if somebody in a group waits for that.
func (s *Store) tellReached(group *queue) error {
	if s.opts.OnWritten == nil || !slices.ContainsFunc(group.calls, func(c call) bool { return c.lazy }) {
		return nil
	}
	return s.opts.OnWritten(group.calls[len(group.calls)-1].sequence)
}

// tellWritten calls back those that wait for no more than that.
func (q *queue) tellWritten() {
	for i := range q.calls {
		if c := &q.calls[i]; c.lazy {
			c.done(nil)
			c.done = nil
		}
	}
}

// putOff keeps note of the segments that a group was written to and that are to be synced; only the writer does.
func (s *Store) putOff(group *queue) {
	s.unsyncedBytes += group.bytes
	for i := range group.items {
		if n := len(s.unsynced); n == s.aside || s.unsynced[n-1] != group.items[i].seg {
			s.unsynced = append(s.unsynced, group.items[i].seg)
		}
	}
}

// syncPutOff syncs what was put off, in the order in which it was written, but for the segment that next, which is synced after it, begins
// with. After an error, which is the store's end, nothing is put off any more.
func (s *Store) syncPutOff(next []item) error {
	defer func() { s.unsynced, s.unsyncedBytes, s.aside, s.asideBytes = s.unsynced[:0], 0, 0, 0 }()
	for _, seg := range s.unsynced {
		if (len(next) == 0 || next[0].seg != seg) && s.opts.mutant != forgetDatasync && s.opts.mutant != forgetPutOff {
			if err := s.datasync(seg); err != nil {
				return err
			}
		}
		s.unpinBefore(seg)
	}
	return nil
}
