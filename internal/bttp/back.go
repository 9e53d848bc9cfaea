package bttp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// backTCPTimeout is how long a dial-back by TCP may take where QUIC is left: some round trips of a long way. backTimeout bounds both.
const (
	backTCPTimeout = 700 * time.Millisecond
	backTimeout    = 3 * time.Second
)

// SendAsk gives an ask to the first leg's peer, and returns what the target has answered once that has agreed. It must end with ctx.
type SendAsk func(ctx context.Context, ask []byte) (answer []byte, err error)

// AskWay makes a connection to a runtime that cannot be dialled, as Dial would have: identities are proven, and bytes sealed, between the two ends. first is a
// connection that Dial has given; send gives the ask to its peer, which passes it on to the runtime (package cluster).
// The connection is the caller's alone. One of mode AskRelay ends with first. It blocks until the runtime has proven who it is, or until ctx ends.
//
// It fails as Dial does, with what send fails with, and with Unsupported for an anonymous caller.
func (e *Endpoint) AskWay(ctx context.Context, mode Mode, first *Conn, r blocktree.Runtime, send SendAsk) (*Conn, error) {
	fail := func(err error) (*Conn, error) {
		return nil, &blocktree.Error{Op: "bttp.AskWay", Runtime: string(r.Path), Err: err}
	}
	if err := e.otherWay(r); err != nil {
		return fail(err)
	}
	own := e.own.Load()
	if len(own.chain) == 0 {
		return fail(blocktree.E("ask", blocktree.Unsupported, errors.New("an anonymous caller cannot ask")))
	}
	if first.opener.open == nil || first.opener.asked {
		return fail(blocktree.E("ask", blocktree.Unsupported, errors.New("the first leg is one that this runtime dials")))
	}
	a := &Ask{Mode: mode, Token: newConnID(), Path: r.Path, Target: r.Principal, Lanes: min(e.config.Lanes, blocktree.AskLanesMax), Time: e.now()}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.ctx, func() { cancel(blocktree.E("ask", blocktree.Closed, errors.New("endpoint closed"))) })()
	make := e.relayAsked
	if mode == AskBack || mode == AskPunch {
		make = e.backAsked
	}
	conn, err := make(ctx, cancel, a, own, first, r, send)
	if why := context.Cause(ctx); err != nil && why != nil && why != ctx.Err() {
		err = why
	}
	if err != nil {
		return fail(err)
	}
	return conn, nil
}

// backAsked waits for the carriers that the target opens.
func (e *Endpoint) backAsked(ctx context.Context, cancel context.CancelCauseFunc, a *Ask, own *credentials, first *Conn, r blocktree.Runtime,
	send SendAsk) (*Conn, error) {
	way, err := e.placeBack(ctx, a, first)
	if err != nil {
		return nil, err
	}
	a.sign(e.config.Key, own.chain)
	waiting := newArrivals(a.Lanes)
	err = e.expect(a.Token, func(x arrival) error {
		if x.proven != r.Principal {
			return blocktree.E("meet", blocktree.Unauthenticated, errors.New("a carrier of somebody who was not asked for"))
		}
		if err := waiting.admit(); err != nil {
			return err
		}
		return waiting.come(x)
	})
	if err != nil {
		return nil, err
	}
	defer waiting.close()
	defer e.forget(a.Token)
	if !e.task(func() {
		answer, err := send(ctx, a.Encode())
		if err == nil && a.Mode == AskPunch {
			err = e.openSide(ctx, answer, first)
		}
		if err != nil {
			cancel(err)
		}
	}) {
		return nil, blocktree.E("ask", blocktree.Closed, errors.New("endpoint closed"))
	}
	next := func(ctx context.Context) (arrival, error) {
		select {
		case x := <-waiting.came:
			return x, x.relayed.taken()
		case <-ctx.Done():
			return arrival{}, ctx.Err()
		}
	}
	lane0, err := next(ctx)
	if err != nil {
		return nil, err
	}
	used := false
	o := opener{transport: lane0.transport, way: way, asked: true, lanes: a.Lanes, open: func(ctx context.Context) (carrier, blocktree.Principal, string, error) {
		x, err := lane0, error(nil)
		if used {
			x, err = next(ctx)
		}
		used = true
		if err == nil && (x.transport != lane0.transport || x.relayed.in.buffered() > 0) {
			_ = x.relayed.Close()
			err = blocktree.E("meet", blocktree.Invalid, errors.New("carriers of two kinds, or more than a meet frame"))
		}
		if err != nil {
			return nil, blocktree.Principal{}, "", lostError("", err)
		}
		return x.relayed.carrier, x.proven, x.relayed.remote, nil
	}}
	conn, err := e.dialWith(ctx, r, o)
	if err != nil && !used {
		_ = lane0.relayed.Close()
	}
	return conn, err
}

// placeBack says in an ask where this runtime is dialled back, and which way that is.
func (e *Endpoint) placeBack(ctx context.Context, a *Ask, first *Conn) (way Way, err error) {
	if a.Mode == AskPunch {
		a.UDP, err = e.punchPort(ctx, first)
		return Punched, err
	}
	a.TCP, a.UDP, err = e.backPorts(ctx)
	return DialedBack, err
}

// backPorts are the ports at which this runtime is dialled back: its own where it listens, else two that it opens when they are first asked for.
func (e *Endpoint) backPorts(ctx context.Context) (tcp, udp uint16, err error) {
	e.backMu.Lock()
	defer e.backMu.Unlock()
	if addrs := e.Addrs(); len(addrs) > 0 {
		at, err := netip.ParseAddrPort(addrs[0])
		if err != nil {
			return 0, 0, blocktree.E("ask", blocktree.Invalid, err)
		}
		if tcp, udp = at.Port(), at.Port(); e.config.Transport == TCP {
			udp = 0
		} else if e.config.Transport == QUIC {
			tcp = 0
		}
		return tcp, udp, nil
	}
	if e.backTCP == 0 && e.backUDP == 0 {
		if err := e.openBack(ctx); err != nil {
			return 0, 0, err
		}
	}
	return e.backTCP, e.backUDP, nil
}

// openBack has an endpoint that only dials take carriers that it has asked for, and nothing else. backMu is held.
func (e *Endpoint) openBack(ctx context.Context) error {
	if e.config.Transport != QUIC {
		config, err := cred.NewTLSConfig(cred.TLSOptions{Key: e.config.Key, ALPN: []string{alpn}, Server: true})
		if err != nil {
			return err
		}
		e.serverTLS, e.asksOnly = config, true
		l, err := e.config.Network.Listen(ctx, ":0")
		if err != nil {
			return socketError(err)
		}
		e.backTCP = uint16(l.Addr().(*net.TCPAddr).Port)
		e.onClose(func() { _ = l.Close() })
		if !e.task(func() { e.acceptTCP(l) }) {
			_ = l.Close()
		}
	}
	if e.config.Transport != TCP {
		return e.openBackQUIC()
	}
	return nil
}

// openBackQUIC has the dialling socket take connections: one that is let out is let back in. backMu is held.
func (e *Endpoint) openBackQUIC() error {
	config, err := cred.NewTLSConfig(cred.TLSOptions{Key: e.config.Key, ALPN: []string{alpn}, Server: true})
	if err != nil {
		return err
	}
	t, err := e.dialTransport()
	if err != nil {
		return err
	}
	l, err := t.Listen(config, quicConfig())
	if err != nil {
		return blocktree.E("listen", blocktree.IO, err)
	}
	e.backUDP = uint16(t.Conn.LocalAddr().(*net.UDPAddr).Port)
	e.onClose(func() { _ = l.Close() })
	e.task(func() { e.acceptQUIC(l, true) })
	return nil
}

// AnswerAsk does what an ask wants that came to its target, by leg, from a runtime seen at host by the first leg; "" where that is not to be dialled.
// asker is what VerifyAsk has said, mirror the address of a runtime
// on the way that both sides reach. It returns what the asker is to be answered, once that can go on, and fails as Config.Admit does, and with Unavailable where the asker is not reached.
func (e *Endpoint) AnswerAsk(ctx context.Context, a *Ask, asker cred.Identity, leg *Conn, host, mirror string) (answer string, err error) {
	if err := e.judge(asker); err != nil {
		return "", err
	}
	e.mu.Lock()
	refused := e.refused
	e.mu.Unlock()
	if refused != nil {
		if err := refused(asker); err != nil {
			return "", err
		}
	}
	if a.Target != e.config.Key.Principal() || a.Path != e.own.Load().identity.Path {
		return "", blocktree.E("ask", blocktree.NotFound, errors.New("another runtime is asked for"))
	}
	ctx, cancel := context.WithTimeout(ctx, backTimeout)
	defer cancel()
	if a.Mode == AskRelay {
		return "", e.endLegs(ctx, a, asker.Principal, leg)
	}
	if !MayDialBack(host, leg.RemoteAddr()) {
		return "", blocktree.E("dial back", blocktree.Unavailable, errors.New("the asker is not seen at an address that can be dialled from here"))
	}
	if a.Mode == AskPunch {
		if !mayReach(mirror, leg.RemoteAddr()) {
			return "", blocktree.E("punch", blocktree.Unavailable, errors.New("the way names no mirror that can be asked from here"))
		}
		return e.answerPunch(ctx, a, asker, host, mirror)
	}
	return "", e.dialBack(ctx, a, asker, host)
}

// dialBack opens the carriers of a connection that the asker begins on them.
func (e *Endpoint) dialBack(ctx context.Context, a *Ask, asker cred.Identity, host string) error {
	config, err := cred.NewTLSConfig(cred.TLSOptions{Key: e.config.Key, Expect: asker.Principal, ALPN: []string{alpn}})
	if err != nil {
		return err
	}
	at := func(port uint16) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }
	var errs []error
	if a.TCP != 0 && e.config.Transport != QUIC {
		within, cancel := ctx, context.CancelFunc(func() {})
		if a.UDP != 0 && e.config.Transport != TCP {
			within, cancel = context.WithTimeout(ctx, backTCPTimeout)
		}
		err := e.openBackTo(within, a, e.openTCP(at(a.TCP), config))
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if a.UDP != 0 && e.config.Transport != TCP {
		err := e.openBackTo(ctx, a, e.openQUIC(at(a.UDP), config))
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return blocktree.E("dial back", blocktree.Unavailable, errors.Join(errs...))
}

// openBackTo opens all carriers and serves what comes on them.
func (e *Endpoint) openBackTo(ctx context.Context, a *Ask, o opener) error {
	type opened struct {
		s      *relayed
		proven blocktree.Principal
	}
	var all []opened
	for range a.Lanes {
		c, proven, remote, err := o.open(ctx)
		if err == nil {
			s := &relayed{carrier: c, in: e.newReader(c), remote: remote}
			all = append(all, opened{s, proven})
			_ = c.setDeadline(time.Now().Add(blocktree.HandshakeTimeout))
			err = s.offer(a.Token)
		}
		if err != nil {
			for _, x := range all {
				_ = x.s.Close()
			}
			return err
		}
	}
	way := DialedBack
	if a.Mode == AskPunch {
		way = Punched
	}
	for _, x := range all {
		if !e.task(func() {
			defer context.AfterFunc(e.ctx, func() { _ = x.s.Close() })()
			if x.s.accept() != nil {
				_ = x.s.Close()
				return
			}
			e.serveHello(x.s.carrier, x.s.in, accepted{x.proven, o.transport, x.s.remote, way, false})
		}) {
			_ = x.s.Close()
		}
	}
	return nil
}

// MayDialBack reports whether a host may be dialled on the word of a runtime at leg, "host:port": one that everybody can reach may, any other only where the leg is of the
// same kind of network, so that nobody has a runtime dial into a network that the asker is not in.
func MayDialBack(host, leg string) bool {
	addr, err := netip.ParseAddr(host)
	from, legErr := netip.ParseAddrPort(leg)
	if err != nil || legErr != nil {
		return false
	}
	kind := networkKind(addr)
	return kind == everywhere || kind != nowhere && kind == networkKind(from.Addr())
}

// mayReach is MayDialBack of an address with a port, "ip:port".
func mayReach(address, leg string) bool {
	at, err := netip.ParseAddrPort(address)
	return err == nil && MayDialBack(at.Addr().String(), leg)
}

// kindOfNetwork is how far an address reaches.
type kindOfNetwork int

const (
	nowhere kindOfNetwork = iota
	everywhere
	private
	onLink
	onMachine
)

func networkKind(a netip.Addr) kindOfNetwork {
	switch a = a.Unmap().WithZone(""); {
	case a.IsLoopback():
		return onMachine
	case a.IsLinkLocalUnicast():
		return onLink
	case a.IsPrivate():
		return private
	case a.IsGlobalUnicast():
		return everywhere
	}
	return nowhere
}
