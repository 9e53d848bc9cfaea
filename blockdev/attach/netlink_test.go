package attach

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/genetlink/genltest"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"blocktree"
)

// genl is the kernel's side of generic netlink for a model: strict about attributes, their types and lengths.
type genl struct {
	t *testing.T
	m *model
	// noise is said before the answer.
	noise []genetlink.Message
}

func (g *genl) netlink() *Netlink {
	family := genetlink.Family{ID: 0x1f, Name: familyName, Version: familyVersion, Groups: []genetlink.MulticastGroup{{ID: 7, Name: groupName}}}
	return &Netlink{dial: func() (*genetlink.Conn, error) { return genltest.Dial(genltest.ServeFamily(family, g.serve)), nil }}
}

// attributes decodes data; every number must have its exact length.
func (g *genl) attributes(data []byte) map[uint16][]byte {
	all := map[uint16][]byte{}
	list, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		g.t.Errorf("attributes: %v", err)
	}
	lengths := map[uint16]int{attrIndex: 4, attrSize: 8, attrBlockSize: 8, attrTimeout: 8, attrServerFlags: 8, attrClientFlags: 8, attrDeadTimeout: 8}
	for _, a := range list {
		kind := a.Type &^ unix.NLA_F_NESTED
		if want, ok := lengths[kind]; ok && len(a.Data) != want || all[kind] != nil {
			g.t.Errorf("attribute %d has %d bytes, or is there twice", kind, len(a.Data))
		}
		all[kind] = a.Data
	}
	return all
}

func (g *genl) sockets(data []byte) (fds []int) {
	items, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		g.t.Errorf("sockets: %v", err)
	}
	for _, i := range items {
		one, err := netlink.UnmarshalAttributes(i.Data)
		if i.Type&^unix.NLA_F_NESTED != itemSocket || err != nil || len(one) != 1 || one[0].Type != socketFD || len(one[0].Data) != 4 {
			g.t.Errorf("a socket as %+v, %v", i, err)
			continue
		}
		fds = append(fds, int(number32(one[0].Data)))
	}
	return fds
}

func number32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}
func number64(b []byte) uint64 {
	if b == nil {
		return 0
	}
	return uint64(number32(b)) | uint64(number32(b[4:]))<<32
}
func text(b []byte) string {
	if len(b) == 0 || b[len(b)-1] != 0 {
		return fmt.Sprintf("not a C string: %q", b)
	}
	return string(b[:len(b)-1])
}

func (g *genl) serve(greq genetlink.Message, nreq netlink.Message) ([]genetlink.Message, error) {
	a := g.attributes(greq.Data)
	index := int(number32(a[attrIndex]))
	acknowledged := nreq.Header.Flags&netlink.Acknowledge != 0
	if nreq.Header.Flags&netlink.Request == 0 || greq.Header.Version != familyVersion || nreq.Header.Type != 0x1f {
		g.t.Errorf("header %+v %+v", nreq.Header, greq.Header)
	}
	seconds := func(kind uint16) time.Duration { return time.Duration(number64(a[kind])) * time.Second }
	var err error
	var reply func(*netlink.AttributeEncoder)
	switch greq.Header.Command {
	case cmdConnect:
		if a[attrClientFlags] == nil || acknowledged {
			g.t.Error("CONNECT without client flags, or acknowledged, which is one answer too many")
		}
		err = g.m.Connect(g.t.Context(), Config{Index: index, Sockets: g.sockets(a[attrSockets]), SizeBytes: number64(a[attrSize]),
			BlockBytes: uint32(number64(a[attrBlockSize])), Flags: uint16(number64(a[attrServerFlags])), Timeout: seconds(attrTimeout),
			DeadTimeout: seconds(attrDeadTimeout), Backend: text(a[attrBackend])})
		reply = func(e *netlink.AttributeEncoder) { e.Uint32(attrIndex, uint32(index)) }
	case cmdReconfigure:
		c := Change{Index: index, Backend: text(a[attrBackend]), SizeBytes: number64(a[attrSize]), DeadTimeout: seconds(attrDeadTimeout)}
		if a[attrSockets] != nil {
			c.Sockets = g.sockets(a[attrSockets])
		}
		if a[attrTimeout] != nil {
			t := seconds(attrTimeout)
			c.Timeout = &t
		}
		err = g.m.Reconfigure(g.t.Context(), c)
	case cmdDisconnect:
		err = g.m.Disconnect(g.t.Context(), index)
	case cmdStatus:
		open, _ := g.m.Open(g.t.Context(), index)
		reply = func(e *netlink.AttributeEncoder) {
			e.Nested(attrDevices, func(list *netlink.AttributeEncoder) error {
				list.Nested(itemDevice, func(one *netlink.AttributeEncoder) error {
					one.Uint32(deviceIndex, uint32(index))
					one.Uint8(deviceConnected, map[bool]uint8{true: 1}[open])
					return nil
				})
				return nil
			})
		}
	default:
		g.t.Errorf("command %d", greq.Header.Command)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return nil, genltest.Error(int(errno))
	}
	if reply == nil {
		if !acknowledged {
			g.t.Error("nobody would hear whether it worked")
		}
		return nil, genltest.Error(0)
	}
	e := netlink.NewAttributeEncoder()
	reply(e)
	data, err := e.Encode()
	return []genetlink.Message{{Header: genetlink.Header{Command: greq.Header.Command, Version: 1}, Data: data}}, err
}

// TestNetlink: every call arrives at the kernel as it was meant, and its refusals come back as what they mean.
func TestNetlink(t *testing.T) {
	m := newModel()
	k := (&genl{t: t, m: m}).netlink()
	for fd := 11; fd <= 13; fd++ {
		m.links[fd] = &modelLink{m: m, fd: fd, nc: nopConn{}}
	}
	c := Config{Index: 3, Sockets: []int{11, 12}, SizeBytes: 1 << 40, BlockBytes: 4096, Flags: usual, Timeout: 35 * time.Second,
		DeadTimeout: 10 * time.Minute, Backend: "nbd+unix:///vm/disk0?socket=%2Frun%2Fs"}
	ctx := t.Context()
	if open, err := k.Open(ctx, 3); err != nil || open {
		t.Errorf("open %v, %v", open, err)
	}
	if err := k.Connect(ctx, c); err != nil {
		t.Fatal(err)
	}
	got := m.devices[3].c
	if got.Sockets[0] != 11 || got.Sockets[1] != 12 || fmt.Sprint(got) != fmt.Sprint(c) {
		t.Errorf("arrived as %+v", got)
	}
	if open, err := k.Open(ctx, 3); err != nil || !open {
		t.Errorf("open %v, %v", open, err)
	}
	if err := k.Connect(ctx, c); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
		t.Errorf("connected twice: %v", err)
	}
	m.devices[3].sockets[1].dead = true
	seconds := 40 * time.Second
	if err := k.Reconfigure(ctx, Change{Index: 3, Backend: c.Backend, Sockets: []int{13}, SizeBytes: 1 << 41, Timeout: &seconds, DeadTimeout: time.Hour}); err != nil {
		t.Error(err)
	}
	if d := m.devices[3]; d.sockets[1].fd != 13 || d.c.SizeBytes != 1<<41 || d.timeout != seconds || d.c.DeadTimeout != time.Hour || !m.links[13].Taken() || m.links[13].Taken() {
		t.Errorf("%+v", d)
	}
	if err := k.Reconfigure(ctx, Change{Index: 3, Backend: c.Backend}); err != nil || m.devices[3].timeout != seconds {
		t.Errorf("a change of nothing: %v", err)
	}
	for _, c := range []Change{{Index: 3, Backend: "nbd://x/y"}, {Index: 4, Backend: c.Backend}} {
		if err := k.Reconfigure(ctx, c); blocktree.KindOf(err) != blocktree.NotFound {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := k.Disconnect(ctx, 3); err != nil || m.devices[3] != nil {
		t.Error(err)
	}
}

// TestNetlinkErrors: what can be in the way, and what helps.
func TestNetlinkErrors(t *testing.T) {
	for errno, want := range map[unix.Errno]blocktree.Kind{unix.EPERM: blocktree.Permission, unix.EBUSY: blocktree.Busy, unix.EINVAL: blocktree.Invalid, unix.ENOMEM: blocktree.Other} {
		k := &Netlink{dial: func() (*genetlink.Conn, error) {
			return genltest.Dial(genltest.ServeFamily(genetlink.Family{ID: 9, Name: familyName}, func(genetlink.Message, netlink.Message) ([]genetlink.Message, error) {
				return nil, genltest.Error(int(errno))
			})), nil
		}}
		if err := k.Disconnect(t.Context(), 0); blocktree.KindOf(err) != want || blocktree.HintOf(err) == "" {
			t.Errorf("%v: %v, hint %q", errno, err, blocktree.HintOf(err))
		}
	}
	none := &Netlink{dial: func() (*genetlink.Conn, error) {
		return genltest.Dial(func(genetlink.Message, netlink.Message) ([]genetlink.Message, error) {
			return nil, genltest.Error(int(unix.ENOENT))
		}), nil
	}}
	if err := none.Disconnect(t.Context(), 0); blocktree.KindOf(err) != blocktree.NotFound || blocktree.HintOf(err) != "modprobe nbd" {
		t.Errorf("%v, hint %q", err, blocktree.HintOf(err))
	}
}
