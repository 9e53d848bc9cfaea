package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"blocktree"
)

// The generic netlink family of include/uapi/linux/nbd-netlink.h.
const (
	familyName    = "nbd"
	familyVersion = 1
	groupName     = "nbd_mc_group"

	cmdConnect     = 1
	cmdDisconnect  = 2
	cmdReconfigure = 3
	cmdLinkDead    = 4
	cmdStatus      = 5

	attrIndex       = 1
	attrSize        = 2
	attrBlockSize   = 3
	attrTimeout     = 4
	attrServerFlags = 5
	attrClientFlags = 6
	attrSockets     = 7
	attrDeadTimeout = 8
	attrDevices     = 9
	attrBackend     = 10

	itemSocket      = 1 // within attrSockets, and its
	socketFD        = 1
	itemDevice      = 1 // within attrDevices, and its
	deviceIndex     = 1
	deviceConnected = 2
)

// netlinkTimeout bounds the wait for an answer that the kernel gives while it takes the question.
const netlinkTimeout = 10 * time.Second

// deadEvents is how many deaths may wait to be heard; more say nothing new.
const deadEvents = 16

// Netlink is the kernel's present interface. Each call has a connection of its own: an answer that comes late confuses nobody.
type Netlink struct {
	dial func() (*genetlink.Conn, error)
}

// NewNetlink returns the interface of this machine. It fails with NotFound when the kernel has none, because its module is not loaded or
// is too old.
func NewNetlink() (*Netlink, error) {
	n := &Netlink{dial: func() (*genetlink.Conn, error) { return genetlink.Dial(nil) }}
	c, _, err := n.family()
	if err != nil {
		return nil, err
	}
	return n, c.Close()
}

// family opens a connection and finds the family.
func (n *Netlink) family() (*genetlink.Conn, genetlink.Family, error) {
	c, err := n.dial()
	if err != nil {
		return nil, genetlink.Family{}, kernelError("netlink", err)
	}
	f, err := c.GetFamily(familyName)
	if err != nil {
		c.Close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, f, &blocktree.Error{Op: "netlink", Kind: blocktree.NotFound, Err: errors.New("the kernel has no NBD interface"),
				Hint: "modprobe nbd"}
		}
		return nil, f, kernelError("netlink", err)
	}
	return c, f, nil
}

// execute asks the kernel. What it does, it does within the system call, which cannot be given up: ctx ends the wait, not the work.
func (n *Netlink) execute(ctx context.Context, op string, command uint8, flags netlink.HeaderFlags, attributes func(*netlink.AttributeEncoder)) ([]genetlink.Message, error) {
	e := netlink.NewAttributeEncoder()
	attributes(e)
	data, err := e.Encode()
	if err != nil {
		return nil, blocktree.E(op, blocktree.Invalid, err)
	}
	type answer struct {
		messages []genetlink.Message
		err      error
	}
	done := make(chan answer, 1)
	go func() { // ends with the system call
		c, f, err := n.family()
		if err != nil {
			done <- answer{err: err}
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(netlinkTimeout)) // a connection that cannot have one shows it at once
		m := genetlink.Message{Header: genetlink.Header{Command: command, Version: familyVersion}, Data: data}
		messages, err := c.Execute(m, f.ID, netlink.Request|flags)
		if err != nil {
			err = kernelError(op, err)
		}
		done <- answer{messages, err}
	}()
	select {
	case a := <-done:
		return a.messages, a.err
	case <-ctx.Done():
		return nil, blocktree.E(op, blocktree.Canceled, context.Cause(ctx))
	}
}

// Connect is CONNECT. Its answer comes without an acknowledgement.
func (n *Netlink) Connect(ctx context.Context, c Config) error {
	messages, err := n.execute(ctx, "attach", cmdConnect, 0, func(e *netlink.AttributeEncoder) {
		e.Uint32(attrIndex, uint32(c.Index))
		e.Uint64(attrSize, c.SizeBytes)
		e.Uint64(attrBlockSize, uint64(c.BlockBytes))
		e.Uint64(attrTimeout, uint64(c.Timeout/time.Second))
		e.Uint64(attrServerFlags, uint64(c.Flags))
		e.Uint64(attrClientFlags, 0) // stays when its last user, or its keeper, goes
		e.Uint64(attrDeadTimeout, uint64(c.DeadTimeout/time.Second))
		e.String(attrBackend, c.Backend)
		sockets(e, c.Sockets)
	})
	if err != nil {
		return err
	}
	for _, m := range messages {
		if index, err := decodeIndex(m.Data); err == nil && index == c.Index {
			return nil
		}
	}
	return blocktree.E("attach", blocktree.Other, errors.New("the kernel answered for another device"))
}

// Reconfigure is RECONFIGURE.
func (n *Netlink) Reconfigure(ctx context.Context, c Change) error {
	_, err := n.execute(ctx, "reconfigure", cmdReconfigure, netlink.Acknowledge, func(e *netlink.AttributeEncoder) {
		e.Uint32(attrIndex, uint32(c.Index))
		if c.SizeBytes != 0 {
			e.Uint64(attrSize, c.SizeBytes)
		}
		if c.Timeout != nil {
			e.Uint64(attrTimeout, uint64(*c.Timeout/time.Second))
		}
		if c.DeadTimeout != 0 {
			e.Uint64(attrDeadTimeout, uint64(c.DeadTimeout/time.Second))
		}
		e.String(attrBackend, c.Backend)
		if len(c.Sockets) > 0 {
			sockets(e, c.Sockets)
		}
	})
	if blocktree.KindOf(err) == blocktree.Invalid { // all that EINVAL can mean of what is asked here
		return blocktree.E("reconfigure", blocktree.NotFound, errors.New("it is not attached, or to something else"))
	}
	return err
}

// Disconnect is DISCONNECT.
func (n *Netlink) Disconnect(ctx context.Context, index int) error {
	_, err := n.execute(ctx, "detach", cmdDisconnect, netlink.Acknowledge, func(e *netlink.AttributeEncoder) { e.Uint32(attrIndex, uint32(index)) })
	return err
}

// Open is STATUS of one device.
func (n *Netlink) Open(ctx context.Context, index int) (bool, error) {
	messages, err := n.execute(ctx, "status", cmdStatus, 0, func(e *netlink.AttributeEncoder) { e.Uint32(attrIndex, uint32(index)) })
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		devices, err := decodeStatus(m.Data)
		if err != nil {
			return false, err
		}
		if open, ok := devices[index]; ok {
			return open, nil
		}
	}
	return false, nil // there is none of this number yet
}

// Reconnects is true of netlink.
func (n *Netlink) Reconnects() bool { return true }

// Dead listens to the family's group.
func (n *Netlink) Dead(ctx context.Context) (<-chan int, error) {
	c, f, err := n.family()
	if err != nil {
		return nil, err
	}
	joined := false
	for _, g := range f.Groups {
		if g.Name == groupName {
			if err := c.JoinGroup(g.ID); err != nil {
				c.Close()
				return nil, kernelError("netlink", err)
			}
			joined = true
		}
	}
	if !joined {
		return nil, c.Close()
	}
	events := make(chan int, deadEvents)
	stop := context.AfterFunc(ctx, func() { c.Close() }) // wakes Receive
	go func() {                                          // ends with ctx or the connection
		defer close(events)
		defer stop()
		for {
			messages, _, err := c.Receive()
			if ctx.Err() != nil || err != nil && !errors.Is(err, unix.ENOBUFS) { // ENOBUFS: some were missed
				c.Close()
				return
			}
			for _, m := range messages {
				if index, err := decodeIndex(m.Data); err == nil && m.Header.Command == cmdLinkDead {
					select {
					case events <- index:
					default: // who listens looks at all of its links anyway
					}
				}
			}
		}
	}()
	return events, nil
}

func sockets(e *netlink.AttributeEncoder, fds []int) {
	e.Nested(attrSockets, func(list *netlink.AttributeEncoder) error {
		for _, fd := range fds {
			list.Nested(itemSocket, func(one *netlink.AttributeEncoder) error {
				one.Uint32(socketFD, uint32(fd))
				return nil
			})
		}
		return nil
	})
}

// decodeIndex reads the number of the device from a message of the kernel.
func decodeIndex(b []byte) (index int, err error) {
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return 0, blocktree.E("netlink", blocktree.Invalid, err)
	}
	index = -1
	for d.Next() {
		if d.Type() == attrIndex {
			index = int(d.Uint32())
		}
	}
	if err := d.Err(); err != nil || index < 0 {
		return 0, blocktree.E("netlink", blocktree.Invalid, fmt.Errorf("no number of a device: %w", err))
	}
	return index, nil
}

// decodeStatus reads which devices are open.
func decodeStatus(b []byte) (map[int]bool, error) {
	devices := map[int]bool{}
	one := func(d *netlink.AttributeDecoder) error {
		index, open := -1, false
		for d.Next() {
			switch d.Type() {
			case deviceIndex:
				index = int(d.Uint32())
			case deviceConnected:
				open = d.Uint8() != 0
			}
		}
		devices[index] = open
		return nil
	}
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return nil, blocktree.E("netlink", blocktree.Invalid, err)
	}
	for d.Next() {
		if d.Type() == attrDevices {
			d.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					if list.Type() == itemDevice {
						list.Nested(one)
					}
				}
				return nil
			})
		}
	}
	if err := d.Err(); err != nil {
		return nil, blocktree.E("netlink", blocktree.Invalid, err)
	}
	return devices, nil
}

// kernelError gives what the kernel says a kind.
func kernelError(op string, err error) error {
	e := &blocktree.Error{Op: op, Kind: blocktree.Other, Err: err, Hint: "the kernel's log (dmesg) may say more"}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		e.Kind, e.Hint = blocktree.Permission, "block devices are the system's: run it as root"
	case errors.Is(err, unix.EBUSY):
		e.Kind, e.Hint = blocktree.Busy, "another program has the device; `btnbd list` shows what is attached, or use auto"
	case errors.Is(err, unix.EINVAL):
		e.Kind = blocktree.Invalid
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		e.Kind, e.Hint = blocktree.Unsupported, "this kernel has no generic netlink"
	}
	return e
}
