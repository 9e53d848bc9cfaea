package bttp

import (
	"sync"
	"time"

	"blocktree"
)

// refusedLines bounds what the log says of connections that were refused: anybody may begin as many as he likes, and everyone refused is a line.
type refusedLines struct {
	mu    sync.Mutex
	since time.Time // the second that is counted began
	lines int
	held  int // that were not written, and that the next line counts
}

// admit says whether a line is written now, and how many were not before it.
func (r *refusedLines) admit(now time.Time) (held int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if past := now.Sub(r.since); past >= time.Second || past < 0 {
		r.since, r.lines = now, 0
	}
	if r.lines >= blocktree.RefusedLinesPerSecond {
		r.held++
		return 0, false
	}
	r.lines++
	held, r.held = r.held, 0
	return held, true
}

// sayRefused writes that somebody got no connection.
func (e *Endpoint) sayRefused(what string, transport Transport, remote, principal string, err error) {
	if held, ok := e.refusals.admit(time.Now()); ok {
		e.config.Log.Info(what, "carrier", transport, "remote", remote, "principal", principal, "err", err, "heldBack", held)
	}
}
