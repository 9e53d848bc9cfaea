package attach

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blocktree"
)

// keep watches until ctx ends.
func (k *keeper) keep(ctx context.Context) error {
	events, err := k.Kernel.Dead(ctx)
	if err != nil {
		k.log.Warn("the kernel does not tell of dead connections; they are looked at all the same", "error", err)
	}
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	k.nextSize, k.nextProbe = time.Now().Add(sizeInterval), time.Now().Add(probeInterval)
	for {
		if err := k.look(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		case index, ok := <-events:
			if !ok {
				events = nil
			} else if index == k.index {
				k.wake(time.Now())
			}
		}
	}
}

// wake is called when the kernel says that a connection died. While a probe shows the kernel a timeout, it cuts off a server that is slow
// just then; such a connection, which this keeper cannot see, gets the time that A1 asks for.
func (k *keeper) wake(now time.Time) {
	k.woken = true
	if k.unseen > 0 && k.timeout == 0 && now.Sub(k.probed) < probeShadow {
		k.nextTry = now.Add(settleMax)
	}
}

// look does what there is to do now.
func (k *keeper) look(ctx context.Context) error {
	d, err := k.System.Device(k.index)
	if err != nil {
		return err
	}
	now := time.Now()
	k.findDead(now)
	if !d.of(k.backend) {
		if !k.Kernel.Reconnects() && ctx.Err() == nil {
			return &blocktree.Error{Op: "attach", Kind: blocktree.IO, Err: errors.New("the connection is lost, and with it the device"),
				Hint: "attached by ioctl a device cannot be reconnected; leave --ioctl out"}
		}
		return errDetached
	}
	if !k.Kernel.Reconnects() {
		return nil
	}
	probe := k.unseen > 0 && (k.woken || !now.Before(k.nextProbe))
	switch {
	case len(k.dead) > 0 || probe:
		if now.Before(k.nextTry) || !k.settled(now) {
			return nil
		}
		return k.try(ctx, probe)
	case k.shown && !now.Before(k.nextTry):
		k.nextTry = now.Add(retryMax)
		if err := k.hideTimeout(ctx); err != nil {
			k.complainAbout(err)
		}
	case !now.Before(k.nextSize):
		k.nextSize = now.Add(sizeInterval)
		k.askSize(ctx)
	}
	return nil
}

// findDead sorts the dead out.
func (k *keeper) findDead(now time.Time) {
	alive := k.links[:0]
	for _, l := range k.links {
		if l.Dead() {
			k.dead = append(k.dead, deadLink{l, now})
		} else {
			alive = append(alive, l)
		}
	}
	if len(alive) == len(k.links) {
		return
	}
	k.links = alive
	k.log.Warn("connection lost", "alive", len(k.links)+k.unseen, "of", k.Connections)
	if len(k.links)+k.unseen == 0 {
		k.setState(StateWaiting, "")
	}
}

// settled reports whether every dead connection has ended on the server's side, or had the time to.
func (k *keeper) settled(now time.Time) bool {
	for _, d := range k.dead {
		if now.Sub(d.since) < settleMax && !d.Settled() {
			return false
		}
	}
	return true
}

func (k *keeper) setState(state, why string) {
	if k.state.State == state && k.state.LastError == why {
		return
	}
	if k.state.State != state {
		k.state.State, k.state.Since = state, time.Now()
	}
	k.state.LastError = why
	k.save()
}

// try replaces what is dead once. Only the end of the device is an error.
func (k *keeper) try(ctx context.Context, probe bool) error {
	k.woken = false
	k.nextProbe = time.Now().Add(probeInterval)
	want := len(k.dead)
	if probe {
		want += k.unseen
	}
	err := k.replace(ctx, want)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil && len(k.dead) == 0 {
		k.tries, k.nextTry, k.complaint = 0, time.Time{}, ""
		k.setState(StateConnected, "")
		return nil
	}
	if errors.Is(err, errDetached) {
		return err
	}
	k.nextTry = time.Now().Add(pause(k.tries))
	k.tries++
	if err == nil {
		return nil // the kernel has not seen yet that they are dead
	}
	k.woken = probe // once more
	k.complainAbout(err)
	switch {
	case len(k.links) == 0:
		k.setState(StateWaiting, err.Error())
	case len(k.dead) == 0 && k.unseen == 0: // all were taken before it failed
		k.setState(StateConnected, err.Error())
	}
	return nil
}

// complainAbout logs a trouble when it is new, and each minute.
func (k *keeper) complainAbout(err error) {
	if now := time.Now(); k.complaint != err.Error() || now.Sub(k.complain) >= complainInterval {
		k.complaint, k.complain = err.Error(), now
		k.log.Warn("not reconnected yet", "server", k.backend, "error", err, "hint", blocktree.HintOf(err), "waitingSince", k.state.Since)
	}
}

// open makes n connections to the export, all of which say the same of it, and the same as before.
func (k *keeper) open(ctx context.Context, n int) (links []Link, export *Export, err error) {
	defer func() {
		if err != nil {
			for _, l := range links {
				l.Close()
			}
			links = nil
		}
	}()
	for range n {
		nc, err := k.Dial(ctx)
		if err != nil {
			return links, nil, err
		}
		stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) }) // wakes the handshake
		e, err := choose(nc, k.Target.Export)
		if !stop() && err == nil {
			err = blocktree.E("handshake", blocktree.Canceled, context.Cause(ctx))
		}
		if err == nil && export != nil && (e.SizeBytes != export.SizeBytes || e.Flags != export.Flags || contradiction(told(export.Description), told(e.Description)) != "") {
			err = blocktree.E("handshake", blocktree.Unavailable, errors.New("the export changed between two connections"))
		}
		if err == nil {
			err = k.acceptable(e)
		}
		if err != nil {
			nc.Close()
			return links, nil, err
		}
		export = e
		l, err := k.NewLink(nc)
		if err != nil {
			return links, nil, err
		}
		links = append(links, l)
	}
	return links, export, nil
}

// acceptable refuses an export that cannot be the device's.
func (k *keeper) acceptable(e *Export) error {
	if k.Connections > 1 && e.Flags&FlagMultiConn == 0 {
		return &blocktree.Error{Op: "attach", Kind: blocktree.Unsupported, Err: errors.New("the server does not allow several connections for one device"),
			Hint: "use --connections 1"}
	}
	if k.size == 0 {
		return nil // not attached yet
	}
	other := func(format string, args ...any) error {
		return &blocktree.Error{Op: "attach", Path: k.Target.Export, Kind: blocktree.Invalid, Err: fmt.Errorf("the export is not the same any more: "+format, args...),
			Hint: "I/O goes on waiting; bring the former export back, or detach the device and attach it anew"}
	}
	const used = FlagFlush | FlagFUA | FlagTrim | FlagZeroes
	writable := k.export.Flags&FlagReadOnly == 0
	switch missing := k.export.Flags & used &^ e.Flags; {
	case e.SizeBytes < k.size:
		return other("%d bytes, it had %d", e.SizeBytes, k.size)
	case writable && e.Flags&FlagReadOnly != 0:
		return other("it is read-only now")
	case writable && missing != 0:
		return other("it lacks the abilities %#x", missing)
	case e.BlockBytesMin > k.block:
		return other("it takes blocks of %d bytes and more, the device has %d", e.BlockBytesMin, k.block)
	case e.PayloadBytesMax < kernelPayloadBytes:
		return other("it takes %d bytes at a time, the kernel sends %d", e.PayloadBytesMax, kernelPayloadBytes)
	}
	if c := contradiction(k.told, told(e.Description)); c != "" {
		return other("%s", c)
	}
	return nil
}

// replace hands n new connections over.
func (k *keeper) replace(ctx context.Context, n int) error {
	links, export, err := k.open(ctx, n)
	if err != nil {
		return err
	}
	d, err := k.System.Device(k.index) // the connections took their time, and a device without a backend lets everybody change it
	if err == nil && !d.of(k.backend) {
		err = errDetached
	}
	if err != nil {
		for _, l := range links {
			l.Close()
		}
		return err
	}
	shown := TimeoutMin // by which Taken sees that it was taken
	if k.timeout != 0 {
		shown = k.timeout
	}
	// No size: before the kernel takes one it waits for all that is in flight (6.9 and later), which waits for these sockets.
	c := Change{Index: k.index, Backend: k.backend, Timeout: &shown, DeadTimeout: k.DeadTimeout}
	for _, l := range links {
		c.Sockets = append(c.Sockets, l.FD())
	}
	if k.unseen > 0 {
		k.probed = time.Now()
	}
	k.shown = k.timeout == 0
	err = k.Kernel.Reconfigure(context.WithoutCancel(ctx), c) // the descriptors must be open for as long as the kernel looks
	taken := 0
	for _, l := range links { // after an error too: some may have been taken before it
		if l.Taken() {
			k.links = append(k.links, l)
			taken++
		} else {
			l.Close()
		}
	}
	fromDead := min(taken, len(k.dead))
	began := time.Now()
	for _, d := range k.dead[:fromDead] {
		began = d.since
		d.Close()
	}
	k.dead = k.dead[fromDead:]
	k.unseen -= min(k.unseen, taken-fromDead)
	k.state.Reconnects += taken
	if k.shown {
		err = errors.Join(err, k.hideTimeout(context.WithoutCancel(ctx)))
	}
	if err != nil {
		return err
	}
	if taken > 0 {
		k.log.Info("reconnected", "connections", taken, "alive", len(k.links)+k.unseen, "after", time.Since(began).Round(time.Millisecond).String())
	}
	k.told = merge(k.told, told(export.Description))
	k.state.Told = k.told
	if k.larger(export) != 0 {
		k.nextSize = time.Time{} // passed on when nothing is dead
	}
	return nil
}

// hideTimeout takes back the timeout that the kernel was shown.
func (k *keeper) hideTimeout(ctx context.Context) error {
	never := time.Duration(0)
	err := k.Kernel.Reconfigure(ctx, Change{Index: k.index, Backend: k.backend, Timeout: &never})
	if err == nil {
		k.shown = false
		k.tune()
	}
	return err
}

// merge keeps the words of before, and what only now says.
func merge(before, now []string) []string {
	if len(before) == 0 {
		return now
	}
	return before
}

// larger is the size to pass on, 0 where it is none.
func (k *keeper) larger(e *Export) uint64 {
	if size := e.SizeBytes - e.SizeBytes%uint64(k.block); size > k.size {
		return size
	}
	return 0
}

// grown notes a new size, if the kernel has taken it.
func (k *keeper) grown(size uint64) {
	d, err := k.System.Device(k.index)
	if err != nil || d.SizeBytes != size {
		k.complainAbout(&blocktree.Error{Op: "resize", Kind: blocktree.Unsupported, Err: fmt.Errorf("the kernel does not take the new size of %d bytes", size),
			Hint: "unmount, detach and attach the device to see its new size"})
		return
	}
	k.log.Info("the device has grown", "sizeBytes", size, "wasBytes", k.size)
	k.size = size
	k.state.SizeBytes = size
	k.save()
}

// askSize asks the server for the size, on a connection of its own, and passes a larger one on.
func (k *keeper) askSize(ctx context.Context) {
	nc, err := k.Dial(ctx)
	if err != nil {
		return // the connections of the device will show what that means
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	e, err := info(nc, k.Target.Export)
	if err != nil {
		return
	}
	if err := k.acceptable(e); err != nil {
		k.complainAbout(err)
		return
	}
	size := k.larger(e)
	if size == 0 {
		return
	}
	if err := k.Kernel.Reconfigure(ctx, Change{Index: k.index, Backend: k.backend, SizeBytes: size}); err != nil {
		k.complainAbout(err)
		return
	}
	k.grown(size)
}
