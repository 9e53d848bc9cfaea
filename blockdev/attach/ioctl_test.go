package attach

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"blocktree"
)

// TestIoctlIsNotReconnected: a device of the old interface ends with its connection. Its keeper says so and ends, and never asks the kernel for what
// that cannot do; told to end, it flushes and detaches as any.
func TestIoctlIsNotReconnected(t *testing.T) {
	attached := func(t *testing.T) *bed {
		b := newBed(t, nil)
		b.m.ioctl = true
		b.mustStart()
		return b
	}
	neverChanged := func(t *testing.T, b *bed) {
		b.m.mu.Lock()
		defer b.m.mu.Unlock()
		for _, call := range b.m.calls {
			if strings.HasPrefix(call, "reconfigure") {
				t.Errorf("asked to %s", call)
			}
		}
	}
	t.Run("the connection is lost", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := attached(t)
			b.s.change(func() { b.s.size = 100 * mib }) // of which the device cannot be told
			b.stays(3*sizeInterval, "attached", func() bool { return b.m.live(0) == 1 })
			b.s.stop()
			b.m.serverGone(0)
			b.m.Disconnect(context.Background(), 0) // the kernel's own: the system call has returned
			err := <-b.ended
			if blocktree.KindOf(err) != blocktree.IO || !strings.Contains(err.Error(), "and with it the device") {
				t.Errorf("ended with %v", err)
			}
			neverChanged(t, b)
			b.end0()
		})
	})
	t.Run("told to end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := attached(t)
			b.end("")
			if b.m.flushed != 1 || len(b.m.devices) != 0 {
				t.Errorf("%d flushes, %d devices", b.m.flushed, len(b.m.devices))
			}
			neverChanged(t, b)
		})
	})
}
