package bttp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"

	"blocktree"
)

// Loopback joins the endpoints of one runtime in one process: where one of them dials the runtime's own principal and path it reaches, in memory, the one that
// listens; all else it dials, and all that others dial, goes over the network (docs/design/0087-fewer-messages.md). The zero Loopback is ready, and is not copied. Whoever
// makes endpoints gives it to those of one runtime alone.
type Loopback struct{ listening atomic.Pointer[Endpoint] }

// self returns the endpoint that listens in this process as the runtime that this endpoint is too; nil where r is not that one, or none does.
func (e *Endpoint) self(r blocktree.Runtime) *Endpoint {
	if e.config.Loopback == nil {
		return nil
	}
	to := e.config.Loopback.listening.Load()
	if to == nil {
		return nil
	}
	own, other := &e.own.Load().identity, &to.own.Load().identity
	if own.Anonymous() || own.Principal != other.Principal || own.Path != other.Path || r.Principal != own.Principal {
		return nil
	}
	return to
}

// dialSelf makes a connection in memory. Who the two ends are is judged as by any hello; only that they have the key needs no proof.
func (e *Endpoint) dialSelf(ctx context.Context, to *Endpoint, r blocktree.Runtime) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, blocktree.HandshakeTimeout)
	defer cancel()
	conn, err := e.dialWith(ctx, r, e.openMemory(to))
	if err != nil {
		kind := blocktree.KindOf(err)
		if e.ctx.Err() != nil {
			kind = blocktree.Closed
		}
		return nil, &blocktree.Error{Op: "bttp.Dial", Runtime: string(r.Path), Kind: kind, Err: err}
	}
	return conn, nil
}

// openMemory opens lanes to an endpoint of this process.
func (e *Endpoint) openMemory(to *Endpoint) opener {
	return opener{transport: Memory, open: func(context.Context) (carrier, blocktree.Principal, string, error) {
		near, far := newMemoryCarriers(e.config.stall)
		at := to.selfAddr()
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

// selfAddr is the address at which this endpoint reaches itself, "ip:port": where it listens, on whichever of the machine's addresses by loopback.
func (e *Endpoint) selfAddr() string {
	for _, a := range e.Addrs() {
		at, err := netip.ParseAddrPort(a)
		if err != nil {
			if _, port, err := net.SplitHostPort(a); err == nil {
				return net.JoinHostPort("127.0.0.1", port)
			}
			continue
		}
		if at.Addr().IsUnspecified() {
			at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
		}
		return at.String()
	}
	return "127.0.0.1:0"
}
