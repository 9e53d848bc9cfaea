package vfs

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"blocktree"
)

// DirectBytes is what the addresses, lengths and offsets of a direct write are multiples of: what any disk in use asks for at most.
const DirectBytes = 4096

// Direct is a File that can be written past the system's cache of files: nothing is copied, and what was written is not in memory
// afterwards.
type Direct interface {
	// WriteDirectAt writes all of bufs one after another from off on, past the cache if it can; else as WritevAt does. It says which it was. Every address, every
	// length and off must be multiples of DirectBytes, or it is Invalid and nothing is written. What is written is neither more durable nor
	// less than what WritevAt writes, and is what reads find from then on.
	WriteDirectAt(bufs [][]byte, off int64) (direct bool, err error)
	// EndDirect gives back what direct writes need of the system. Later ones go through the cache.
	EndDirect()
}

// CanBeDirect reports whether a piece of memory may be in a direct write.
func CanBeDirect(b []byte) bool {
	return len(b) > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(b)))%DirectBytes == 0 && len(b)%DirectBytes == 0
}

// DirectMemory returns n bytes at a multiple of DirectBytes.
func DirectMemory(n int) []byte {
	b := make([]byte, n+DirectBytes)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % DirectBytes
	return b[skip : int(skip)+n : int(skip)+n]
}

// checkDirect refuses what a disk may refuse, on every implementation.
func checkDirect(name string, bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if !CanBeDirect(b) {
			return &blocktree.Error{Op: "vfs.WriteDirectAt", Path: name, Kind: blocktree.Invalid, Err: errNotAligned}
		}
	}
	if off < 0 || off%DirectBytes != 0 {
		return &blocktree.Error{Op: "vfs.WriteDirectAt", Path: name, Kind: blocktree.Invalid, Err: errNotAligned}
	}
	return nil
}

var errNotAligned = errors.New("memory or a place that no direct write may have")

// directWay is a second way to a file, past the cache.
type directWay struct {
	mu      sync.Mutex
	file    *os.File // nil until it is asked for
	refused bool     // there is none
}

// get opens the way to the file that f is, when it is asked for first; nil where there is none.
func (w *directWay) get(f *os.File) *os.File {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil || w.refused {
		return w.file
	}
	w.refused = true
	d, err := os.OpenFile(f.Name(), os.O_WRONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return nil
	}
	a, errA := f.Stat()
	b, errB := d.Stat()
	if errA != nil || errB != nil || !os.SameFile(a, b) { // it was renamed, and another has its name
		_ = d.Close() // nothing was written
		return nil
	}
	w.file, w.refused = d, false
	return d
}

// close ends the way, for good.
func (w *directWay) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil {
		_ = w.file.Close() // whoever wanted to know of errors has synced the file
	}
	w.file, w.refused = nil, true
}

// WriteDirectAt implements Direct. Where the system refuses such a write of a file it is not asked again.
func (f *diskFile) WriteDirectAt(bufs [][]byte, off int64) (direct bool, err error) {
	name := f.f.Name()
	if err := checkDirect(name, bufs, off); err != nil {
		return false, err
	}
	direct = true
	for len(bufs) > 0 {
		part := bufs[:min(len(bufs), iovMax)]
		bufs = bufs[len(part):]
		d := f.direct.get(f.f)
		var err error
		if d != nil {
			if err = writevTo(d, part, off); refusesDirect(err) {
				f.direct.close()
				d = nil
			}
		}
		if d == nil {
			direct = false
			_, err = f.WritevAt(part, off) // what was written of it, too: it is the same
		}
		if err != nil {
			return direct, wrap("WriteDirectAt", name, err)
		}
		for _, b := range part {
			off += int64(len(b))
		}
	}
	return direct, nil
}

// EndDirect implements Direct.
func (f *diskFile) EndDirect() { f.direct.close() }

func writevTo(f *os.File, part [][]byte, off int64) error {
	conn, err := f.SyscallConn()
	if err == nil {
		_, err = writevFull(conn, part, off)
	}
	return err
}

// refusesDirect reports whether a direct write was refused as such: by file systems that take the flag and then do not do it, by disks that ask for more than
// DirectBytes; and the rest of a write that was cut short is refused, which may begin anywhere.
func refusesDirect(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP)
}
