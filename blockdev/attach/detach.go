package attach

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
)

const (
	// flushTimeout bounds the flush before a device is detached.
	flushTimeout = 30 * time.Second

	// goneTimeout bounds how long the kernel may take to let go of a device.
	goneTimeout = 10 * time.Second

	// keeperTimeout bounds how long a keeper may take to detach: it flushes.
	keeperTimeout = flushTimeout + goneTimeout + 5*time.Second

	// pollInterval is how often the end of something is looked for.
	pollInterval = 50 * time.Millisecond
)

// stop ends the device, if nobody has it. What is flushed may need a connection that has just died, so dead ones are replaced until then, and
// not later: that would bring the device back.
func (k *keeper) stop() error {
	look := func(ctx context.Context) { k.look(ctx) } // what it finds, the flush says
	err := end(context.Background(), k.System, k.Kernel, k.index, look)
	if err == nil {
		k.log.Info("detached")
		return nil
	}
	if blocktree.KindOf(err) == blocktree.Busy {
		name := "/dev/" + Device{Index: k.index}.Name()
		return &blocktree.Error{Op: "detach", Path: name, Kind: blocktree.Busy, Err: errors.New("it is in use, and stays attached without a keeper"),
			Hint: "start btnbd attach again to keep it; or unmount it, then btnbd detach " + name}
	}
	return err
}

// end flushes and disconnects a device that nobody has. While it does, nobody can mount it.
func end(ctx context.Context, system System, kernel Kernel, index int, meanwhile func(context.Context)) error {
	c, err := system.Claim(index)
	if err != nil {
		return err
	}
	if err := flushed(ctx, c, flushTimeout, meanwhile); err != nil {
		// A flush that goes on holds the descriptor; closing waits for nothing.
		return errors.Join(err, c.Close())
	}
	err = kernel.Disconnect(ctx, index)
	if err = errors.Join(err, c.Close()); err != nil {
		return err
	}
	if err := gone(ctx, system, index); err != nil {
		return err
	}
	return system.Forget(index)
}

// gone waits until the kernel has let go of the device.
func gone(ctx context.Context, system System, index int) error {
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	for {
		d, err := system.Device(index)
		if err != nil || !d.Attached {
			return err
		}
		select {
		case <-ctx.Done():
			return &blocktree.Error{Op: "detach", Path: "/dev/" + d.Name(), Kind: blocktree.Busy, Err: errors.New("disconnected, but somebody has it open still"),
				Hint: "it goes when its last user closes it"}
		case <-time.After(pollInterval):
		}
	}
}

// DetachOptions is what Detach is to do, and with what.
type DetachOptions struct {
	Index  int
	Force  bool // whoever uses it gets I/O errors, and what is not flushed is given up
	Kernel Kernel
	System System
	// Signal asks a keeper to end; nil is SIGTERM.
	Signal func(pid int) error
}

// Detach ends a device, by its keeper where it has one. It fails with Busy while somebody uses the device, with NotFound when it is not
// attached, with Timeout when it cannot be flushed.
func Detach(ctx context.Context, o DetachOptions) error {
	if o.Signal == nil {
		o.Signal = func(pid int) error { return unix.Kill(pid, unix.SIGTERM) }
	}
	d, err := o.System.Device(o.Index)
	if err != nil {
		return err
	}
	name := "/dev/" + d.Name()
	s, err := o.System.Load(o.Index)
	if err != nil {
		return err
	}
	switch {
	case !d.Attached:
		return &blocktree.Error{Op: "detach", Path: name, Kind: blocktree.NotFound, Err: errors.New("it is not attached"), Hint: "`btnbd list` shows what is"}
	case !ours(d, s) && !o.Force:
		return &blocktree.Error{Op: "detach", Path: name, Kind: blocktree.Permission, Err: errors.New("another program attached it"),
			Hint: "detach it by that program, for example nbd-client -d " + name + "; or use --force"}
	}
	pid, err := o.System.Keeper(o.Index)
	if err != nil {
		return err
	}
	if pid != 0 && s != nil && s.State == StateWaiting && !o.Force { // its keeper would leave, and nobody reconnect it
		return &blocktree.Error{Op: "detach", Path: name, Kind: blocktree.Unavailable, Err: errors.New("it waits for its server, and cannot be flushed"),
			Hint: "start the server; or give up what is not flushed, with --force"}
	}
	if !o.Force { // before its keeper is asked, who would leave even so
		c, err := o.System.Claim(o.Index)
		if err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return systemError("close "+name, err)
		}
	}
	release, err := o.dismiss(ctx, name)
	switch {
	case err == nil:
		defer release()
	case !o.Force || blocktree.KindOf(err) != blocktree.Timeout || ctx.Err() != nil:
		return err
	default: // it was told to end, so it brings nothing back; what it waits for may be what only the detaching ends, killed or not
	}
	if d, err = o.System.Device(o.Index); err != nil || !d.Attached {
		return err
	}
	if !o.Force {
		return end(ctx, o.System, o.Kernel, o.Index, nil)
	}
	if err := o.Kernel.Disconnect(ctx, o.Index); err != nil {
		return err
	}
	return o.System.Forget(o.Index)
}

// ours reports whether btnbd attached a device.
func ours(d Device, s *State) bool {
	return s != nil && d.of(s.Server)
}

// dismiss has the keeper end, and becomes the keeper: one that knew nothing of it would bring the device back.
func (o *DetachOptions) dismiss(ctx context.Context, name string) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, keeperTimeout)
	defer cancel()
	asked := 0
	for {
		release, lockErr := o.System.Lock(o.Index)
		if lockErr == nil {
			return release, nil
		}
		if blocktree.KindOf(lockErr) != blocktree.Busy {
			return nil, lockErr
		}
		pid, err := o.System.Keeper(o.Index)
		if err != nil {
			return nil, err
		}
		if pid > 0 && pid != asked {
			if err := o.Signal(pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return nil, systemError(fmt.Sprintf("end process %d, which keeps %s", pid, name), err)
			}
			asked = pid
		}
		select {
		case <-ctx.Done():
			return nil, &blocktree.Error{Op: "detach", Path: name, Kind: blocktree.Timeout, Err: fmt.Errorf("process %d keeps it and does not end", pid),
				Hint: "see its log: it may wait for the server to flush; detach with --force to give that up"}
		case <-time.After(pollInterval):
		}
	}
}

// Entry is a device in a list.
type Entry struct {
	Device      string     `json:"device"`
	Path        string     `json:"path,omitempty"`
	Server      string     `json:"server,omitempty"`
	State       string     `json:"state"` // connected, waiting, or unkept: attached, and nobody to reconnect it
	Since       *time.Time `json:"since,omitempty"`
	Keeper      int        `json:"keeper,omitempty"` // process
	Connections int        `json:"connections,omitempty"`
	Reconnects  int        `json:"reconnects"`
	SizeBytes   uint64     `json:"sizeBytes"`
	ReadOnly    bool       `json:"readOnly"`
	LastError   string     `json:"lastError,omitempty"`
}

// StateUnkept is the state of a device that nobody keeps.
const StateUnkept = "unkept"

// List returns the devices that are attached, those of other programs too.
func List(system System) ([]Entry, error) {
	devices, err := system.Devices()
	if err != nil {
		return nil, err
	}
	all := []Entry{}
	for _, d := range devices {
		if !d.Attached {
			continue
		}
		e := Entry{Device: "/dev/" + d.Name(), Server: d.Backend, State: StateUnkept, SizeBytes: d.SizeBytes, ReadOnly: d.Flags&FlagReadOnly != 0}
		s, err := system.Load(d.Index)
		if err != nil {
			return nil, err
		}
		if ours(d, s) {
			if e.Keeper, err = system.Keeper(d.Index); err != nil {
				return nil, err
			}
			e.Path, e.Server, e.Connections, e.Reconnects = s.Path, s.Server, s.Connections, s.Reconnects
			if e.Keeper != 0 {
				e.State, e.Since, e.LastError = s.State, &s.Since, s.LastError
			}
		}
		all = append(all, e)
	}
	return all, nil
}
