package simnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// DelayDefault is the delay of a link that nobody set: a data centre's.
const DelayDefault = 250 * time.Microsecond

// Link is one direction between two hosts.
type Link struct {
	Delay time.Duration // 0: DelayDefault
	Loss  float64       // the part of the packets that is lost, 0 to 1
	Cut   bool
}

// Net is a network. All methods may be called by many goroutines at once.
type Net struct {
	mu        sync.Mutex
	rng       *rand.Rand
	links     map[direction]Link
	sockets   map[netip.AddrPort]*socket
	listeners map[netip.AddrPort]*listener
	pipes     map[*pipe]struct{} // that somebody may still read
	lastPort  uint16
	walls     map[netip.Addr][]*wall
	gone      map[netip.Addr]bool // addresses that a host has left
	changed   bell                // links, and walls
}

type direction struct{ from, to netip.Addr }

// New returns a network of links with DelayDefault.
func New(seed uint64) *Net {
	return &Net{rng: rand.New(rand.NewPCG(seed, 0x6e6574)), links: map[direction]Link{}, sockets: map[netip.AddrPort]*socket{},
		listeners: map[netip.AddrPort]*listener{}, pipes: map[*pipe]struct{}{}, walls: map[netip.Addr][]*wall{}, gone: map[netip.Addr]bool{}, lastPort: 49151}
}

// Set changes the link from one host to another, in that direction only.
func (n *Net) Set(from, to netip.Addr, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[direction{from, to}] = l
	n.changed.ring()
	for p := range n.pipes {
		p.bell.ring()
	}
}

// Link returns the link from one host to another.
func (n *Net) Link(from, to netip.Addr) Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.link(from, to)
}

// link is Link; mu is held. A host reaches itself whatever is cut.
func (n *Net) link(from, to netip.Addr) Link {
	l := n.links[direction{from, to}]
	if l.Delay == 0 {
		l.Delay = DelayDefault
	}
	if from == to {
		l.Cut, l.Loss = false, 0
	}
	l.Cut = l.Cut || n.gone[from] || n.gone[to]
	return l
}

// PowerLoss ends all streams of a host as the loss of its power does: what had not left it is gone, and it does not say so. Its
// peers find out when they send something that arrives. Cut its links first, lest something leaves it meanwhile.
func (n *Net) PowerLoss(host netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.pipes {
		if p.from == host {
			p.lost = true
		}
		if p.to == host {
			p.deaf = true
		}
		if p.lost || p.deaf {
			p.segments, p.bytes = nil, 0
			p.bell.ring()
		}
	}
}

// Host is the network as the host with this address has it: it implements bttp.Network.
func (n *Net) Host(addr netip.Addr) *Host { return &Host{n, addr} }

// Host is one host of a Net.
type Host struct {
	net  *Net
	addr netip.Addr
}

// resolve parses an address of the host's own, and finds a free port if it has none; mu is held.
func (h *Host) resolve(addr string) (netip.AddrPort, error) {
	if len(addr) > 0 && addr[0] == ':' {
		addr = h.addr.String() + addr
	}
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return at, err
	}
	if at.Addr() != h.addr {
		return at, fmt.Errorf("%v is not an address of %v: %w", at.Addr(), h.addr, syscall.EADDRNOTAVAIL)
	}
	for at.Port() == 0 {
		if h.net.lastPort++; h.net.lastPort < 49152 {
			h.net.lastPort = 49152
		}
		free := netip.AddrPortFrom(h.addr, h.net.lastPort)
		if h.net.sockets[free] == nil && h.net.listeners[free] == nil {
			at = free
		}
	}
	return at, nil
}

// opError is an error as package net has it.
func opError(op, network string, at netip.AddrPort, err error) error {
	var addr net.Addr = net.TCPAddrFromAddrPort(at)
	if network == "udp" {
		addr = net.UDPAddrFromAddrPort(at)
	}
	return &net.OpError{Op: op, Net: network, Addr: addr, Err: err}
}

// ListenPacket implements bttp.Network.
func (h *Host) ListenPacket(_ context.Context, addr string) (net.PacketConn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	at, err := h.resolve(addr)
	if err == nil && h.net.sockets[at] != nil {
		err = os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	if err != nil {
		return nil, opError("listen", "udp", at, err)
	}
	s := &socket{net: h.net, at: at}
	h.net.sockets[at] = s
	return s, nil
}

// Listen implements bttp.Network.
func (h *Host) Listen(_ context.Context, addr string) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	at, err := h.resolve(addr)
	if err == nil && h.net.listeners[at] != nil {
		err = os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	if err != nil {
		return nil, opError("listen", "tcp", at, err)
	}
	l := &listener{net: h.net, at: at}
	h.net.listeners[at] = l
	return l, nil
}

// Dial implements bttp.Network: one round trip, once both directions are mended.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, opError("dial", "tcp", to, err)
	}
	for {
		h.net.mu.Lock()
		there, back := h.net.link(h.addr, to.Addr()), h.net.link(to.Addr(), h.addr)
		wait, walled := h.net.changed.wait(), h.net.walled(h.addr, to.Addr())
		h.net.mu.Unlock()
		if !there.Cut && !back.Cut && !walled {
			if !pause(ctx, nil, there.Delay+back.Delay) {
				return nil, opError("dial", "tcp", to, ctx.Err())
			}
			return h.connect(to)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, opError("dial", "tcp", to, ctx.Err())
		}
	}
}

// refusalPause is how long AwaitRefusal waits before it asks again.
const refusalPause = 100 * time.Millisecond

// AwaitRefusal implements bttp.Network. No question of it is lost but by a cut.
func (h *Host) AwaitRefusal(ctx context.Context, addr string) error {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return opError("dial", "udp", to, err)
	}
	for {
		h.net.mu.Lock()
		there, back := h.net.link(h.addr, to.Addr()), h.net.link(to.Addr(), h.addr)
		refuses := !there.Cut && !back.Cut && !h.net.walled(h.addr, to.Addr()) && h.net.sockets[to] == nil
		h.net.mu.Unlock()
		if !pause(ctx, nil, there.Delay+back.Delay) {
			return ctx.Err()
		}
		if refuses {
			return opError("read", "udp", to, os.NewSyscallError("read", syscall.ECONNREFUSED))
		}
		if !pause(ctx, nil, refusalPause) {
			return ctx.Err()
		}
	}
}

// connect makes a stream to a listener.
func (h *Host) connect(to netip.AddrPort) (net.Conn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	l := h.net.listeners[to]
	if l == nil || len(l.backlog) >= backlogMax {
		return nil, opError("dial", "tcp", to, os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	from, err := h.resolve(":0")
	if err != nil {
		return nil, opError("dial", "tcp", to, err)
	}
	out, in := newPipe(h.net, h.addr, to.Addr()), newPipe(h.net, to.Addr(), h.addr)
	near, far := &stream{net: h.net, local: from, remote: to, in: in, out: out}, &stream{net: h.net, local: to, remote: from, in: out, out: in}
	l.backlog = append(l.backlog, far)
	l.bell.ring()
	return near, nil
}

// bell wakes all who wait for it; the Net's mu guards it.
type bell struct{ ch chan struct{} }

// wait returns a channel that the next ring closes.
func (b *bell) wait() <-chan struct{} {
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// pause waits for d or a bell; false if ctx ended first.
func pause(ctx context.Context, ring <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ring:
	case <-ctx.Done():
		return false
	}
	return true
}

// await waits for a bell, or until then if that is not zero.
func await(ring <-chan struct{}, then time.Time) {
	if then.IsZero() {
		<-ring
		return
	}
	pause(context.Background(), ring, time.Until(then))
}

// sooner returns the earlier of two moments, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// passed reports whether a deadline, of which zero is never, is over.
func passed(deadline time.Time) bool {
	return !deadline.IsZero() && !time.Now().Before(deadline)
}

var errNoHost = errors.New("not an address of the simulated network")
