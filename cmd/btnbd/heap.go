package main

import (
	"math"
	"os"
	"runtime/debug"

	"blocktree"
)

// heapFloorBytes is how much garbage a server collects at least before it looks for what is still in use (cli.HeapFloor). Its own heap is a few MiB, without a cache, so
// that it would do so up to forty times a second under load: an eighth of its time in 4 KiB writes.
const heapFloorBytes = 16 << 20

// heapRoomBytes is what the heap may have beside the cache before garbage is collected as often as it takes: all requests in flight, as much
// garbage again, and what connections and the runtime need.
const heapRoomBytes = 2*blocktree.InFlightBytesMax + 128<<20

// heapCeiling keeps a server whose requests in flight were many and large from taking twice as much as they did at their most. It is no limit of what
// may be in use, and gives way to GOMEMLIMIT. The returned function takes it away.
func heapCeiling(cacheBytes int64) (release func()) {
	if os.Getenv("GOMEMLIMIT") != "" || cacheBytes > math.MaxInt64-heapRoomBytes {
		return func() {}
	}
	before := debug.SetMemoryLimit(heapFloorBytes + heapRoomBytes + cacheBytes)
	return func() { debug.SetMemoryLimit(before) }
}
