package bttp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

const (
	// addrHeadStart is how long an address may take before the next one is tried beside it: one where nobody is any more says nothing for HandshakeTimeout. It is longer than the head start that
	// TCP has.
	addrHeadStart = 400 * time.Millisecond
	// dialAddrsMax bounds the addresses of one attempt, those that are told of while it lasts among them.
	dialAddrsMax = 16
)

// add has addresses tried next that have not been tried yet: those that were told of before, which may be a liar's, come after them, and the last of these are not tried where they are too many. Endpoint.mu is held.
func (d *dialing) add(addrs []string) {
	at, more := d.begun, false
	for _, a := range addrs {
		i := slices.Index(d.addrs, a)
		if at >= dialAddrsMax || i >= 0 && i < at {
			continue
		}
		if more = more || i < 0; i >= 0 {
			d.addrs = slices.Delete(d.addrs, i, i+1)
		}
		d.addrs = slices.Insert(d.addrs, at, a)
		at++
	}
	d.addrs = d.addrs[:min(len(d.addrs), dialAddrsMax)]
	if more {
		select {
		case d.more <- struct{}{}:
		default:
		}
	}
}

// next is the next address of an attempt, "" where there is none yet; begin says that it is being tried.
func (e *Endpoint) next(d *dialing, begin bool) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d.begun == len(d.addrs) {
		return ""
	}
	a := d.addrs[d.begun]
	if begin {
		d.begun++
	}
	return a
}

// dial tries the addresses of an attempt one after the other: the next when the one before has failed, has taken addrHeadStart, or is told of. The first that is there is used. It ends, too, when the peer is reached and is not what r says, as whoever else waits for it may know better.
func (e *Endpoint) dial(ctx context.Context, r blocktree.Runtime, d *dialing) (*Conn, error) {
	if e.isSelf(r) {
		conn, err := e.dialSelf(ctx, r)
		if err != nil {
			return nil, e.dialError(r, blocktree.KindOf(err), err)
		}
		return conn, nil
	}
	config, err := cred.NewTLSConfig(cred.TLSOptions{Key: e.config.Key, Expect: r.Principal, ALPN: []string{alpn}})
	if err != nil {
		return nil, &blocktree.Error{Op: "bttp.Dial", Runtime: string(r.Path), Err: err}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempt, dialAddrsMax)
	begun, ended := 0, 0
	defer func() { // they end with ctx, soon
		if left := begun - ended; left > 0 {
			e.tasks.Go(func() {
				for range left {
					_ = drop(<-results)
				}
			})
		}
	}()
	var errs []error
	kind := blocktree.Unavailable
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			addr := e.next(d, true)
			if addr == "" {
				continue
			}
			begun++
			next.Reset(addrHeadStart)
			e.tasks.Go(func() { // within a task: the count is not zero
				ctx, cancel := context.WithTimeout(ctx, blocktree.HandshakeTimeout)
				defer cancel()
				conn, err := e.dialAddr(ctx, addr, r, config)
				if err != nil {
					err = fmt.Errorf("%s: %w", addr, err)
				}
				results <- attempt{conn, err}
			})
		case <-d.more:
			next.Reset(0)
		case a := <-results:
			ended++
			if a.err == nil {
				return a.conn, nil
			}
			if k := blocktree.KindOf(a.err); k != blocktree.Other && k != blocktree.Unavailable {
				kind = k
			}
			errs = append(errs, a.err)
			var not notAsSaid
			if errors.As(a.err, &not) || ended == begun && (e.next(d, false) == "" || ctx.Err() != nil) {
				return nil, e.dialError(r, kind, errors.Join(errs...))
			}
			next.Reset(0)
		}
	}
}

// dialError is why a runtime was not reached.
func (e *Endpoint) dialError(r blocktree.Runtime, kind blocktree.Kind, err error) error {
	if e.ctx.Err() != nil {
		kind = blocktree.Closed
	}
	return &blocktree.Error{Op: "bttp.Dial", Runtime: string(r.Path), Kind: kind, Err: err}
}
