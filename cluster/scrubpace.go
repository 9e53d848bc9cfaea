package cluster

import (
	"context"
	"time"
)

// How a scrub makes way for clients (docs/design/0054-write-costs.md).
const (
	// scrubBusy is from how many requests of clients per second on a node is busy: then the processor is what they wait for.
	scrubBusy = 1000
	// scrubYieldShare is what share of its rate a walk in the background takes while the node is.
	scrubYieldShare = 4
	// scrubYieldMax is how much later a walk may end for that. After it the walk goes at its rate whoever is there: what is kept under a load that never ends is
	// checked, too, and a day is little beside the two weeks after which somebody is told that it was not.
	scrubYieldMax = 24 * time.Hour
)

// scrubYield is what a walk in the background leaves to clients.
type scrubYield struct {
	given time.Duration // so far, in this walk and since this start
}

// wait is how long to rest after a step that may take turn at the walk's rate and took less, in which so many requests of clients were served within a time.
func (y *scrubYield) wait(turn, took time.Duration, served uint64, within time.Duration) time.Duration {
	if within > 0 && float64(served)/within.Seconds() >= scrubBusy {
		more := min(turn*(scrubYieldShare-1), scrubYieldMax-y.given)
		y.given += more
		turn += more
	}
	return turn - took
}

// pace waits after a step: in the background for the rate, always for clients that were served meanwhile.
func (s *scrubber) pace(ctx context.Context, w *scrubWalk, bytes uint64, took time.Duration) {
	served, now := s.member.servedClients(&s.served), time.Now()
	within := now.Sub(s.paced)
	s.paced = now
	var wait time.Duration
	if w == &s.state.ground && s.rate > 0 {
		wait = s.yield.wait(time.Duration(float64(bytes)/float64(s.rate)*float64(time.Second)), took, served, within)
	}
	if served > 0 {
		wait = max(wait, min(took, scrubPause))
	}
	if wait > 0 {
		pause(ctx, wait)
	}
}
