package bttp

import (
	"context"
	"errors"
	"net"
	"time"

	"blocktree"
)

// relayOpenTimeout bounds how long a gateway tries to open its leg to a peer that it has a connection to.
const relayOpenTimeout = 2 * time.Second

// serveRelay takes an accepted lane whose first frame, read next, is a relay frame. An error is one of the peer's that ends the
// carrier; a relay that is refused, or fails, is no error here.
func (e *Endpoint) serveRelay(c carrier, r *reader, proven blocktree.Principal, remote string) error {
	f, b, err := r.readFrame()
	if err != nil {
		return err
	}
	if b == nil {
		return blocktree.E("relay", blocktree.Invalid, errors.New("an empty relay frame"))
	}
	asked, err := decodeRelay(b.data[:f.bodyBytes])
	b.release()
	if err != nil {
		return err
	}
	e.mu.Lock()
	owner := e.accepted[asked.conn]
	e.mu.Unlock()
	if owner == nil || owner.proven != proven || owner.peer.Anonymous() {
		return blocktree.E("relay", blocktree.Unauthenticated, errors.New("a relay of no connection of this peer"))
	}
	if q, ok := c.(*quicCarrier); ok && q.stream.StreamID() != 0 {
		return blocktree.E("relay", blocktree.Invalid, errors.New("a relay beside other lanes of a QUIC connection"))
	}
	near := &relayed{carrier: c, in: r, remote: remote}
	if err := e.enterRelay(owner, asked.target, near); err != nil {
		e.config.Log.Info("relay refused", "for", owner.peer.Path.Short(), "err", err)
		refuse(c, err)
		return nil
	}
	if !e.task(func() { e.relay(near, owner, asked.target) }) {
		_ = near.Close()
	}
	return nil
}

// relayPair is whose relays lead where.
type relayPair struct{ asker, target blocktree.Principal }

// enterRelay counts a relay until near is closed, which the end of owner does. It fails with Busy.
func (e *Endpoint) enterRelay(owner *Conn, target blocktree.Principal, near *relayed) error {
	// A gateway asks for many, where the target is this runtime: those are counted there.
	pair := relayPair{owner.proven, target}
	most := blocktree.RelaysPerTargetMax
	if target == e.config.Key.Principal() {
		most = blocktree.RelaysPerConnectionMax
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	all := 0
	for p, n := range e.relayPairs {
		if p.asker == owner.proven {
			all += n
		}
	}
	switch {
	case e.relayPairs[pair] >= most:
		return tooMany(e.relayPairs[pair])
	case owner.relays >= blocktree.RelaysPerConnectionMax:
		return tooMany(owner.relays)
	case all >= blocktree.RelaysPerPrincipalMax:
		return tooMany(all)
	case e.relays >= blocktree.RelaysMax:
		return tooMany(e.relays)
	}
	owner.relays++
	e.relays++
	e.relayPairs[pair]++
	var stop func() bool // under mu
	near.onClose = func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		stop()
		owner.relays--
		e.relays--
		if e.relayPairs[pair]--; e.relayPairs[pair] == 0 {
			delete(e.relayPairs, pair)
		}
	}
	stop = context.AfterFunc(owner.ended, func() { _ = near.Close() })
	return nil
}

// relay passes bytes on between near and the target until either leg, or one of the connections they hang on, ends. What is for
// this runtime itself becomes a carrier of its own, as if it had been accepted.
func (e *Endpoint) relay(near *relayed, owner *Conn, target blocktree.Principal) {
	opened := frame{kind: frameRelay}
	if target == e.config.Key.Principal() {
		if near.put(opened, nil) != nil {
			_ = near.Close()
			return
		}
		e.serveTCP(near, Relayed) // it closes near, or the lane that it becomes does
		return
	}
	far, standing, err := e.openFar(owner, target)
	if err != nil {
		refuse(near.carrier, err)
		near.leave()
		return
	}
	end := func() { _, _ = near.Close(), far.Close() }
	defer context.AfterFunc(owner.ended, end)()
	defer context.AfterFunc(standing.ended, end)()
	e.config.Log.Info("passing a connection on", "for", owner.peer.Path.Short(), "to", standing.peer.Path.Short())
	if near.carrier.setDeadline(time.Time{}) == nil && near.put(opened, nil) == nil {
		passOn(near, far, nil)
	}
	end()
}

// openFar opens the leg to the target at the place where the connection to it stands, and returns that connection. It fails with
// Unavailable where there is none, or only one that is itself relayed.
func (e *Endpoint) openFar(owner *Conn, target blocktree.Principal) (net.Conn, *Conn, error) {
	if e.config.Relay == nil {
		return nil, nil, blocktree.E("relay", blocktree.Unsupported, errors.New("this runtime relays nothing"))
	}
	standing := e.config.Relay(target)
	if standing == nil || standing.Via() != "" || standing.peer.Principal != target || standing.Err() != nil {
		return nil, nil, blocktree.E("relay", blocktree.Unavailable, errors.New("the gateway has no connection of its own to the runtime"))
	}
	ctx, cancel := context.WithTimeout(standing.ended, relayOpenTimeout)
	defer cancel()
	defer context.AfterFunc(owner.ended, cancel)()
	if standing.transport != TCP {
		far, err := standing.openRelay(ctx, target)
		if err != nil {
			return nil, nil, err
		}
		return far, standing, nil
	}
	far, err := e.config.Network.Dial(ctx, standing.remote)
	if err != nil {
		return nil, nil, blocktree.E("relay", blocktree.Unavailable, err)
	}
	return far, standing, nil
}
