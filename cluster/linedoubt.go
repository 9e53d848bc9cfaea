package cluster

import (
	"slices"
	"sync"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
)

// A line along which nothing gets to others than who holds it is doubted: docs/design/0056-tree-last.md.

const (
	// lineTargets is for how many members asks have to fail along a line until it is doubted: one may be dead.
	lineTargets = 2
	// lineFailed is how long a failed ask counts, for an asker that asks every betterMax for each of its nodes.
	lineFailed = 2 * betterMax
	// lineDoubtMin and lineDoubtMax bound how long a member's line is doubted, twice as long each time: after that it is tried again.
	lineDoubtMin = time.Minute
	lineDoubtMax = time.Hour
	// lineDoubtedWait is what an ask waits for an answer along a doubted line, after it has gone along all others: it leaves the runtime that has passed it on time for those that it has.
	lineDoubtedWait = time.Second
)

// lineDoubts are of the members of clusters below that have had lines here: of as many as there can be lines.
type lineDoubts struct {
	mu sync.Mutex
	of map[blocktree.Principal]*lineDoubt
}

// lineDoubt is of one, whichever line it has: a new one is no better.
type lineDoubt struct {
	failed map[blocktree.Principal]time.Time // when an ask for a target failed last; fewer than lineTargets
	until  time.Time                         // it is doubted until then
	pause  time.Duration                     // for how long that was
}

// note counts an ask for a target that went along a holder's line, and came to nothing, or got there.
func (d *lineDoubts) note(holder, target blocktree.Principal, reached bool, now time.Time) {
	if holder == target { // about others it says nothing
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.of[holder]
	switch {
	case reached && x != nil:
		x.failed = nil
		return
	case reached || x != nil && now.Before(x.until):
		return
	case x == nil:
		if x = d.place(now); x == nil {
			return
		}
		d.of[holder] = x
	}
	for p, at := range x.failed {
		if now.Sub(at) > lineFailed {
			delete(x.failed, p)
		}
	}
	if x.failed == nil {
		x.failed = map[blocktree.Principal]time.Time{}
	}
	if x.failed[target] = now; len(x.failed) < lineTargets {
		return
	}
	if now.Sub(x.until) > lineDoubtMax {
		x.pause = 0
	}
	x.pause = min(max(2*x.pause, lineDoubtMin), lineDoubtMax)
	x.until, x.failed = now.Add(x.pause), nil
}

// place makes room for one more; nil where all are of use. The caller holds mu.
func (d *lineDoubts) place(now time.Time) *lineDoubt {
	if d.of == nil {
		d.of = map[blocktree.Principal]*lineDoubt{}
	}
	for p, x := range d.of {
		if len(d.of) < blocktree.DownlinksMax {
			break
		}
		if len(x.failed) == 0 && now.Sub(x.until) > lineDoubtMax {
			delete(d.of, p)
		}
	}
	if len(d.of) >= blocktree.DownlinksMax {
		return nil
	}
	return &lineDoubt{}
}

// doubted reports whether a member's line is.
func (d *lineDoubts) doubted(holder blocktree.Principal, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.of[holder]
	return x != nil && now.Before(x.until)
}

// doubts reports whether a leg is a line that is doubted.
func (c *crossing) doubts(l leg) bool {
	return l.down && !l.lateral && c.uplinks.doubt.doubted(l.conn.Peer().Principal, c.now())
}

// lastDoubted puts doubted lines behind all other legs.
func (c *crossing) lastDoubted(all []leg) []leg {
	slices.SortStableFunc(all, func(a, b leg) int {
		switch x, y := c.doubts(a), c.doubts(b); {
		case x == y:
			return 0
		case y:
			return -1
		}
		return 1
	})
	return all
}

// noteLine counts what was answered to an ask for a relay that was passed along a leg, if that is a line, and its target one of those whom the cluster above knows, as far as it knows any. That a relay is agreed to counts as getting there. Of a
// dial-back or a hole nothing counts: one may never come about, and who asks behind a firewall of its own is refused both by every node, again and again (wayask.go); nor does what this runtime or the asker is at fault for itself.
func (c *crossing) noteLine(p *passed, l leg, err error) {
	if !l.down || l.lateral || p.ask.Mode != bttp.AskRelay {
		return
	}
	target := cred.Identity{Path: p.ask.Path, Principal: p.ask.Target, Services: []string{blocktree.ServiceSector}}
	if c.uplinks.admit != nil && c.uplinks.admit(target) != nil {
		return
	}
	c.uplinks.doubt.note(l.conn.Peer().Principal, p.ask.Target, err == nil, c.now())
}
