package vfs

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vectors are what the kernel is told of the buffers of a write, from one to the next: unix.Pwritev makes a list anew for each, by doubling.
var vectors = sync.Pool{New: func() any { return new([]unix.Iovec) }}

// pwritev is unix.Pwritev without that.
func pwritev(fd int, bufs [][]byte, off int64) (int, error) {
	v := vectors.Get().(*[]unix.Iovec)
	list := (*v)[:0]
	for _, b := range bufs {
		x := unix.Iovec{Base: unsafe.SliceData(b)}
		x.SetLen(len(b))
		list = append(list, x)
	}
	// Where a register has not the whole offset, its upper half is in the next one (two shifts, as one by all bits is none).
	const registerBits = 8 * unix.SizeofPtr
	n, _, errno := syscall.Syscall6(unix.SYS_PWRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(list))), uintptr(len(list)),
		uintptr(off), uintptr(uint64(off)>>(registerBits-1)>>1), 0)
	clear(list) // it keeps no buffer alive
	*v = list
	vectors.Put(v)
	if errno != 0 {
		return 0, errno
	}
	sawRead(bufs, int(n))
	return int(n), nil
}
