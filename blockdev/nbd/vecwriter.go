package nbd

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// slicesPerWrite is how many slices unix.Writev takes without allocating.
	slicesPerWrite = 8

	// smallBytesMax is room for a batch of replies without data.
	smallBytesMax = repliesPerWrite * extendedChunkBytes
)

// vecWriter writes many slices with few system calls, first without waiting. It belongs to the outbox's writer.
type vecWriter struct {
	nc   net.Conn
	raw  syscall.RawConn // nil where there is no socket underneath, or TLS between
	tls  *recordWriter   // nil without TLS
	left [][]byte        // not yet written
	all  [][]byte        // the storage of left

	small    []byte // replies without data, one behind the other
	smallEnd int    // if so many slices are left, the last of them is the end of small

	mayWait bool
	wrote   int   // bytes since wait looked
	failed  error // of the system call
	step    func(fd uintptr) bool
}

func (w *vecWriter) init(nc net.Conn) {
	w.nc = nc
	w.all = make([][]byte, 0, repliesPerWrite)
	w.left = w.all
	w.small = make([]byte, 0, smallBytesMax)
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw = raw
		}
	}
	w.step = w.writeSome
}

// secure makes it write to TLS from now on, which waits, always.
func (w *vecWriter) secure(s *secured) {
	w.raw, w.tls = nil, &recordWriter{secured: s, record: make([]byte, 0, tlsRecordBytesMax)}
}

// add appends a slice that stays unchanged until it is written. Short ones are copied together: a slice costs the kernel more than that.
func (w *vecWriter) add(b []byte) {
	if len(w.left) == 0 {
		w.left, w.small, w.smallEnd = w.all[:0], w.small[:0], 0
	}
	if len(b) <= headBytes && len(w.small)+len(b) <= cap(w.small) {
		from := len(w.small)
		w.small = append(w.small, b...)
		if n := len(w.left); n > 0 && w.smallEnd == n { // the last one is short, too
			last := &w.left[n-1]
			*last = (*last)[:len(*last)+len(b)]
			return
		}
		b = w.small[from:]
		w.smallEnd = len(w.left) + 1
	}
	w.left = append(w.left, b)
	w.all = w.left // grown, if it has: nothing is written before all of a batch is added
}

// try writes what the socket takes at once and reports whether that was everything.
func (w *vecWriter) try() (done bool, err error) {
	if w.raw == nil || len(w.left) == 0 {
		return len(w.left) == 0, nil
	}
	w.mayWait = false
	if err := w.raw.Write(w.step); err != nil {
		return false, w.drop(err)
	}
	if w.failed != nil {
		return false, w.drop(w.failed)
	}
	return len(w.left) == 0, nil
}

// wait writes the rest. It gives up when less than stallShare of it was taken in the stall timeout while harmful holds.
func (w *vecWriter) wait(stall time.Duration, harmful func() bool) error {
	if w.tls != nil {
		return w.drop(w.tls.write(w.left))
	}
	if w.raw == nil {
		b := net.Buffers(w.left)
		_, err := b.WriteTo(w.nc)
		return w.drop(err)
	}
	w.mayWait = true
	share := 0
	for _, b := range w.left {
		share += len(b)
	}
	share = stallShare(share)
	for len(w.left) > 0 {
		w.wrote = 0
		if err := w.nc.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return w.drop(err)
		}
		err := w.raw.Write(w.step)
		if w.failed != nil {
			return w.drop(w.failed)
		}
		if err != nil && !(errors.Is(err, os.ErrDeadlineExceeded) && (w.wrote >= share || !harmful())) {
			return w.drop(err)
		}
	}
	return w.nc.SetWriteDeadline(time.Time{})
}

// drop forgets what is left.
func (w *vecWriter) drop(err error) error {
	clear(w.left)
	w.left, w.failed = w.all[:0], nil
	return err
}

// writeSome is called by the runtime with the socket; false asks to be called again when it takes more.
func (w *vecWriter) writeSome(fd uintptr) bool {
	for len(w.left) > 0 {
		var n int
		var err error
		if len(w.left) == 1 {
			n, err = unix.Write(int(fd), w.left[0])
		} else {
			n, err = unix.Writev(int(fd), w.left[:min(len(w.left), slicesPerWrite)])
		}
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return !w.mayWait
		case err != nil:
			w.failed = os.NewSyscallError("writev", err)
			return true
		}
		w.advance(max(n, 0))
	}
	return true
}

func (w *vecWriter) advance(n int) {
	w.wrote += n
	for n > 0 {
		if n < len(w.left[0]) {
			w.left[0] = w.left[0][n:]
			return
		}
		n -= len(w.left[0])
		w.left[0] = nil
		w.left = w.left[1:]
	}
}
