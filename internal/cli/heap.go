package cli

import (
	"math"
	"runtime"
	"runtime/debug"
)

// HeapFloor makes the heap of a process that serves requests count so many bytes more than it has, until the returned function is called. The collector then lets as many
// bytes more become garbage, and works the less often: a process whose own heap is small, and whose requests leave something behind, would have it look through all that
// it has many times a second. Nobody touches the bytes, so they take no memory themselves; what the process takes more is the garbage, so many bytes at most, however
// large its heap is. (A percentage would be of the heap, and a limit would have the collector work all the time where what is in use comes near it. Where somebody has set one, GOMEMLIMIT, there is no floor: it counts
// these bytes, too, and what fits without them would not with them.)
func HeapFloor(bytes int) (release func()) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return func() {}
	}
	ballast := make([]byte, bytes)
	return func() { runtime.KeepAlive(ballast) }
}
