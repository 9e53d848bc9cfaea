package bttp

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// A relay of several legs: each runtime that an ask went through passes bytes on between the one before and the one behind it, on carriers beside the two standing connections.
// Whoever dialled a standing connection opens the carriers beside it.

// Legs are what a runtime passes on for one ask.
type Legs struct {
	endpoint  *Endpoint
	token     askToken
	near, far *leg
	stop      context.CancelFunc // of both standing connections' watch
	ended     context.Context
	done      chan struct{}
}

// leg is one side.
type leg struct {
	conn *Conn
	*arrivals
}

func newLeg(c *Conn, lanes int) *leg { return &leg{c, newArrivals(lanes)} }

// take takes a carrier of the leg's peer, which has to open them.
func (l *leg) take(x arrival) error {
	if l.conn.dialed || l.conn.proven != x.proven {
		return errNotOnTheWay
	}
	if err := l.admit(); err != nil {
		return err
	}
	if err := x.relayed.taken(); err != nil {
		return err
	}
	_ = x.relayed.carrier.setDeadline(time.Time{})
	return l.come(x)
}

var errNotOnTheWay = blocktree.E("meet", blocktree.Unauthenticated, errors.New("a carrier of somebody who is not on the way"))

// open opens the carriers of a leg whose standing connection this runtime has dialled; of another nothing is to be done.
func (l *leg) open(ctx context.Context, token askToken) error {
	if !l.conn.dialed {
		return nil
	}
	for range cap(l.came) {
		s, err := l.conn.openMeet(ctx, token)
		if err != nil {
			return err
		}
		if err := l.come(arrival{relayed: s}); err != nil { // it is over
			_ = s.Close()
			return err
		}
	}
	return nil
}

// askerLegs are those of one asker.
type askerLegs struct {
	count int
	pace  *pace
}

// JoinLegs has carriers of an ask passed on between the leg before and the one behind, once both have come. It fails with Busy over a bound, Exists where the ask has been here, Closed.
func (e *Endpoint) JoinLegs(a *Ask, asker cred.Identity, near, far *Conn) (*Legs, error) {
	if near.proven == far.proven {
		return nil, blocktree.E("relay", blocktree.Invalid, errors.New("back to where it came from"))
	}
	if far.dialed && far.opener.asked || near.dialed && near.opener.asked {
		return nil, blocktree.E("relay", blocktree.Unavailable, errors.New("a leg that was asked for itself"))
	}
	by, err := e.enterLegs(asker.Principal, a.Lanes)
	if err != nil {
		return nil, err
	}
	l := &Legs{endpoint: e, token: a.Token, done: make(chan struct{})}
	l.ended, l.stop = context.WithCancel(e.ctx)
	l.near, l.far = newLeg(near, a.Lanes), newLeg(far, a.Lanes)
	err = e.expect(a.Token, l.arrive)
	if err == nil && !e.task(func() { l.run(a, asker.Principal, by) }) {
		e.forget(a.Token)
		err = blocktree.E("relay", blocktree.Closed, errors.New("endpoint closed"))
	}
	if err != nil {
		l.stop()
		e.leaveLegs(asker.Principal, a.Lanes)
		return nil, err
	}
	return l, nil
}

// OpenFar opens what this runtime has to open to the next one, once that has agreed; OpenNear to the one before, before this one agrees.
func (l *Legs) OpenFar(ctx context.Context) error { return l.far.open(ctx, l.token) }

// OpenNear see OpenFar.
func (l *Legs) OpenNear(ctx context.Context) error { return l.near.open(ctx, l.token) }

// Drop ends what has come about, and waits until nothing is left of it.
func (l *Legs) Drop() {
	l.stop()
	<-l.done
}

// arrive is a meeting.
func (l *Legs) arrive(x arrival) error {
	if l.near.conn.proven == x.proven {
		return l.near.take(x)
	}
	return l.far.take(x)
}

// run pairs carriers and passes their bytes on, until all have ended. Each ends with either of the standing connections.
func (l *Legs) run(a *Ask, asker blocktree.Principal, by *askerLegs) {
	defer close(l.done)
	e := l.endpoint
	defer e.leaveLegs(asker, a.Lanes)
	defer l.stop()
	defer context.AfterFunc(l.near.conn.ended, l.stop)()
	defer context.AfterFunc(l.far.conn.ended, l.stop)()
	e.config.Log.Info("passing a connection on", "for", l.near.conn.peer.Path.Short(), "to", l.far.conn.peer.Path.Short())
	begun, cancel := context.WithTimeout(l.ended, 2*blocktree.HandshakeTimeout)
	next := func(side *leg) *relayed {
		select {
		case x := <-side.came:
			return x.relayed
		case <-begun.Done():
			return nil
		}
	}
	var all sync.WaitGroup
	for range a.Lanes {
		near, far := next(l.near), next(l.far)
		if near == nil || far == nil {
			for _, s := range []*relayed{near, far} {
				if s != nil {
					_ = s.Close()
				}
			}
			l.stop() // a connection whose other lanes do not come is none
			break
		}
		all.Go(func() {
			defer context.AfterFunc(l.ended, func() { _, _ = near.Close(), far.Close() })()
			passOn(near, far, func(n int) { by.pace.take(l.ended, n); e.legPace.take(l.ended, n) })
		})
	}
	e.forget(l.token)
	cancel()
	l.near.close()
	l.far.close()
	all.Wait()
}

// enterLegs counts lanes that are passed on for an asker. It fails with Busy.
func (e *Endpoint) enterLegs(asker blocktree.Principal, lanes int) (*askerLegs, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	by := e.legs[asker]
	if by == nil {
		by = &askerLegs{pace: newPace(blocktree.LegRelayBytesPerSecondPerPrincipal)}
	}
	if by.count+lanes > blocktree.LegRelaysPerPrincipalMax || e.legCount+lanes > blocktree.LegRelaysMax {
		return nil, tooMany(by.count)
	}
	by.count += lanes
	e.legs[asker] = by
	e.legCount += lanes
	return by, nil
}

func (e *Endpoint) leaveLegs(asker blocktree.Principal, lanes int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.legCount -= lanes
	if by := e.legs[asker]; by.count > lanes {
		by.count -= lanes
	} else {
		delete(e.legs, asker)
	}
}

// endLegs is the target's end of a relay: what comes on its carriers is served as what comes from a listener.
func (e *Endpoint) endLegs(ctx context.Context, a *Ask, asker blocktree.Principal, near *Conn) error {
	if _, err := e.enterLegs(asker, a.Lanes); err != nil {
		return err
	}
	end := newLeg(near, a.Lanes)
	serve := func() {
		var s *relayed
		select {
		case x := <-end.came:
			s = x.relayed
		default: // it is over, just now
			return
		}
		endWithLeg(s, near)
		if !e.task(func() { e.serveTCP(s, Relayed) }) {
			_ = s.Close()
		}
	}
	if err := e.expect(a.Token, func(x arrival) error {
		err := end.take(x)
		if err == nil {
			serve()
		}
		return err
	}); err != nil { // the token is somebody else's, who goes on expecting it
		e.leaveLegs(asker, a.Lanes)
		return err
	}
	err := end.open(ctx, a.Token)
	if err == nil && near.dialed {
		for range a.Lanes {
			serve()
		}
	}
	over := func() { e.forget(a.Token); end.close(); e.leaveLegs(asker, a.Lanes) }
	if err != nil || !e.task(func() { // the asker opens at once, or never; the connections that come of it count as any other does
		t := time.NewTimer(blocktree.HandshakeTimeout)
		defer t.Stop()
		select {
		case <-t.C:
		case <-near.dying:
		case <-e.ctx.Done():
		}
		over()
	}) {
		over()
	}
	return err
}

// endWithLeg closes a carrier when the standing connection that it lies beside has ended.
func endWithLeg(s *relayed, standing *Conn) {
	ready := make(chan struct{})
	var stop func() bool
	s.onClose = func() { <-ready; stop() }
	stop = context.AfterFunc(standing.ended, func() { _ = s.Close() })
	close(ready)
}

// relayAsked makes the connection over legs that are there once send has returned.
func (e *Endpoint) relayAsked(ctx context.Context, _ context.CancelCauseFunc, a *Ask, own *credentials, first *Conn, r blocktree.Runtime,
	send SendAsk) (*Conn, error) {
	config, err := cred.NewTLSConfig(cred.TLSOptions{Key: e.config.Key, Expect: r.Principal, ALPN: []string{alpn}})
	if err != nil {
		return nil, err
	}
	a.sign(e.config.Key, own.chain)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(first.ended, cancel)()
	if _, err := send(ctx, a.Encode()); err != nil {
		return nil, err
	}
	conn, err := e.dialWith(ctx, r, first.openLegs(a, config))
	if err == nil && !e.task(func() { conn.endWith(first) }) {
		conn.fail(blocktree.E("bttp", blocktree.Closed, errors.New("endpoint closed")))
	}
	return conn, err
}

// openLegs opens lanes by the legs of an ask, of which c is the first: TLS to the target within what is passed on.
func (c *Conn) openLegs(a *Ask, config *tls.Config) opener {
	return opener{transport: c.transport, via: c.peer.Path, way: Relayed, asked: true, lanes: a.Lanes,
		open: func(ctx context.Context) (carrier, blocktree.Principal, string, error) {
			s, err := c.openMeet(ctx, a.Token)
			if err != nil {
				return nil, blocktree.Principal{}, "", err
			}
			return c.secured(ctx, s, config)
		}}
}

// openMeet opens one more carrier to the peer of c, with a connection of its own, and has the peer take it for the ask. c was dialed.
func (c *Conn) openMeet(ctx context.Context, token askToken) (*relayed, error) {
	s, stop, err := c.openBeside(ctx)
	if err != nil {
		return nil, err
	}
	if err = s.offer(token); err == nil {
		err = s.accept()
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.carrier.close()
		return nil, lostError(string(c.peer.Path), err)
	}
	return s, nil
}

// offer sends the meet frame, accept waits until it is taken.
func (s *relayed) offer(token askToken) error {
	body := encodeMeet(token)
	return s.put(frame{kind: frameMeet, bodyBytes: len(body)}, body)
}

func (s *relayed) accept() error { return s.await(frameMeet) }

// pace lets so many bytes through in a second, and at most a twentieth of that at once.
type pace struct {
	perSecond int
	mu        sync.Mutex
	next      time.Time // when what was let through will have been due
}

func newPace(perSecond int) *pace { return &pace{perSecond: perSecond} }

// take waits until n bytes may go, or ctx ends.
func (p *pace) take(ctx context.Context, n int) {
	p.mu.Lock()
	now := time.Now()
	if at := now.Add(-time.Second / 20); p.next.Before(at) {
		p.next = at
	}
	p.next = p.next.Add(time.Duration(n) * time.Second / time.Duration(p.perSecond))
	wait := p.next.Sub(now)
	p.mu.Unlock()
	if wait <= 0 {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
