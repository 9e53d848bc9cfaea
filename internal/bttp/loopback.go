package bttp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"blocktree"
)

// Loopback joins the endpoints of one runtime in one process: where one of them dials the runtime's own principal and path it reaches, in memory, the one that
// listens, and nobody where none does; all else it dials, and all that others dial, goes over the network (docs/design/0087-fewer-messages.md). The zero Loopback is
// ready, and is not copied. Whoever makes endpoints gives it to those of one runtime alone.
type Loopback struct {
	mu        sync.Mutex
	listening *Endpoint     // nil: none does
	begins    chan struct{} // closed when one does; nil while nobody waits for it
}

// listen says who listens from now on.
func (l *Loopback) listen(e *Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listening = e
	if l.begins != nil {
		close(l.begins)
		l.begins = nil
	}
}

// leave says that e does not listen any more.
func (l *Loopback) leave(e *Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listening == e {
		l.listening = nil
	}
}

// await returns who listens, or why nobody does when ctx ends.
func (l *Loopback) await(ctx context.Context) (*Endpoint, error) {
	for {
		l.mu.Lock()
		e := l.listening
		if e == nil && l.begins == nil {
			l.begins = make(chan struct{})
		}
		begins := l.begins
		l.mu.Unlock()
		if e != nil {
			return e, nil
		}
		select {
		case <-begins:
		case <-ctx.Done():
			return nil, blocktree.E("dial memory", blocktree.Unavailable, syscall.ECONNREFUSED)
		}
	}
}

// isSelf reports whether r is what this endpoint reaches by its loopback.
func (e *Endpoint) isSelf(r blocktree.Runtime) bool {
	own := &e.own.Load().identity
	return e.config.Loopback != nil && r.Principal == own.Principal && (r.Path == "" || r.Path == own.Path)
}

// otherWay refuses to have others bring about a connection to what this endpoint reaches by its loopback: whoever has it would stay on it.
func (e *Endpoint) otherWay(r blocktree.Runtime) error {
	if e.isSelf(r) {
		return blocktree.E("dial memory", blocktree.Unavailable, errors.New("a runtime goes to itself in memory, by no other"))
	}
	return nil
}

// dialSelf makes a connection in memory. One that is about to listen is waited for as long as one whose host says that it does not. Who the two ends are is judged as by any
// hello; only that they have the key needs no proof.
func (e *Endpoint) dialSelf(ctx context.Context, r blocktree.Runtime) (*Conn, error) {
	patience, cancel := context.WithTimeout(ctx, refusedPatience)
	defer cancel()
	to, err := e.config.Loopback.await(patience)
	if err != nil {
		return nil, err
	}
	ctx, cancel = context.WithTimeout(ctx, blocktree.HandshakeTimeout)
	defer cancel()
	return e.dialWith(ctx, r, e.openMemory(to, to.selfAddr(ctx, r.Endpoints)))
}

// openMemory opens lanes to an endpoint of this process, which reaches itself at an address.
func (e *Endpoint) openMemory(to *Endpoint, at string) opener {
	return opener{transport: Memory, open: func(context.Context) (carrier, blocktree.Principal, string, error) {
		near, far := newMemoryCarriers(e.config.stall)
		if !to.task(func() { to.serveMemory(far, accepted{e.config.Key.Principal(), Memory, at, Direct, false}) }) {
			return nil, blocktree.Principal{}, "", blocktree.E("dial memory", blocktree.Unavailable, errors.New("the runtime does not listen any more"))
		}
		return near, to.config.Key.Principal(), at, nil
	}}
}

// serveMemory makes the far end of a carrier in memory a lane.
func (e *Endpoint) serveMemory(c *memoryCarrier, a accepted) {
	defer context.AfterFunc(e.ctx, c.close)()
	e.serveHello(c, e.newReader(c), a)
}

// selfAddr is the address at which both ends of a connection of this runtime with itself see each other, "ip:port"; whoever is asked for a way dials that host back (docs/design/0034-firewalls.md). It is
// where this endpoint listens; where that is a name, or all of the machine's addresses, the first that was dialled, as the network would have it; else one of loopback. For a name that was dialled it blocks, for addrHeadStart at most.
func (e *Endpoint) selfAddr(ctx context.Context, dialled []string) string {
	port := "0"
	for _, a := range e.Addrs() {
		if at, err := netip.ParseAddrPort(a); err == nil && !at.Addr().IsUnspecified() {
			return at.String()
		}
		if _, p, err := net.SplitHostPort(a); err == nil && port == "0" {
			port = p
		}
	}
	ctx, cancel := context.WithTimeout(ctx, addrHeadStart)
	defer cancel()
	for _, a := range dialled {
		if at, err := resolveUDP(ctx, a); err == nil && !at.IP.IsUnspecified() {
			return at.String()
		}
	}
	return net.JoinHostPort("127.0.0.1", port)
}
