package fs

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"blocktree"
	"blocktree/internal/dispatch"
	"blocktree/internal/wire"
)

// Lock is what is in the way of a lock.
type Lock struct {
	Held       bool   // else nothing is
	Off, Bytes uint64 // 0 bytes: to the end of all files
	Exclusive  bool
	Owner      uint64 // the number of LockOwner, of an owner of the same client; else 0
}

// Locker is an optional ability of a File that is open at a service: advisory locks of bytes [off, off+bytes), of 0 bytes to the end of all files, of the handle, among all who have the file open at that service. What an owner has is of one kind for each byte: a new lock is in place of its own. They end with
// the handle that took them. Kinds: Busy (somebody else has it locked, and wait is false), ReadOnly (an exclusive one, of a handle to read), NoSpace (too many), Unsupported (a service of a version before). Deadlocks are not looked for: give ctx a deadline.
type Locker interface {
	// Lock waits, with wait, until nobody else is in the way, or ctx ends: then it returns nil if the lock came first.
	Lock(ctx context.Context, off, bytes uint64, exclusive, wait bool) error
	Unlock(ctx context.Context, off, bytes uint64) error
	// TestLock says what would be in the way.
	TestLock(ctx context.Context, off, bytes uint64, exclusive bool) (Lock, error)
}

// OwnedLocker is a Locker for several owners, as the processes of a mount.
type OwnedLocker interface {
	// LockOwner is the Locker of the owner of a number, which is not 0: the same one for all handles of a client.
	LockOwner(n uint64) Locker
}

const (
	formatLockRequest = 1
	formatLock        = 1
)

// What is asked of locks.
const (
	lockTake = iota
	lockWaits
	lockGive
	lockTest
	lockCancel

	lockOps
)

// lockRequest asks something of the locks of an open file.
type lockRequest struct {
	handle     uint64
	op         uint8
	exclusive  bool
	owner      uint64
	off, bytes uint64
	id         uint64 // of a wait
}

func (r lockRequest) encode() []byte {
	var e wire.Encoder
	e.U8(formatLockRequest)
	e.U64(r.handle)
	e.U8(r.op)
	e.Bool(r.exclusive)
	e.U64(r.owner)
	e.U64(r.off)
	e.U64(r.bytes)
	e.U64(r.id)
	return e.Buf
}

func decodeLockRequest(b []byte) (lockRequest, error) {
	d := wire.NewDecoder(b)
	d.Format(formatLockRequest)
	r := lockRequest{handle: d.U64(), op: d.U8(), exclusive: d.Bool(), owner: d.U64(), off: d.U64(), bytes: d.U64(), id: d.U64()}
	if d.Err() == nil && r.op >= lockOps {
		d.Fail(blocktree.E("decode", blocktree.NewerFormat, errors.New("nothing that is asked of locks")))
	}
	if err := d.Finish(); err != nil {
		return lockRequest{}, &blocktree.Error{Op: "fs request", Err: err}
	}
	return r, nil
}

func encodeLock(l *Lock) []byte {
	var e wire.Encoder
	e.U8(formatLock)
	e.Bool(l.Held)
	e.U64(l.Off)
	e.U64(l.Bytes)
	e.Bool(l.Exclusive)
	e.U64(l.Owner)
	return e.Buf
}

func decodeLock(b []byte) (Lock, error) {
	d := wire.NewDecoder(b)
	d.Format(formatLock)
	l := Lock{Held: d.Bool(), Off: d.U64(), Bytes: d.U64(), Exclusive: d.Bool(), Owner: d.U64()}
	return l, d.Finish()
}

// locker is a Locker of an owner.
type locker struct {
	file  *remote
	owner uint64
}

var _ interface {
	Locker
	OwnedLocker
} = (*remote)(nil)

// LockOwner implements OwnedLocker.
func (f *remote) LockOwner(n uint64) Locker { return locker{f, n} }

// Lock implements Locker.
func (f *remote) Lock(ctx context.Context, off, bytes uint64, exclusive, wait bool) error {
	return locker{f, 0}.Lock(ctx, off, bytes, exclusive, wait)
}

// Unlock implements Locker.
func (f *remote) Unlock(ctx context.Context, off, bytes uint64) error {
	return locker{f, 0}.Unlock(ctx, off, bytes)
}

// TestLock implements Locker.
func (f *remote) TestLock(ctx context.Context, off, bytes uint64, exclusive bool) (Lock, error) {
	return locker{f, 0}.TestLock(ctx, off, bytes, exclusive)
}

// send asks something of the locks.
func (l locker) send(ctx context.Context, r lockRequest, take func([]byte)) error {
	r.handle, r.owner = l.file.handle, l.owner
	return l.file.once(ctx, dispatch.Message{Code: codeLock, Header: r.encode()}, take)
}

// Lock implements Locker. The service waits for a while only, and is asked again. Once a wait was asked for its answer is awaited, also when ctx has ended: a lock that nobody knows of would be nobody's to give back.
func (l locker) Lock(ctx context.Context, off, bytes uint64, exclusive, wait bool) error {
	r := lockRequest{op: lockTake, exclusive: exclusive, off: off, bytes: bytes, id: rand.Uint64()}
	if !wait {
		return failed("lock", l.file.path, l.send(ctx, r, nil))
	}
	r.op = lockWaits
	for {
		if ctx.Err() != nil {
			return failed("lock", l.file.path, blocktree.E("fs", blocktree.Canceled, ctx.Err()))
		}
		err := l.await(ctx, r)
		if blocktree.KindOf(err) != blocktree.Unavailable {
			return failed("lock", l.file.path, err)
		}
		select { // else it would be asked all the time where too many wait
		case <-ctx.Done():
		case <-time.After(retryPauseMin):
		}
	}
}

// await asks once, and takes that back when ctx ends.
func (l locker) await(ctx context.Context, r lockRequest) error {
	whole := context.WithoutCancel(ctx)
	answer := make(chan error, 1)
	go func() { answer <- l.send(whole, r, nil) }()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	for r.op = lockCancel; ; { // again, as the first may have come before what it takes back
		_ = l.send(whole, r, nil) // else it ends with the connection, or when the service has waited long enough
		select {
		case err := <-answer:
			return err
		case <-time.After(retryPauseMax):
		}
	}
}

// Unlock implements Locker.
func (l locker) Unlock(ctx context.Context, off, bytes uint64) error {
	return failed("unlock", l.file.path, l.send(ctx, lockRequest{op: lockGive, off: off, bytes: bytes}, nil))
}

// TestLock implements Locker.
func (l locker) TestLock(ctx context.Context, off, bytes uint64, exclusive bool) (held Lock, err error) {
	var refused error
	err = l.send(ctx, lockRequest{op: lockTest, exclusive: exclusive, off: off, bytes: bytes}, func(b []byte) { held, refused = decodeLock(b) })
	if err == nil {
		err = refused
	}
	return held, failed("test a lock on", l.file.path, err)
}
