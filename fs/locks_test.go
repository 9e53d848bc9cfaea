package fs

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// TestLocksAgainstBytes: L1 of 0059. By any order of locks and unlocks each byte is of whom, and of what kind, POSIX says.
func TestLocksAgainstBytes(t *testing.T) {
	const size, owners = 40, 4
	for seed := range uint64(20) {
		r := newRandom(seed)
		var x locks
		var model [owners][size]int // 1 shared, 2 exclusive
		conn := new(owner)
		by := &openFile{owner: conn}
		for step := range 500 {
			who, from := r.IntN(owners), r.IntN(size)
			to, kind := from+1+r.IntN(size-from), r.IntN(3)
			o := lockOwner{conn: conn, number: uint64(who + 1)}
			free := true
			for b := from; b < to; b++ {
				for other := range owners {
					free = free && (other == who || model[other][b] == 0 || model[other][b] == 1 && kind == 1)
				}
			}
			want := heldLock{from: uint64(from), to: uint64(to), exclusive: kind == 2, owner: o, by: by}
			var err error
			if kind == 0 {
				free, err = true, x.unlock(o, want.from, want.to)
			} else {
				if l := x.test(&want); l.Held == free {
					t.Fatalf("seed %d step %d: tested %+v, free %t", seed, step, l, free)
				}
				err = x.lock(want, 0, false, nil)
			}
			if (err == nil) != free {
				t.Fatalf("seed %d step %d: %v, free %t", seed, step, err, free)
			}
			for b := from; b < to && free; b++ {
				model[who][b] = kind
			}
			got := [owners][size]int{}
			for _, h := range x.held {
				for b := h.from; b < h.to; b++ {
					k := &got[h.owner.number-1][b]
					if *k != 0 {
						t.Fatalf("seed %d step %d: byte %d twice", seed, step, b)
					}
					if *k = 1; h.exclusive {
						*k = 2
					}
				}
			}
			if got != model || len(x.held) > owners*size/2 || len(x.held) != int(conn.locks.Load()) {
				t.Fatalf("seed %d step %d: %d ranges, %d counted, or other bytes", seed, step, len(x.held), conn.locks.Load())
			}
		}
		x.drop(by, nil)
		if len(x.held) != 0 || conn.locks.Load() != 0 {
			t.Errorf("%d ranges are left, %d counted", len(x.held), conn.locks.Load())
		}
	}
}

// asks has a lock asked for, and returns what comes of it, once it does.
func (a *openFile) asks(r lockRequest) chan error {
	done := make(chan error, 1)
	m := &message{code: codeLock, lock: r, done: func(_ []byte, err error) { done <- err }}
	if err := a.box.put(m); err != nil {
		done <- err
	}
	return done
}

// TestLocksEndWithTheirHandle: L2 of 0059. A lock is gone with its handle, its connection or its right, and who waited longest gets it; who waits too long is told, and so is who does not wait any more.
func TestLocksEndWithTheirHandle(t *testing.T) {
	for name, ends := range map[string]func(c *fake, f *openFile){
		"closed":       func(_ *fake, f *openFile) { _, _ = f.ask(message{code: codeClose}) },
		"disconnected": func(_ *fake, f *openFile) { f.owner.end() },
		"revoked": func(c *fake, f *openFile) {
			c.revoke(f.path, f.owner.caller(), false)
			time.Sleep(blocktree.FSJudgeEvery)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newFake()
			ann, bob := somebody("ann"), somebody("bob")
			path := c.file("f", Read|Write|Lease, ann, bob)
			s := newTestService(t, c, nil)
			first := open(t, s, ownerFor(s, ann), path, 0)
			o := ownerFor(s, bob)
			second, third := open(t, s, o, path, flagWrite), open(t, s, o, path, flagWrite)
			wantKind(t, name, <-first.asks(lockRequest{op: lockTake, off: 10, bytes: 10}), 0)
			wantKind(t, "exclusive, to read", <-first.asks(lockRequest{op: lockTake, exclusive: true}), blocktree.ReadOnly)
			wantKind(t, "beside it", <-second.asks(lockRequest{op: lockTake, exclusive: true, off: 20}), 0)
			wantKind(t, "over it", <-second.asks(lockRequest{op: lockTake, exclusive: true, off: 19, bytes: 1}), blocktree.Busy)
			late := second.asks(lockRequest{op: lockWaits, exclusive: true, off: 5, bytes: 10})
			time.Sleep(blocktree.FSLockWaitMax)
			wantKind(t, "waited too long", <-late, blocktree.Unavailable)
			taken := second.asks(lockRequest{op: lockWaits, exclusive: true, off: 5, bytes: 10, id: 7})
			waits, behind := second.asks(lockRequest{op: lockWaits, exclusive: true, off: 5, bytes: 10}), third.asks(lockRequest{op: lockWaits, off: 0})
			wantKind(t, "a cancel", <-second.asks(lockRequest{op: lockCancel, id: 7}), 0)
			wantKind(t, "taken back", <-taken, blocktree.Canceled)
			synctest.Wait()
			if len(waits) != 0 {
				t.Fatalf("%s: it was not waited: %v", name, <-waits)
			}
			ends(c, first)
			wantKind(t, name+": who waited", <-waits, 0)
			synctest.Wait()
			if len(behind) != 0 {
				t.Fatalf("%s: who came later has it, too: %v", name, <-behind)
			}
			_, _ = third.ask(message{code: codeClose})
			wantKind(t, "of who has closed", <-behind, blocktree.Undeliverable)
			o.end()
			synctest.Wait()
			if n := len(second.shared.locks.held) + len(second.shared.locks.waits); n != 0 {
				t.Errorf("%s: %d locks and waits are left", name, n)
			}
			if n := o.locks.Load() + first.owner.locks.Load(); n != 0 {
				t.Errorf("%s: %d locks and waits are counted", name, n)
			}
		})
	}
}

// TestLocksOfAConnection: what a connection has locked is bounded over all its files, and does not bound others; what it gives back counts no more.
func TestLocksOfAConnection(t *testing.T) {
	conn, other := new(owner), new(owner)
	mine, others := &openFile{owner: conn}, &openFile{owner: other}
	lock := func(x *locks, by *openFile, at uint64) error {
		return x.lock(heldLock{from: at, to: at + 1, owner: lockOwner{conn: by.owner, handle: by}, by: by}, 0, false, nil)
	}
	files, taken := make([]locks, 3), 0
	for n := range files {
		for at := uint64(0); taken < blocktree.FSLocksPerConnectionMax && lock(&files[n], mine, 2*at) == nil; at++ {
			taken++
		}
	}
	if taken < blocktree.FSLocksPerConnectionMax-2 || taken > blocktree.FSLocksPerConnectionMax {
		t.Fatalf("%d locks", taken)
	}
	last := &files[2]
	wantKind(t, "one more", lock(last, mine, 1<<20), blocktree.NoSpace)
	wantKind(t, "another's", lock(last, others, 1<<20), 0)
	wantKind(t, "a wait more", last.lock(heldLock{from: 1 << 20, to: 1<<20 + 1, exclusive: true, owner: lockOwner{conn: conn, handle: mine}, by: mine}, 0, true, func([]byte, error) {}), blocktree.NoSpace)
	files[0].drop(mine, nil)
	wantKind(t, "after some were given back", lock(last, mine, 1<<20), 0)
	files[1].drop(mine, nil)
	last.drop(mine, nil)
	if n := conn.locks.Load(); n != 0 || other.locks.Load() != 1 {
		t.Errorf("%d are counted, and %d of the other", n, other.locks.Load())
	}
}

// TestLocksFromAfar: L3 of 0059, by way of the wire: owners by number are the same by each handle of a client, others are not; whose context ends has the lock, or does not wait for it.
func TestLocksFromAfar(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	bob, other := b.dial("bob")
	path := b.fake.file("f", Read|Write|Lease, who, other)
	var files []*remote
	for _, c := range []*Client{ann, ann, bob} {
		f, err := c.Open(t.Context(), path, OpenOptions{Write: true})
		b.must(err)
		files = append(files, f.(*remote))
	}
	ctx := t.Context()
	b.must(files[0].LockOwner(5).Lock(ctx, 0, 100, true, false))
	b.must(files[1].LockOwner(5).Lock(ctx, 50, 100, false, false))
	wantKind(t, "another number", files[1].LockOwner(6).Lock(ctx, 0, 1, false, false), blocktree.Busy)
	wantKind(t, "the handle's own", files[0].Lock(ctx, 0, 1, false, false), blocktree.Busy)
	wantKind(t, "another client's", files[2].LockOwner(5).Lock(ctx, 0, 1, false, false), blocktree.Busy)
	for f, owner := range map[*remote]uint64{files[0]: 5, files[2]: 0} {
		if l, err := f.TestLock(ctx, 60, 0, true); err != nil || l != (Lock{true, 50, 100, false, owner}) {
			t.Errorf("%+v, %v", l, err)
		}
	}
	short, cancel := context.WithCancel(ctx)
	waits := make(chan error, 1)
	go func() { waits <- files[2].Lock(short, 0, 10, true, true) }()
	cancel()
	wantKind(t, "whose context ended", <-waits, blocktree.Canceled)
	go func() { waits <- files[2].Lock(ctx, 0, 10, true, true) }()
	b.must(files[1].LockOwner(5).Unlock(ctx, 0, 50))
	b.must(<-waits)
	b.must(files[0].Close())
	b.must(files[2].Lock(ctx, 0, 50, true, false))
	wantKind(t, "taken by a handle that is open", files[2].Lock(ctx, 60, 1, true, false), blocktree.Busy)
}
