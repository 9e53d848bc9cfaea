package connect

import (
	"time"

	"golang.org/x/sys/unix"
)

// SystemClock is the machine's time.
type SystemClock struct{}

// Now implements blocktree.Clock.
func (SystemClock) Now() time.Time { return time.Now() }

// Boot implements blocktree.Clock with CLOCK_BOOTTIME, which goes on while the machine is suspended.
func (SystemClock) Boot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("the system has no CLOCK_BOOTTIME: " + err.Error()) // Linux 2.6.39 and later do
	}
	return time.Duration(t.Nano())
}
