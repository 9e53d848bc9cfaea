package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"blocktree"
)

const (
	// lookInterval is how often a keeper looks at its connections.
	lookInterval = 250 * time.Millisecond

	// retryFirst and retryMax are the pauses between tries to reach the server again: they double, each is cut by up to a half.
	retryFirst = 100 * time.Millisecond
	retryMax   = 5 * time.Second

	// settleMax is how long a server that is alive may leave what it has received unread or unanswered: a write ends within
	// WriteStallTimeout. A dead connection that has not ended on the server's side is replaced only after this.
	settleMax = blocktree.WriteStallTimeout + 5*time.Second

	// requestTimeout is how often the kernel looks at requests of a device of one connection: what was in flight on a dead one goes out
	// again so long after the new one came.
	requestTimeout = 5 * time.Second

	// sizeInterval is how often the server is asked for the size.
	sizeInterval = 10 * time.Second

	// probeInterval is how often a keeper that took over tries whether connections that it cannot see are dead.
	probeInterval = 2 * time.Minute

	// probeShadow is how long after a probe a death may be its doing.
	probeShadow = 5 * time.Second

	// complainInterval is how often the same trouble is logged.
	complainInterval = time.Minute
)

// TimeoutMin is the least timeout of a device with several connections.
const TimeoutMin = settleMax

// DeadTimeoutDefault is how long requests wait for a server that is gone, unless the user says otherwise.
const DeadTimeoutDefault = 10 * time.Minute

// Options is what a keeper is to do, and with what.
type Options struct {
	Target      Target
	Index       int           // of the device; -1: the first that is free
	Connections int           // 1 to NBDConnectionsPerExportMax
	Timeout     time.Duration // 0: as the number of connections asks for
	DeadTimeout time.Duration
	ReadOnly    bool

	Kernel  Kernel
	System  System
	Dial    func(context.Context) (net.Conn, error) // nil: the target's. What it returns must be what NewLink takes
	NewLink func(net.Conn) (Link, error)            // nil: sockets
	Logger  *slog.Logger
	// Ready is called once, when the device is there, or was taken over.
	Ready func(device string, tookOver bool)
}

// errDetached ends a keeper whose device was detached by somebody else.
var errDetached = errors.New("detached")

// keeper keeps one device. It is one goroutine.
type keeper struct {
	Options
	log       *slog.Logger
	index     int
	backend   string
	export    Export // as it was when the device was set up
	size      uint64 // of the device
	block     uint32
	told      []string
	links     []Link
	dead      []deadLink
	unseen    int // connections of a keeper before this one, alive as far as is known
	timeout   time.Duration
	state     State
	tries     int
	nextTry   time.Time
	nextProbe time.Time
	probed    time.Time
	nextSize  time.Time
	woken     bool // the kernel said that a connection died
	shown     bool // the kernel was shown a timeout that the device is not to have
	complaint string
	complain  time.Time
}

type deadLink struct {
	Link
	since time.Time
}

// Keep attaches a device, or takes over one that is attached to the same export, and keeps it until ctx ends, then detaches it. It returns
// nil when the device was detached, by itself or by others. After an error from then on the device stays attached, without a keeper.
func Keep(ctx context.Context, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.Dial == nil {
		o.Dial = o.Target.Dial
	}
	if o.NewLink == nil {
		o.NewLink = newSocket
	}
	k := &keeper{Options: o, log: o.Logger, backend: o.Target.String(), timeout: o.Timeout}
	release, err := k.choose(ctx)
	if err != nil {
		return err
	}
	defer release()
	k.log = k.log.With("device", Device{Index: k.index}.Name())
	defer k.closeLinks()
	tookOver, err := k.start(ctx)
	if err != nil && ctx.Err() != nil {
		return blocktree.E("attach", blocktree.Canceled, context.Cause(ctx)) // nothing is attached
	}
	if err != nil {
		return err
	}
	k.save()
	if k.Ready != nil {
		k.Ready("/dev/"+Device{Index: k.index}.Name(), tookOver)
	}
	err = k.keep(ctx)
	if errors.Is(err, errDetached) {
		k.log.Info("detached by somebody else")
		return k.System.Forget(k.index)
	}
	if err != nil {
		return err
	}
	return k.stop()
}

func (o *Options) check() error {
	bad := func(hint, format string, args ...any) error {
		return &blocktree.Error{Op: "attach", Kind: blocktree.Invalid, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	switch {
	case o.Connections < 1 || o.Connections > blocktree.NBDConnectionsPerExportMax:
		return bad("1 is right unless the network is the limit", "%d connections; 1 to %d are possible", o.Connections, blocktree.NBDConnectionsPerExportMax)
	case o.Timeout < 0 || o.Timeout%time.Second != 0 || o.DeadTimeout < time.Second || o.DeadTimeout%time.Second != 0:
		return bad("write 45s or 10m, for example", "timeouts are whole seconds, and the dead timeout at least one")
	case o.Timeout != 0 && o.Timeout < TimeoutMin:
		return bad(fmt.Sprintf("use %v or more, or leave it out", TimeoutMin),
			"with a timeout of %v the kernel would repeat writes that the server still has", o.Timeout)
	}
	return nil
}

// choose finds the device and becomes its keeper.
func (k *keeper) choose(ctx context.Context) (release func(), err error) {
	if k.Index >= 0 {
		k.index = k.Index
		return k.System.Lock(k.index)
	}
	devices, err := k.System.Devices()
	if err != nil {
		return nil, err
	}
	next := 0
	for _, d := range devices {
		next = max(next, d.Index+1)
		if d.Attached {
			continue
		}
		if open, err := k.Kernel.Open(ctx, d.Index); err != nil || open {
			continue
		}
		if release, err = k.System.Lock(d.Index); err == nil {
			k.index = d.Index
			return release, nil
		} else if blocktree.KindOf(err) != blocktree.Busy {
			return nil, err
		}
	}
	k.index = next // the kernel makes one, where it may
	return k.System.Lock(next)
}

// start attaches the device or takes it over.
func (k *keeper) start(ctx context.Context) (tookOver bool, err error) {
	d, err := k.System.Device(k.index)
	if err != nil {
		return false, err
	}
	before, err := k.System.Load(k.index)
	if err != nil {
		return false, err
	}
	k.state = State{Index: k.index, Path: k.Target.Export, Server: k.backend, Connections: k.Connections, State: StateConnected, Since: time.Now()}
	if !d.Attached {
		return false, k.attach(ctx)
	}
	backend := d.Backend
	if d.Forgets && before != nil {
		backend = before.Server
	}
	if backend != k.backend || !k.Kernel.Reconnects() {
		if backend == "" {
			backend = "something else"
		}
		name := "/dev/" + d.Name()
		return false, &blocktree.Error{Op: "attach", Path: name, Kind: blocktree.Busy, Err: fmt.Errorf("it is attached to %s", backend),
			Hint: "use another device, or auto; or `btnbd detach " + name + "` first"}
	}
	return true, k.takeOver(d, before)
}

// takeOver goes on where another keeper left. Its connections are alive or dead: the kernel does not say.
func (k *keeper) takeOver(d Device, before *State) error {
	connections := max(d.Queues, 1)
	if before != nil && before.Server == k.backend {
		connections, k.told, k.state.Reconnects = max(before.Connections, 1), before.Told, before.Reconnects
	}
	if k.Connections != connections {
		k.log.Warn("the device keeps the number of connections that it has", "connections", connections, "asked", k.Connections)
	}
	k.Connections, k.unseen, k.woken = connections, connections, true
	if k.ReadOnly && d.Flags&FlagReadOnly == 0 {
		return &blocktree.Error{Op: "attach", Path: "/dev/" + d.Name(), Kind: blocktree.Busy, Err: errors.New("it is attached already, and can be written"),
			Hint: "leave --read-only out, or detach it first"}
	}
	k.export.Flags, k.size, k.block = d.Flags, d.SizeBytes, max(d.BlockBytes, 512)
	k.settleTimeout()
	k.state.Connections, k.state.Told, k.state.SizeBytes, k.state.ReadOnly = connections, k.told, d.SizeBytes, d.Flags&FlagReadOnly != 0
	return nil
}

// settleTimeout chooses the kernel's timeout where the user did not.
func (k *keeper) settleTimeout() {
	if k.timeout == 0 && k.Connections > 1 {
		k.timeout = TimeoutMin
	}
}

// attach sets the device up.
func (k *keeper) attach(ctx context.Context) error {
	links, export, err := k.open(ctx, k.Connections)
	if err != nil {
		return err
	}
	k.links, k.export = links, *export
	if k.ReadOnly {
		k.export.Flags |= FlagReadOnly
	}
	k.block, err = blockBytes(export)
	if err != nil {
		return err
	}
	k.size = export.SizeBytes - export.SizeBytes%uint64(k.block)
	if k.size == 0 {
		return blocktree.E("attach", blocktree.Invalid, errors.New("the export has no whole block"))
	}
	k.told = told(export.Description)
	k.settleTimeout()
	c := Config{Index: k.index, SizeBytes: k.size, BlockBytes: k.block, Flags: k.export.Flags, Timeout: k.timeout,
		DeadTimeout: k.DeadTimeout, Backend: k.backend}
	for _, l := range links {
		c.Sockets = append(c.Sockets, l.FD())
	}
	if err := k.Kernel.Connect(context.WithoutCancel(ctx), c); err != nil { // as the kernel looks at the descriptors
		return err
	}
	for _, l := range links {
		l.Taken() // a timeout for sending would cut off a server that is slow to take
	}
	k.tune()
	k.state.Told, k.state.SizeBytes, k.state.ReadOnly = k.told, k.size, k.export.Flags&FlagReadOnly != 0
	return nil
}

// kernelPayloadBytes is what the kernel reads or writes at most in one request, unless it is told otherwise.
const kernelPayloadBytes = 128 << 10

// blockBytes is the block that the device is to have: a page of sectors where the size allows.
func blockBytes(e *Export) (uint32, error) {
	const kernelMax = 4096
	switch {
	case e.BlockBytesMin > kernelMax:
		return 0, &blocktree.Error{Op: "attach", Kind: blocktree.Unsupported,
			Err: fmt.Errorf("the server takes blocks of %d bytes and more, the kernel has %d at most", e.BlockBytesMin, kernelMax), Hint: "use a btnbd server"}
	case e.PayloadBytesMax < kernelPayloadBytes:
		return 0, &blocktree.Error{Op: "attach", Kind: blocktree.Unsupported,
			Err: fmt.Errorf("the server takes %d bytes at a time, the kernel sends %d", e.PayloadBytesMax, kernelPayloadBytes), Hint: "use a btnbd server"}
	case e.SizeBytes%kernelMax != 0 && e.BlockBytesMin <= 512:
		return 512, nil
	}
	return kernelMax, nil
}

// tune has the kernel look often at requests, where it does nothing to a connection that is alive.
func (k *keeper) tune() {
	if k.Connections > 1 || k.timeout != 0 || !k.Kernel.Reconnects() {
		return
	}
	if d, err := k.System.Device(k.index); err == nil && d.Forgets { // without a timeout it would end the device
		t := TimeoutMin
		k.timeout = t
		if err := k.Kernel.Reconfigure(context.Background(), Change{Index: k.index, Backend: k.backend, Timeout: &t}); err != nil {
			k.log.Warn("this kernel ends the device when the server takes 30 seconds for an answer", "error", err)
		}
		return
	}
	if err := k.System.SetRequestTimeout(k.index, requestTimeout); err != nil {
		k.log.Warn("after a reconnection, what was in flight waits for up to 30 seconds", "error", err)
	}
}

// pause is the time before the next try: it doubles, and is not the same for all keepers of a server.
func pause(tries int) time.Duration {
	d := retryMax
	if tries < 16 {
		d = min(d, retryFirst<<tries)
	}
	return d - time.Duration(rand.Int64N(int64(d/2)))
}

func (k *keeper) closeLinks() {
	for _, l := range k.links {
		l.Close() // the kernel has its own hold
	}
	for _, d := range k.dead {
		d.Close()
	}
}

// save tells others how the device is.
func (k *keeper) save() {
	if err := k.System.Save(&k.state); err != nil {
		k.log.Warn("`btnbd list` will not know", "error", err)
	}
}
