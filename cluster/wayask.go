package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
)

// How a client reaches nodes that cannot be dialled: it asks runtimes that can (docs/design/0034-firewalls.md).

const (
	// askAfter is how long a node's own way may take before a dial-back is asked for, and a dial-back before a relay: longer than a handshake, and
	// than the head start that TCP has.
	askAfter = detourAfter
	// betterMin and betterMax bound the pauses between two tries of a better way than a relay, each of which has a node dial somebody.
	betterMin = 2 * time.Second
	betterMax = 30 * time.Second
	// betterTimeout bounds one of them, and the first: each way is begun askAfter later than the one before, and takes some round trips, and repetitions.
	betterTimeout = 5 * time.Second
	// idleMax is how long calls in flight may take to end on a way that is left: a peer answers within MemberTimeout, or counts as slow.
	idleMax = 10 * time.Second
)

// ways dials nodes, and asks for ways where that does not help.
type ways struct {
	peers   *peers                                        // of whose nodes others may be asked; nil: there are none
	parents func(dir blocktree.Scope) []blocktree.Runtime // of clusters above a directory, or others that know it
	own     func(context.Context, blocktree.Runtime) (*bttp.Conn, error)
	ask     func(context.Context, bttp.Mode, *bttp.Conn, blocktree.Runtime) (*bttp.Conn, error)

	mu   sync.Mutex
	hard map[blocktree.Principal]bool // who was reached only by asking, the last time: at most the nodes that are known
}

// askBy puts an ask to its first runtime, over an endpoint.
func askBy(endpoint *bttp.Endpoint) func(context.Context, bttp.Mode, *bttp.Conn, blocktree.Runtime) (*bttp.Conn, error) {
	return func(ctx context.Context, mode bttp.Mode, first *bttp.Conn, r blocktree.Runtime) (*bttp.Conn, error) {
		return endpoint.AskWay(ctx, mode, first, r, func(ctx context.Context, ask []byte) ([]byte, error) {
			reply, err := first.CallWait(ctx, codeWay, (&wayHeader{}).encode(), ask)
			defer reply.Release()
			return bytes.Clone(reply.Header), err
		})
	}
}

// newWays has the nodes of p reached by the ways that parents know of, too.
func newWays(p *peers, parents func(dir blocktree.Scope) []blocktree.Runtime) *ways {
	w := &ways{peers: p, parents: parents, own: p.dialOwn, hard: map[blocktree.Principal]bool{}}
	w.ask = askBy(p.endpoint)
	p.dialOwn, p.dialBetter, p.dialTimeout = w.dial, w.better, betterTimeout
	return w
}

// dial connects to a node: by its own way; if that takes longer than askAfter, or fails, by a dial-back; and if that does, by a relay. The first to come up is used.
func (w *ways) dial(ctx context.Context, r blocktree.Runtime) (*bttp.Conn, error) {
	return w.race(ctx, r, bttp.AskRelay)
}

// better is dial with a punched hole instead of a relay: a hole takes longer, and nobody knows whether it comes about.
func (w *ways) better(ctx context.Context, r blocktree.Runtime) (*bttp.Conn, error) {
	return w.race(ctx, r, bttp.AskPunch)
}

// race starts one way after the other: the next when the one before has failed, or has taken askAfter.
func (w *ways) race(ctx context.Context, r blocktree.Runtime, last bttp.Mode) (*bttp.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	starts := []func() (*bttp.Conn, error){
		func() (*bttp.Conn, error) { return w.own(ctx, r) },
		func() (*bttp.Conn, error) { return w.askAll(ctx, bttp.AskBack, r) },
		func() (*bttp.Conn, error) { return w.askAll(ctx, last, r) },
	}
	type result struct {
		attempt
		own bool
	}
	results := make(chan result, len(starts))
	started, ended := 0, 0
	defer func() {
		cancel()
		for ; ended < started; ended++ { // they end with ctx, soon
			if a := <-results; a.err == nil && a.conn.Asked() {
				_ = a.conn.Close()
			}
		}
	}()
	start := func() {
		f, own := starts[started], started == 0
		started++
		go func() { // waited for above
			conn, err := f()
			results <- result{attempt{conn, err}, own}
		}()
	}
	next := time.NewTimer(askAfter)
	defer next.Stop()
	if start(); w.isHard(r.Principal) {
		start()
	}
	var errs []error
	kind := blocktree.Unavailable
	for {
		select {
		case a := <-results:
			ended++
			if a.err == nil {
				w.setHard(r.Principal, a.conn.Asked())
				return a.conn, nil
			}
			if errs = append(errs, a.err); a.own { // Unauthenticated may be a stranger who has the node's address in this network: asking is of use
				kind = blocktree.KindOf(a.err)
			}
			if ended == len(starts) {
				return nil, &blocktree.Error{Op: "dial", Runtime: r.Path.Short(), Kind: kind, Err: errors.Join(errs...)}
			}
			next.Reset(0)
		case <-next.C:
			if started < len(starts) {
				start()
				next.Reset(askAfter)
			}
		}
	}
}

func (w *ways) isHard(p blocktree.Principal) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hard[p]
}

func (w *ways) setHard(p blocktree.Principal, hard bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.hard, p); hard {
		w.hard[p] = true
	}
}

// askAll asks one runtime after the other that can be reached: nodes of the cluster itself, then parents in the order in which they answer.
func (w *ways) askAll(ctx context.Context, mode bttp.Mode, r blocktree.Runtime) (*bttp.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := []error{errNobodyToAsk}
	var siblings []*peer
	if w.peers != nil {
		siblings = w.peers.gateways(nil)
	}
	for _, g := range siblings {
		if conn := g.conn.Load(); conn != nil && conn.Way() == bttp.Direct && g.runtime.Principal != r.Principal {
			won, err := w.ask(ctx, mode, conn, r)
			if err == nil || ctx.Err() != nil {
				return won, err
			}
			errs = append(errs, err)
		}
	}
	parents := w.parents(r.Path.Parent())
	firsts := make(chan attempt, len(parents))
	for _, p := range parents {
		go func() { // Dial ends with ctx, and firsts has room
			p.Services = []string{blocktree.ServiceSector}
			conn, err := w.own(ctx, p)
			firsts <- attempt{conn, err}
		}()
	}
	for range parents {
		var first attempt
		select {
		case first = <-firsts:
		case <-ctx.Done():
			return nil, blocktree.E("ask", blocktree.Timeout, ctx.Err())
		}
		if first.err != nil {
			errs = append(errs, first.err)
			continue
		}
		won, err := w.ask(ctx, mode, first.conn, r)
		if err == nil {
			return won, nil
		}
		errs = append(errs, fmt.Errorf("by %s: %w", first.conn.Peer().Path.Short(), err))
	}
	return nil, blocktree.E("ask", blocktree.Unavailable, errs[len(errs)-1])
}

var errNobodyToAsk = errors.New("no runtime that can be asked")

// attendServing waits for the end of a connection on which the node serves, and changes to better ways meanwhile. It returns another connection where that is to
// take its place, which has ended.
func (p *peers) attendServing(q *peer, conn *bttp.Conn) (next *bttp.Conn) {
	for {
		switch {
		case conn.Asked():
			better, ended := p.attendAsked(q, conn)
			if ended {
				return better
			}
			conn = better
		case conn.Via() == "":
			p.attendOwn(q, conn)
			return nil
		default:
			return p.attendVia(q, conn)
		}
	}
}

// attendAsked waits for the end of a connection that somebody was asked for, or for a better way than a relay. That one is used at once, and calls in flight end on
// the old one, which then is closed: nobody notices. Where the old one has ended first it says so.
func (p *peers) attendAsked(q *peer, conn *bttp.Conn) (better *bttp.Conn, ended bool) {
	p.logger.Info("node is reached by asking others", "node", q.runtime.Path.Short(), "way", string(conn.Way()), "via", string(conn.Via()))
	if conn.Way() != bttp.Relayed {
		select {
		case <-conn.Done():
		case <-q.ctx.Done():
			_ = conn.Close()
		}
		return nil, true
	}
	better = p.awaitBetter(q, conn)
	if better == nil || conn.Err() != nil {
		_ = conn.Close()
		return better, true
	}
	p.logger.Info("node is reached by a better way", "node", q.runtime.Path.Short(), "way", string(better.Way()))
	q.conn.Store(better)
	for until := time.Now().Add(idleMax); conn.InFlight() > 0 && time.Now().Before(until); {
		if !q.sleep(conn, idleLook) {
			break
		}
	}
	_ = conn.Close()
	p.mu.Lock()
	as := q.as
	p.mu.Unlock()
	p.tell(q, true, as) // who was about to call on the old way sends again what nobody has answered
	return better, false
}

// idleLook is how often it is looked whether a way that is left is idle.
const idleLook = 20 * time.Millisecond

// awaitBetter tries for a better way until a connection has proven itself, and returns it, or nil when the relay has ended before.
func (p *peers) awaitBetter(q *peer, relay *bttp.Conn) *bttp.Conn {
	for pause := betterMin; q.sleep(relay, pause); pause = min(2*pause, betterMax) {
		ctx, cancel := context.WithTimeout(q.ctx, betterTimeout)
		found := p.dialSoon(ctx, q, p.dialBetter, func() {})
		select {
		case a := <-found:
			cancel()
			if a.err != nil {
				continue
			}
			if p.proves(q, relay, a.conn) {
				return a.conn
			}
			if a.conn.Asked() {
				_ = a.conn.Close()
			}
		case <-relay.Done():
			cancel()
			return nil
		}
	}
	return nil
}

// leaveAsked ends a connection that was asked for, on which the node said no hello.
func (p *peers) leaveAsked(q *peer, conn *bttp.Conn, err error) {
	_ = conn.Close()
	if p.exhausted(q) {
		p.silent(q, err)
	}
	q.sleep(nil, redialMin)
}
