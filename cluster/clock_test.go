package cluster

import (
	"testing"
	"time"
)

// suspendedClock is a machine that can be suspended: then only Boot goes on.
type suspendedClock struct {
	started time.Time
	running time.Duration
	asleep  time.Duration
}

func (c *suspendedClock) Now() time.Time      { return c.started.Add(c.running) }
func (c *suspendedClock) Boot() time.Duration { return time.Hour + c.running + c.asleep }

func TestRoughClock(t *testing.T) {
	real := &suspendedClock{started: time.Now()}
	c := roughClock{clock: real}
	same := func(when string, want time.Duration) {
		t.Helper()
		if got := c.now(); got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	if got := c.read(); got != time.Hour {
		t.Errorf("read %v", got)
	}
	same("at once", time.Hour)
	real.running += time.Second
	same("later", real.Boot())
	real.asleep += time.Minute
	same("after a sleep nobody saw", real.Boot()-time.Minute)
	c.read()
	same("after a sleep", real.Boot())
}
