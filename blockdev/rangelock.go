package blockdev

import (
	"context"
	"sync"

	"blocktree"
)

// rangeLocks serialises writes that overlap, in the order in which they asked, and lets disjoint ones pass. The number
// of locks held and awaited is that of the writes in flight, some hundreds, so a scan of all of them is cheap.
type rangeLocks struct {
	mu     sync.Mutex
	oldest *rangeLock // in the order in which they asked
	newest *rangeLock
	spare  *rangeLock // at most sparesMax, linked by next
	spares int
}

const sparesMax = 128

type rangeLock struct {
	first, last blocktree.SectorIndex // inclusive
	prev, next  *rangeLock
	blockers    int           // older overlapping locks that are still there
	blocks      []*rangeLock  // younger overlapping locks that wait for this one
	ready       chan struct{} // closed when blockers falls to zero
}

// tryLock is lock without waiting: it returns nil where lock would wait.
func (l *rangeLocks) tryLock(first, last blocktree.SectorIndex) *rangeLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	for older := l.oldest; older != nil; older = older.next {
		if older.first <= last && first <= older.last {
			return nil
		}
	}
	k := l.take(first, last)
	l.append(k)
	return k
}

// take makes a lock; l.mu is held.
func (l *rangeLocks) take(first, last blocktree.SectorIndex) *rangeLock {
	k := l.spare
	if k == nil {
		k = new(rangeLock)
	} else {
		l.spare, k.next = k.next, nil
		l.spares--
	}
	k.first, k.last = first, last
	return k
}

// append makes k the newest; l.mu is held.
func (l *rangeLocks) append(k *rangeLock) {
	k.prev = l.newest
	if k.prev != nil {
		k.prev.next = k
	} else {
		l.oldest = k
	}
	l.newest = k
}

// lock waits until no older lock overlaps the sectors first … last. It returns nil when ctx ended before.
func (l *rangeLocks) lock(ctx context.Context, first, last blocktree.SectorIndex) *rangeLock {
	l.mu.Lock()
	k := l.take(first, last)
	for older := l.oldest; older != nil; older = older.next {
		if older.first <= last && first <= older.last {
			older.blocks = append(older.blocks, k)
			k.blockers++
		}
	}
	l.append(k)
	if k.blockers == 0 {
		l.mu.Unlock()
		return k
	}
	k.ready = make(chan struct{})
	ready := k.ready
	l.mu.Unlock()
	select {
	case <-ready:
		return k
	case <-ctx.Done():
		l.unlock(k)
		return nil
	}
}

// unlock releases a lock, or gives up one that is still awaited.
func (l *rangeLocks) unlock(k *rangeLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		l.oldest = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	} else {
		l.newest = k.prev
	}
	for _, younger := range k.blocks {
		younger.blockers--
		if younger.blockers == 0 && younger.ready != nil {
			close(younger.ready)
		}
	}
	if k.blockers > 0 || l.spares == sparesMax {
		return // given up: older locks still name it, so it is not used again
	}
	clear(k.blocks)
	*k = rangeLock{blocks: k.blocks[:0], next: l.spare}
	l.spare = k
	l.spares++
}
