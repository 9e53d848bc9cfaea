package nbd

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tlsRecordBytesMax = 16 << 10 // of plain text

	// tlsTryBytesMax is how much is sealed into memory, so that who has a reply can write it without waiting: what the reader answers
	// before it writes (inlineBytes), with the headers.
	tlsTryBytesMax = inlineBytes + 8<<10
)

// underTLS is the socket beneath a TLS connection. A TLS connection is of no use after a write that timed out, so who is slow
// is judged here: a write goes on after a timeout, unless the client took less than its share (stallShare) while others wait for
// memory. Reads may time out and go on.
type underTLS struct {
	net.Conn
	stall   time.Duration
	harmful func() bool

	mu      sync.Mutex // held during a write: a key update is written by the reader
	patient bool       // transmission has begun: there is no other deadline
	batch   bool       // begin was called: the deadline is set
	share   int
	wrote   int // since the deadline was set

	raw     syscall.RawConn // nil: nothing can be tried
	holding bool            // what is written is held
	held    []byte          // records that wait to be written, before all others
	step    func(fd uintptr) bool
	failed  error // of the system call
}

func newUnderTLS(nc net.Conn, stall time.Duration, harmful func() bool) *underTLS {
	u := &underTLS{Conn: nc, stall: stall, harmful: harmful}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			u.raw = raw
		}
	}
	u.step = u.writeSome
	return u
}

// hold has what is written from now on held. It reports false, and nothing has changed, where somebody is writing: the reader a key update, for which it may
// wait for the client.
func (u *underTLS) hold() bool {
	if !u.mu.TryLock() {
		return false
	}
	defer u.mu.Unlock()
	u.holding = true
	return true
}

// tryHeld writes what the socket takes at once of what is held since hold, and reports whether that was all. Nothing more is held after that.
func (u *underTLS) tryHeld() (done bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.holding = false
	if err := u.raw.Write(u.step); err != nil {
		return false, err
	}
	return len(u.held) == 0, u.failed
}

// writeSome is called by the runtime with the socket, by tryHeld.
func (u *underTLS) writeSome(fd uintptr) bool {
	done := 0
	for done < len(u.held) {
		n, err := unix.Write(int(fd), u.held[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			if err != unix.EAGAIN {
				u.failed = os.NewSyscallError("write", err)
			}
			break
		}
		done += n
	}
	u.held = u.held[:copy(u.held, u.held[done:])]
	return true // not again: nobody waits
}

// patience says whether the deadlines of writes are those of this type, or the caller's.
func (u *underTLS) patience(patient bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.patient = patient
}

// begin is called before a batch of bytes is written, end after it. It writes what is held.
func (u *underTLS) begin(bytes int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.batch, u.share = true, stallShare(bytes+len(u.held))
	if err := u.renew(); err != nil || len(u.held) == 0 {
		return err
	}
	_, err := u.writeAll(u.held)
	u.held = u.held[:0]
	return err
}

func (u *underTLS) end() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.batch = false
	return u.Conn.SetWriteDeadline(time.Time{})
}

// renew sets the next deadline. u.mu is held.
func (u *underTLS) renew() error {
	u.wrote = 0
	return u.Conn.SetWriteDeadline(time.Now().Add(u.stall))
}

// Write writes all of b, or fails for good; or it holds it, as hold says, or behind what is held.
func (u *underTLS) Write(b []byte) (done int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.holding || len(u.held) > 0 {
		u.held = append(u.held, b...)
		return len(b), nil
	}
	if !u.patient || u.batch {
		return u.writeAll(b)
	}
	u.share = 1
	if err := u.renew(); err != nil {
		return 0, err
	}
	if done, err = u.writeAll(b); err == nil {
		err = u.Conn.SetWriteDeadline(time.Time{}) // or who tries next, whenever that is, would find it past
	}
	return done, err
}

// writeAll is Write without holding anything. u.mu is held.
func (u *underTLS) writeAll(b []byte) (done int, err error) {
	for {
		n, err := u.Conn.Write(b[done:])
		done += n
		u.wrote += n
		if err == nil || !u.patient || !errors.Is(err, os.ErrDeadlineExceeded) || u.wrote < u.share && u.harmful() {
			return done, err
		}
		if err := u.renew(); err != nil {
			return done, err
		}
	}
}

// recordWriter puts what is small together, because every write to a TLS connection is a record and a system call. It belongs to the
// outbox's writer.
type recordWriter struct {
	*secured
	record []byte // has room for one
}

// try seals the slices, if they are few, and writes what the socket takes of that at once. Who is not told that all was written calls write, with
// the slices if they are not sealed. It does not wait for the client.
func (w *recordWriter) try(slices [][]byte) (sealed, done bool, err error) {
	if w.under.raw == nil || total(slices) > tlsTryBytesMax {
		return false, false, nil
	}
	if !w.under.hold() {
		return false, false, nil
	}
	if err := w.seal(slices); err != nil {
		return true, false, err
	}
	done, err = w.under.tryHeld()
	return true, done, err
}

// write writes what is held, and the slices, one after the other.
func (w *recordWriter) write(slices [][]byte) error {
	if err := w.under.begin(total(slices)); err != nil {
		return err
	}
	if err := w.seal(slices); err != nil {
		return err
	}
	return w.under.end()
}

func total(slices [][]byte) int {
	n := 0
	for _, b := range slices {
		n += len(b)
	}
	return n
}

// seal makes records of the slices.
func (w *recordWriter) seal(slices [][]byte) error {
	w.record = w.record[:0]
	for _, b := range slices {
		if len(w.record)+len(b) > tlsRecordBytesMax {
			if err := w.flush(); err != nil {
				return err
			}
		}
		if len(b) > tlsRecordBytesMax {
			if _, err := w.conn.Write(b); err != nil {
				return err
			}
			continue
		}
		w.record = append(w.record, b...)
	}
	return w.flush()
}

func (w *recordWriter) flush() error {
	if len(w.record) == 0 {
		return nil
	}
	_, err := w.conn.Write(w.record)
	w.record = w.record[:0]
	return err
}
