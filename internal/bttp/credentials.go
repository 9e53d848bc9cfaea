package bttp

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// codeCredentials is the one code of messages that is the transport's own: the body is a chain, with which the sender asks to be known from
// now on. A peer of a version before has it answered by its handler, with Unsupported.
const codeCredentials uint16 = 0xffff

const (
	// showTimeout bounds one try to show new credentials, showPause is between two of them.
	showTimeout = 5 * time.Second
	showPause   = 10 * time.Second
	// laneWait is how long a connection that has no lane yet is left alone.
	laneWait = 50 * time.Millisecond
	// shownEvery is how often a peer may show new ones: each costs as many checks of signatures as a hello.
	shownEvery = time.Second
)

// credentials are this runtime's own and what they say. They are not changed.
type credentials struct {
	chain    cred.Credentials
	identity cred.Identity
}

// verify makes the credentials of this runtime's key. It fails as cred.Verify, and with Invalid for another key.
func (e *Endpoint) verify(chain cred.Credentials) (*credentials, error) {
	id, err := cred.Verify(chain, e.config.Root, e.now())
	if err != nil {
		return nil, err
	}
	if id.Principal != e.config.Key.Principal() {
		return nil, blocktree.E("credentials", blocktree.Invalid, errors.New("the credentials are of another key"))
	}
	return &credentials{chain, id}, nil
}

// SetCredentials has this runtime known by newer credentials of the same key and path: at once where connections begin, and on those that
// exist as soon as their peers have taken them, which it does not wait for. It fails as New does, with Invalid also for another path.
func (e *Endpoint) SetCredentials(chain cred.Credentials) error {
	const op = "bttp.SetCredentials"
	own, err := e.verify(chain)
	if err != nil {
		return &blocktree.Error{Op: op, Err: err}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if slices.EqualFunc(e.own.Load().chain, own.chain, sameLink) {
		return nil
	}
	if before := e.own.Load().identity; before.Path != own.identity.Path {
		return &blocktree.Error{Op: op, Path: own.identity.Path.Short(), Kind: blocktree.Invalid, Err: errors.New("the credentials are for another path"),
			Hint: "a runtime that moves is started anew"}
	}
	e.own.Store(own)
	for c := range e.conns {
		e.show(c)
	}
	return nil
}

// sameLink compares links of one key each: a signature is of all that a link says.
func sameLink(a, b cred.Certificate) bool { return bytes.Equal(a.Signature, b.Signature) }

// show has a goroutine show the peer of a connection this runtime's credentials, if it has older ones; mu is held.
func (e *Endpoint) show(c *Conn) {
	if e.closed || c.showing || c.told == e.own.Load() {
		return
	}
	c.showing = true
	e.tasks.Add(1)
	go func() { defer e.tasks.Done(); c.show() }()
}

// show shows the newest credentials until the peer has taken them, or cannot, or the connection ends.
func (c *Conn) show() {
	e := c.endpoint
	for said := false; ; {
		own := e.own.Load()
		pause := laneWait
		if len(*c.laneList.Load()) > 0 {
			ctx, cancel := context.WithTimeout(c.ended, showTimeout)
			reply, err := c.CallWait(ctx, codeCredentials, nil, own.chain.Encode())
			cancel()
			reply.Release()
			if err == nil || blocktree.KindOf(err) == blocktree.Unsupported {
				if c.hasTold(own) {
					return
				}
				continue
			}
			if pause = showPause; blocktree.KindOf(err) == blocktree.Busy {
				pause = shownEvery
			} else if !said && c.Err() == nil {
				said = true
				e.config.Log.Warn("a peer does not take this runtime's new credentials", "peer", c.peer.Path.Short(), "err", err)
			}
		}
		select {
		case <-c.dying:
			return
		case <-time.After(pause):
		}
	}
}

// hasTold notes what the peer knows, and reports whether that is the newest.
func (c *Conn) hasTold(own *credentials) bool {
	c.endpoint.mu.Lock()
	defer c.endpoint.mu.Unlock()
	c.told = own
	c.showing = own != c.endpoint.own.Load()
	return !c.showing
}

// serveCredentials goes by what the peer shows.
func (c *Conn) serveCredentials(r *Request) {
	defer r.Release()
	if r.OneWay {
		return
	}
	if err := c.takeCredentials(r.Body); err != nil {
		if blocktree.KindOf(err) != blocktree.Busy { // which a peer may be as often as it likes
			c.endpoint.config.Log.Info("new credentials refused", "peer", c.peer.Path.Short(), "err", err)
		}
		r.Fail(err)
		return
	}
	r.Reply(nil)
}

func (c *Conn) takeCredentials(body []byte) error {
	e := c.endpoint
	c.mu.Lock()
	since := time.Since(c.shown)
	if since >= shownEvery {
		c.shown = time.Now()
	}
	c.mu.Unlock()
	if since < shownEvery {
		return blocktree.E("credentials", blocktree.Busy, errors.New("shown too often"))
	}
	if c.peer.Anonymous() {
		return blocktree.E("credentials", blocktree.Unauthenticated, errors.New("an anonymous caller has none on this connection"))
	}
	chain, err := cred.Decode(body)
	if err != nil {
		return err
	}
	id, err := e.identify(chain, c.proven)
	switch {
	case err != nil:
		return err
	case id.Principal != c.peer.Principal || id.Path != c.peer.Path: // anonymous callers too
		return blocktree.E("credentials", blocktree.Unauthenticated, errors.New("another identity than the connection's"))
	}
	if c.dialed {
		for _, s := range c.peer.Services { // what it was dialled for is among them
			if !id.Allows(s) {
				return blocktree.E("credentials", blocktree.Unauthenticated, errors.New("service "+s+" is not among them any more"))
			}
		}
	} else if err := e.judge(id); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refused != nil {
		if err := e.refused(id); err != nil {
			return err
		}
	}
	c.now.Store(&id)
	return nil
}

// SetRefused has f say, from now on, whom this runtime has no connection with, in either direction: nil, or why. Connections of those that
// it refuses end before SetRefused returns, those that begin are refused with the error. f must not block, nor call the endpoint.
func (e *Endpoint) SetRefused(f func(cred.Identity) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refused = f
	for c := range e.conns {
		if err := f(c.Peer()); err != nil {
			e.config.Log.Warn("connection cut", "peer", c.peer.Path.Short(), "err", err)
			c.fail(&blocktree.Error{Op: "bttp", Runtime: string(c.peer.Path), Err: err})
		}
	}
}
