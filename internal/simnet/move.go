package simnet

import "net/netip"

// Move gives a host another address. What it listens on is at that from now on, and what it opens; its streams stay where they were, as a kernel's do: nothing comes or goes by them any more, and nobody is told. The
// address of before is nobody's for good; links are those that were set for the new one.
func (h *Host) Move(to netip.Addr) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	from := h.addr
	h.addr = to
	n.gone[from] = true
	for at, l := range n.listeners {
		if at.Addr() == from {
			delete(n.listeners, at)
			l.at = netip.AddrPortFrom(to, at.Port())
			n.listeners[l.at] = l
		}
	}
	for at, s := range n.sockets {
		if at.Addr() == from {
			delete(n.sockets, at)
			s.at = netip.AddrPortFrom(to, at.Port())
			n.sockets[s.at] = s
		}
	}
	n.changed.ring()
	for p := range n.pipes {
		p.bell.ring()
	}
}
