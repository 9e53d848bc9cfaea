package stripe

import (
	"time"

	"blocktree"
)

// A copy-up that has failed copyTriesMax times without anything being installed or compared in between leaves its region
// alone for a pause that doubles from joinPauseMin to joinPauseMax. What it cannot rebuild may be readable again when a member
// is back, or when it is overwritten; the other regions need not wait for that. The region's member stays Joining and gets
// every write: nothing counts on it. After the pause the copy-up begins anew, and finds equal what it has copied before.
const (
	copyTriesMax = 16
	joinPauseMin = 10 * time.Second
	joinPauseMax = 10 * time.Minute
)

// joinPause is until when a region is not copied up. A holder keeps at most one for each region of its file.
type joinPause struct {
	until, length time.Duration
}

// vain counts a try that failed, and leaves the region when it was one too many. Not while the joiner is to forget: it would do
// so when the region is taken up again and found equal, if only then the request reached it.
func (j *join) vain() {
	if j.tries++; j.tries < copyTriesMax || j.over || j.state == joinForget {
		return
	}
	if j.isHeir() { // nobody misses it, and a member that is out may join in its stead
		j.h.sendAway(j.region)
		return
	}
	j.h.pauseJoins(j.region)
	j.end()
}

// pauseJoins leaves a region alone for longer than the time before.
func (h *Holder) pauseJoins(r blocktree.RegionIndex) {
	length := min(max(joinPauseMin, 2*h.joinPauses[r].length), joinPauseMax)
	if h.joinPauses == nil {
		h.joinPauses = map[blocktree.RegionIndex]joinPause{}
	}
	h.joinPauses[r] = joinPause{h.now + length, length}
	h.stats.CopyUpsGivenUp++
}
