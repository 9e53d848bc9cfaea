package cluster

import (
	"testing"
	"time"
)

// A node counts as silent from when the one who leads now first said so: who leads since a moment ago has heard nothing from anybody.
func TestSilenceIsOfOneLeader(t *testing.T) {
	at := time.Unix(1000, 0)
	l := lasting{since: at, asked: at}
	for i, x := range []struct {
		said   standing
		term   uint64
		lasted time.Duration // by then
	}{
		{standingSilent, 3, 0}, {standingSilent, 3, silentWait / 4},
		{standingSilent, 4, 0}, // another leads
		{standingSilent, 4, silentWait / 4},
		{standingUnknown, 5, 0}, {standingUnknown, 6, silentWait / 4}, // nobody leads, however the terms go
		{standingSilent, 6, 0},
		{standingHeard, 6, 0}, {standingHeard, 7, silentWait / 4}, // it is heard, by whomever
		{standingSilent, 7, 0},
	} {
		l.note(x.said, x.term, at, at)
		if got := l.asked.Sub(l.since); got != x.lasted || l.standing != x.said {
			t.Errorf("%d: %v for %v, want %v for %v", i, l.standing, got, x.said, x.lasted)
		}
		at = at.Add(silentWait / 4)
	}
}

// TestSlowAnswerIsNoSilence has a leader's first word come long after it was asked for: it may have come to lead when it was asked, and have
// heard the node when its answer arrived.
func TestSlowAnswerIsNoSilence(t *testing.T) {
	at := time.Unix(1000, 0)
	l := lasting{since: at, asked: at}
	l.note(standingSilent, 3, at, at.Add(2*silentWait))
	if got := l.asked.Sub(l.since); got > 0 {
		t.Errorf("silent for %v, want for no time", got)
	}
	l.note(standingSilent, 3, at.Add(3*silentWait), at.Add(4*silentWait))
	if got := l.asked.Sub(l.since); got != silentWait {
		t.Errorf("silent for %v, want for %v", got, silentWait)
	}
}
