//go:build race

package vfs

import (
	"runtime"
	"unsafe"
)

// sawRead tells the race detector that the kernel has read the first n bytes of bufs, which it cannot see: who changes a buffer that is being written is named.
func sawRead(bufs [][]byte, n int) {
	for _, b := range bufs {
		m := min(n, len(b))
		if m == 0 {
			continue
		}
		runtime.RaceReadRange(unsafe.Pointer(unsafe.SliceData(b)), m)
		n -= m
	}
}
