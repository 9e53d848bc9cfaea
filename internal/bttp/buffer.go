package bttp

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"blocktree"
	"blocktree/internal/invariant"
)

// alignBytes is the alignment of every body of at least as many bytes, what O_DIRECT asks of memory, and shiftBytes how far behind it the body of a longer message begins: where
// the payload of a record does that is written to a disk. A message of shiftedBytesMin, its header included, is of a class that does.
const (
	alignBytes      = 4096
	shiftBytes      = blocktree.RecordHeaderBytes
	shiftedBytesMin = 32<<10 + 1
)

// shiftOf is where the body of a message of n bytes begins behind a multiple of alignBytes.
func shiftOf(n int) int {
	if n < shiftedBytesMin {
		return 0
	}
	return shiftBytes
}

// bufferClasses are the sizes of pooled buffers. A body lies at the front and its header behind it, so the large
// classes have room for a header above the power of two.
var bufferClasses = [...]int{1 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10,
	64<<10 + blocktree.FrameHeaderBytesMax, 128<<10 + blocktree.FrameHeaderBytesMax,
	256<<10 + blocktree.FrameHeaderBytesMax, 512<<10 + blocktree.FrameHeaderBytesMax,
	1<<20 + blocktree.FrameHeaderBytesMax, blocktree.FrameBodyBytesMax + blocktree.FrameHeaderBytesMax}

// bufferPools has one pool per class. Each endpoint owns one.
type bufferPools struct {
	pools [len(bufferClasses)]sync.Pool
}

// buffer is memory of one class, owned by whoever got it until release.
type buffer struct {
	data  []byte
	class int
	home  *bufferPools
	uses  atomic.Uint64 // odd while somebody owns it
}

// get returns a buffer of at least n bytes, at most what a frame may have.
func (p *bufferPools) get(n int) *buffer {
	class := 0
	for bufferClasses[class] < n {
		class++
	}
	b, _ := p.pools[class].Get().(*buffer)
	if b == nil {
		b = &buffer{data: alignedBytes(bufferClasses[class]), class: class, home: p}
	}
	b.uses.Add(1)
	return b
}

// alignedBytes allocates n bytes, which begin where shiftOf says, where n is at least alignBytes. The allocator aligns all our classes by
// itself; where it does not, the slice is cut from a longer one.
func alignedBytes(n int) []byte {
	shift := shiftOf(n)
	b := make([]byte, n+shift)
	if n < alignBytes || uintptr(unsafe.Pointer(&b[0]))%alignBytes == 0 {
		return b[shift:]
	}
	b = make([]byte, n+shift+alignBytes)
	shift += alignBytes - int(uintptr(unsafe.Pointer(&b[0]))%alignBytes)
	return b[shift : shift+n : shift+n]
}

// use identifies this ownership of the buffer, for releaseUse; 0 for the nil buffer.
func (b *buffer) use() uint64 {
	if b == nil {
		return 0
	}
	return b.uses.Load()
}

// release gives the buffer back. The caller owns it. A nil buffer is none.
func (b *buffer) release() { b.releaseUse(b.use()) }

// releaseUse gives the buffer back for whoever owned it at that use. A second time it panics, even if somebody else owns
// the buffer by then: going on would let two owners write into one sector.
func (b *buffer) releaseUse(use uint64) {
	if b == nil {
		return
	}
	invariant.Check(use&1 == 1 && b.uses.CompareAndSwap(use, use+1), "a message is released twice")
	if poisonReleased {
		b.data[0] = 0xdb
		for n := 1; n < len(b.data); n *= 2 {
			copy(b.data[n:], b.data[:n])
		}
	}
	b.home.pools[b.class].Put(b)
}
