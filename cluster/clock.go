package cluster

import (
	"time"

	"blocktree"
)

// roughClock tells Clock.Boot without the system call that this costs: as it was read last, plus what the monotonic clock did
// since. It is late by as long as the machine was suspended since, and never early: good enough for timeouts, not for a lease:
// whoever asks for that reads it. Whoever owns it reads it often. It is not safe for concurrent use.
type roughClock struct {
	clock blocktree.Clock
	boot  time.Duration
	at    time.Time // when boot was read, or a little later
}

// read brings the clock up to date.
func (c *roughClock) read() time.Duration {
	c.boot = c.clock.Boot()
	c.at = c.clock.Now()
	return c.boot
}

func (c *roughClock) now() time.Duration { return c.boot + c.clock.Now().Sub(c.at) }
