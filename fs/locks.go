package fs

import (
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"blocktree"
)

// locks are the locks of bytes of one file at this service (docs/design/0059, item 11). They are advisory: nothing that reads or writes looks at them.
type locks struct {
	mu    sync.Mutex
	held  []heldLock
	waits []*lockWait // in the order in which they came
}

// lockOwner is whose a lock is: a handle's, or that of a number of its connection.
type lockOwner struct {
	conn   *owner
	number uint64
	handle *openFile // nil where there is a number
}

// counts notes how many more ranges and waits the connection has.
func (o lockOwner) counts(n int) { o.conn.locks.Add(int64(n)) }

// heldLock is a range that an owner has as one kind; what it has does not overlap.
type heldLock struct {
	from, to  uint64
	exclusive bool
	owner     lockOwner
	by        *openFile // that took it
}

// lockWait is somebody who waits for a lock.
type lockWait struct {
	want  heldLock
	id    uint64 // that it is taken back by
	timer *time.Timer
	done  func([]byte, error)
}

func (l *heldLock) touches(from, to uint64) bool { return l.from < to && from < l.to }

// against returns what is in the way of a lock, nil if nothing is.
func (x *locks) against(want *heldLock) *heldLock {
	for i := range x.held {
		if h := &x.held[i]; h.owner != want.owner && h.touches(want.from, want.to) && (h.exclusive || want.exclusive) {
			return h
		}
	}
	return nil
}

// cut takes a range from what an owner has.
func (x *locks) cut(o lockOwner, from, to uint64) {
	if !slices.ContainsFunc(x.held, func(h heldLock) bool { return h.owner == o && h.touches(from, to) }) {
		return
	}
	var left []heldLock
	for _, h := range x.held {
		if h.owner != o || !h.touches(from, to) {
			left = append(left, h)
			continue
		}
		if before := h; h.from < from {
			before.to = from
			left = append(left, before)
		}
		if after := h; h.to > to {
			after.from = to
			left = append(left, after)
		}
	}
	x.held = left
}

// full reports whether a lock more, which may split one of its owner's, or a wait, is too many: on the file, or of the connection.
func (x *locks) full(o lockOwner) bool {
	return len(x.held)+2 > blocktree.FSLocksPerFileMax || o.conn.locks.Load()+2 > blocktree.FSLocksPerConnectionMax
}

// put gives an owner a lock in place of what it has there, and makes one of what lies side by side.
func (x *locks) put(l heldLock) {
	before := len(x.held)
	defer func() { l.owner.counts(len(x.held) - before) }()
	x.cut(l.owner, l.from, l.to)
	x.held = slices.DeleteFunc(x.held, func(h heldLock) bool {
		if h.owner != l.owner || h.by != l.by || h.exclusive != l.exclusive || h.to != l.from && h.from != l.to {
			return false
		}
		l.from, l.to = min(l.from, h.from), max(l.to, h.to)
		return true
	})
	x.held = append(x.held, l)
}

// lock takes a lock, or fails with Busy. Who waits hears of it by done, and lock returns errLater.
func (x *locks) lock(want heldLock, id uint64, wait bool, done func([]byte, error)) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.against(&want) == nil {
		if x.full(want.owner) {
			return tooMany("lock")
		}
		x.put(want)
		x.grant() // it may be less than its owner had
		return nil
	}
	switch {
	case !wait:
		return &blocktree.Error{Op: "lock", Kind: blocktree.Busy, Err: errors.New("somebody else has it locked"), Hint: "wait for it, or try again"}
	case len(x.waits) >= blocktree.FSLockWaitsPerFileMax:
		return busy("too many wait for locks on this file")
	case x.full(want.owner):
		return tooMany("lock")
	}
	w := &lockWait{want: want, id: id, done: done}
	w.timer = time.AfterFunc(blocktree.FSLockWaitMax, func() {
		x.end(func(other *lockWait) bool { return other == w }, busy("somebody else has it locked"))
	})
	x.waits = append(x.waits, w)
	want.owner.counts(1)
	return errLater
}

func tooMany(op string) error {
	return &blocktree.Error{Op: op, Kind: blocktree.NoSpace, Err: errors.New("too many locks on this file, or of this connection"), Hint: "unlock some, whole ranges first"}
}

// errLater says that a message is answered by somebody else, later.
var errLater = errors.New("later")

// grant gives those who wait what nobody is in the way of any more, in the order in which they came.
func (x *locks) grant() {
	x.waits = slices.DeleteFunc(x.waits, func(w *lockWait) bool {
		if w.want.owner.counts(-1); x.full(w.want.owner) || x.against(&w.want) != nil {
			w.want.owner.counts(1)
			return false
		}
		w.timer.Stop()
		x.put(w.want)
		w.done(nil, nil)
		return true
	})
}

// unlock takes a range from an owner.
func (x *locks) unlock(o lockOwner, from, to uint64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	was := x.held
	if x.cut(o, from, to); len(x.held) > len(was) && (len(x.held) > blocktree.FSLocksPerFileMax || o.conn.locks.Load() >= blocktree.FSLocksPerConnectionMax) {
		x.held = was
		return tooMany("unlock")
	}
	o.counts(len(x.held) - len(was))
	x.grant()
	return nil
}

// end has some waits fail.
func (x *locks) end(which func(*lockWait) bool, why error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waits = slices.DeleteFunc(x.waits, func(w *lockWait) bool {
		if !which(w) {
			return false
		}
		w.timer.Stop()
		w.want.owner.counts(-1)
		w.done(nil, why)
		return true
	})
}

// drop takes what a handle has taken, and ends its waits.
func (x *locks) drop(by *openFile, why error) {
	x.end(func(w *lockWait) bool { return w.want.by == by }, why)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.held = slices.DeleteFunc(x.held, func(h heldLock) bool {
		if h.by != by {
			return false
		}
		h.owner.counts(-1)
		return true
	})
	x.grant()
}

// test describes what is in the way of a lock.
func (x *locks) test(want *heldLock) Lock {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.against(want)
	if h == nil {
		return Lock{}
	}
	out := Lock{Held: true, Off: h.from, Bytes: h.to - h.from, Exclusive: h.exclusive}
	if h.to == math.MaxUint64 {
		out.Bytes = 0
	}
	if h.owner.conn == want.owner.conn {
		out.Owner = h.owner.number
	}
	return out
}

// lock does what a message asks of the locks of the file.
func (a *openFile) lock(m *message) ([]byte, error) {
	r, x := m.lock, &a.shared.locks
	want := heldLock{from: r.off, to: r.off + r.bytes, exclusive: r.exclusive, owner: lockOwner{conn: a.owner, number: r.owner}, by: a}
	if r.bytes == 0 || want.to < want.from {
		want.to = math.MaxUint64
	}
	if r.owner == 0 {
		want.owner.handle = a
	}
	switch r.op {
	case lockTake, lockWaits:
		if r.exclusive && !a.write {
			return nil, &blocktree.Error{Op: "lock", Kind: blocktree.ReadOnly, Err: errors.New("the file is open for reading"), Hint: "who reads takes a shared lock"}
		}
		a.locked = true
		return nil, x.lock(want, r.id, r.op == lockWaits, m.done)
	case lockGive:
		return nil, x.unlock(want.owner, want.from, want.to)
	case lockTest:
		l := x.test(&want)
		return encodeLock(&l), nil
	case lockCancel:
		x.end(func(w *lockWait) bool { return w.want.by == a && w.id == r.id }, blocktree.E("lock", blocktree.Canceled, errors.New("nobody waits for it any more")))
		return nil, nil
	}
	return nil, blocktree.E("lock", blocktree.Unsupported, nil)
}
