package route

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// largePage is what the system can map as one where a processor's ordinary page is 4 KiB.
const largePage = 2 << 20

// inLargePages asks the system to map memory by large pages, as far as there are whole ones in it. A lookup reads a few words that are far apart: of a table of many megabytes the processor has to look up the page of each, too, in tables that
// are in none of its caches either. It is to be called before the memory is written, and is a hint: a system that refuses it maps as ever.
func inLargePages[T any](s []T) {
	bytes := uintptr(cap(s)) * unsafe.Sizeof(*new(T))
	if bytes < 2*largePage {
		return
	}
	all := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), bytes)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(s))) & (largePage - 1)
	_ = unix.Madvise(all[skip:skip+(bytes-skip)&^(largePage-1)], unix.MADV_HUGEPAGE) // else it is slower
}
