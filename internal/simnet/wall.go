package simnet

import (
	"net/netip"
	"slices"
)

// wall is a stateful firewall around hosts; the Net's mu guards it.
type wall struct {
	flows map[flow]bool // of datagrams that went out
}

// flow is a socket inside and one outside.
type flow struct{ in, out netip.AddrPort }

// Wall puts a firewall around hosts, from now on, within those that they are behind already: they reach one another, and everybody outside, who reaches them only with
// answers: on streams that they have opened, and at sockets with datagrams from where these have sent some.
func (n *Net) Wall(hosts ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := &wall{flows: map[flow]bool{}}
	for _, h := range hosts {
		n.walls[h] = append(n.walls[h], w)
	}
}

// Open takes hosts out of all their firewalls.
func (n *Net) Open(hosts ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range hosts {
		delete(n.walls, h)
	}
	n.changed.ring()
}

// around are the firewalls around one host and not around another; mu is held.
func (n *Net) around(host, other netip.Addr) (all []*wall) {
	for _, w := range n.walls[host] {
		if !slices.Contains(n.walls[other], w) {
			all = append(all, w)
		}
	}
	return all
}

// walled reports whether a stream from one host to another is not let in; mu is held.
func (n *Net) walled(from, to netip.Addr) bool { return len(n.around(to, from)) > 0 }

// passes reports whether the firewalls let a datagram through, and has them know its flow; mu is held.
func (n *Net) passes(from, to netip.AddrPort) bool {
	for _, w := range n.around(from.Addr(), to.Addr()) {
		w.flows[flow{from, to}] = true
	}
	for _, w := range n.around(to.Addr(), from.Addr()) {
		if !w.flows[flow{to, from}] {
			return false
		}
	}
	return true
}
