package store

import (
	"slices"
	"time"

	"blocktree"
)

// What need not be durable yet (docs/design/0014). The committer writes a group that consists of such records only and leaves the sync to
// the next one that asks for it. All that was said of the log stays true: records lie in it in the order of their appending, so a sync
// makes them durable together with those after them, and headers name as synced what was synced. What is put off is no more than a group, as the
// next start has to name what of it is torn.

// AppendLazy is Append of records that need not be durable yet: written is called, once, when they are in the log file, where a restart
// after a kill of the process finds them. They are durable when anything that was appended later, or a Sync that was asked for later, is.
func (s *Store) AppendLazy(recs []Record, written func(error)) ([]Ref, error) {
	return s.append(recs, written, true)
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

// putOff keeps note of the segments that a group was written to and that are to be synced; only the committer does.
func (s *Store) putOff(group *queue) {
	s.unsyncedBytes += group.bytes
	for i := range group.items {
		if n := len(s.unsynced); n == 0 || s.unsynced[n-1] != group.items[i].seg {
			s.unsynced = append(s.unsynced, group.items[i].seg)
		}
	}
}

// syncPutOff syncs what was put off, in the order in which it was written, but for the segment that next, which is synced after it, begins
// with. After an error, which is the store's end, nothing is put off any more.
func (s *Store) syncPutOff(next []item) error {
	defer func() { s.unsynced, s.unsyncedBytes = s.unsynced[:0], 0 }()
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
