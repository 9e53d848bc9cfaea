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

// Punching holes: two runtimes that are both behind firewalls or NAT send to each other's outside address at about the same moment, so that each takes what comes for
// an answer. It is a dial-back by QUIC to the port that the asker has outside; the asker opens its own side for the address that the target has there.

const (
	// punchProbe bounds how long each side asks a mirror.
	punchProbe = time.Second
	// punchAfter is how long after its answer the target begins: the moment at which the answer has come to the asker, who begins then. QUIC's own
	// repetitions make up for the rest.
	punchAfter = 100 * time.Millisecond
	// punchTimes and punchEvery are how often the asker opens its side, in case the first is lost, or the target's begins late.
	punchTimes = 10
	punchEvery = 50 * time.Millisecond
)

// punchable reports whether this runtime has a socket to punch with.
func (e *Endpoint) punchable() error {
	if e.config.Transport == TCP {
		return blocktree.E("punch", blocktree.Unsupported, errors.New("only QUIC crosses firewalls on both sides"))
	}
	return nil
}

// punchPort is the port at which the asker is reached, as the first leg sees it.
func (e *Endpoint) punchPort(ctx context.Context, first *Conn) (uint16, error) {
	if err := e.punchable(); err != nil {
		return 0, err
	}
	if err := e.openPunch(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, punchProbe)
	defer cancel()
	at, err := e.outside(ctx, first.remote)
	return at.Port(), err
}

// openPunch has the dialling socket take connections, those with a token that this runtime has drawn.
func (e *Endpoint) openPunch() error {
	e.backMu.Lock()
	defer e.backMu.Unlock()
	if e.backUDP != 0 {
		return nil
	}
	return e.openBackQUIC()
}

// openSide lets the target in, which is seen at an address, by sending there. The address is the word of who is on the way, first the nearest of them: nobody there has this runtime
// send into a network of its own.
func (e *Endpoint) openSide(ctx context.Context, answer []byte, first *Conn) error {
	to, err := netip.ParseAddrPort(string(answer))
	if err != nil || !mayReach(string(answer), first.remote) {
		return blocktree.E("punch", blocktree.Invalid, errors.New("the target says no address"))
	}
	t, err := e.dialTransport()
	if err != nil {
		return err
	}
	if !e.task(func() {
		for range punchTimes {
			_, _ = t.WriteTo([]byte{0}, net.UDPAddrFromAddrPort(to)) // what becomes of it is of no interest
			select {
			case <-ctx.Done():
				return
			case <-time.After(punchEvery):
			}
		}
	}) {
		return blocktree.E("punch", blocktree.Closed, errors.New("endpoint closed"))
	}
	return nil
}

// answerPunch finds out where this runtime is seen, by the mirror that the ask's way names, says so, and dials back soon after.
func (e *Endpoint) answerPunch(ctx context.Context, a *Ask, asker cred.Identity, host, mirror string) (string, error) {
	if err := e.punchable(); err != nil {
		return "", err
	}
	config, err := cred.NewTLSConfig(cred.TLSOptions{Key: e.config.Key, Expect: asker.Principal, ALPN: []string{alpn}})
	if err != nil {
		return "", err
	}
	probe, cancel := context.WithTimeout(ctx, punchProbe)
	defer cancel()
	at, err := e.outside(probe, mirror)
	if err != nil {
		return "", err
	}
	to := net.JoinHostPort(host, strconv.Itoa(int(a.UDP)))
	if !e.task(func() {
		ctx, cancel := context.WithTimeout(e.ctx, backTimeout)
		defer cancel()
		select {
		case <-ctx.Done():
			return
		case <-time.After(punchAfter):
		}
		if err := e.openBackTo(ctx, a, e.openQUIC(to, config)); err != nil {
			e.config.Log.Info("no hole was punched", "for", asker.Path.Short(), "err", err)
		}
	}) {
		return "", blocktree.E("punch", blocktree.Closed, errors.New("endpoint closed"))
	}
	return at.String(), nil
}
