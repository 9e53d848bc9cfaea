package cli

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
)

// heapGoal is how large the heap becomes before the collector works again.
func heapGoal() uint64 {
	runtime.GC()
	s := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// residentBytes is what the process takes of memory.
func residentBytes(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// TestHeapFloor: the collector works the less often while it is there, and it takes no memory. That is so of a process that has just begun, as those are that have one.
func TestHeapFloor(t *testing.T) {
	const child = "HEAP_FLOOR_CHILD"
	if os.Getenv(child) == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestHeapFloor$", "-test.count=1")
		c.Env = append(os.Environ(), child+"=1", "GOMEMLIMIT=off")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	const floor = 256 << 20
	before, resident := heapGoal(), residentBytes(t)
	release := HeapFloor(floor)
	during, more := heapGoal(), residentBytes(t)-resident
	release()
	if during < before+floor*3/2 { // all of it in use, and as much garbage, but for what was garbage before
		t.Errorf("the collector works at %d MiB, before at %d", during>>20, before>>20)
	}
	if more > floor/4 {
		t.Errorf("it takes %d MiB", more>>20)
	}
	if after := heapGoal(); after > before+floor/2 {
		t.Errorf("after its end the collector works at %d MiB, before at %d", after>>20, before>>20)
	}
}

// TestHeapFloorUnderALimit: the floor takes nothing of the memory that somebody has allowed.
func TestHeapFloorUnderALimit(t *testing.T) {
	const child, limit, used, floor = "HEAP_FLOOR_LIMIT_CHILD", 128 << 20, 64 << 20, 64 << 20
	if os.Getenv(child) == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestHeapFloorUnderALimit$", "-test.count=1")
		c.Env = append(os.Environ(), child+"=1", "GOMEMLIMIT="+strconv.Itoa(limit))
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	inUse := make([]byte, used)
	defer runtime.KeepAlive(inUse)
	room := func() int { // for garbage
		goal := heapGoal()
		s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(s)
		return int(goal) - int(s[0].Value.Uint64())
	}
	without := room()
	defer HeapFloor(floor)()
	if with := room(); with < without*3/4 {
		t.Errorf("of %d MiB that are allowed %d are in use, and %d may become garbage with the floor, %d without", limit>>20, used>>20, with>>20, without>>20)
	}
}
