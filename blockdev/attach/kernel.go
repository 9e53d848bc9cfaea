package attach

import (
	"context"
	"time"
)

// Config is how a device is set up.
type Config struct {
	Index       int
	Sockets     []int // file descriptors; the kernel takes its own hold on them
	SizeBytes   uint64
	BlockBytes  uint32
	Flags       uint16        // transmission flags
	Timeout     time.Duration // whole seconds; 0: a slow server is never cut off (one connection only)
	DeadTimeout time.Duration // whole seconds; how long requests wait while there is no connection
	Backend     string        // what the device is attached to
}

// Change is what may change on a device that is attached.
type Change struct {
	Index     int
	Backend   string         // as it was set up
	Sockets   []int          // in place of dead ones; those for which there is none are left out without a word
	SizeBytes uint64         // 0: as it is
	Timeout   *time.Duration // nil: as it is

	DeadTimeout time.Duration // 0: as it is
}

// Kernel is the part of Linux that makes block devices of NBD connections: over generic netlink, by the old ioctls, or a model of it in
// tests. Calls may take as long as the kernel does.
type Kernel interface {
	// Connect sets a device up. It fails with Busy when somebody has it, with Permission, Invalid, Unsupported.
	Connect(ctx context.Context, c Config) error
	// Reconfigure changes an attached device. It fails with NotFound when it is not attached, or to something else, with Unsupported
	// where this kernel cannot.
	Reconfigure(ctx context.Context, c Change) error
	// Disconnect ends a device: requests that wait fail. One that is not attached stays so.
	Disconnect(ctx context.Context, index int) error
	// Open reports whether somebody, it may be a keeper, has the device, attached or not.
	Open(ctx context.Context, index int) (bool, error)
	// Dead returns what tells the index of a device each time one of its connections died; nil where the kernel does not tell. The
	// channel may miss some. It is closed when ctx ends.
	Dead(ctx context.Context) (<-chan int, error)
	// Reconnects reports whether Reconfigure takes sockets, so that a device outlives its connections and its keeper.
	Reconnects() bool
}
