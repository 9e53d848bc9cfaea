package bttp

import (
	"context"
	"errors"

	"blocktree"
	"blocktree/crypto/cred"
)

// Discover finds out who is at an address, for who knows nothing but that: a seed of DNS. It says no more than that, and leaves no connection; Dial is what reaches who was found. Kinds: Unavailable,
// Unauthenticated (nobody of the domain), Timeout, Canceled.
func (e *Endpoint) Discover(ctx context.Context, addr string) (cred.Identity, error) {
	const op = "bttp.Discover"
	config, err := cred.NewTLSConfig(cred.TLSOptions{Key: e.config.Key, Anybody: true, ALPN: []string{alpn}})
	if err != nil {
		return cred.Identity{}, &blocktree.Error{Op: op, Path: addr, Err: err}
	}
	openers := []opener{e.openTCP(addr, config), e.openQUIC(addr, config)}
	switch e.config.Transport {
	case TCP:
		openers = openers[:1]
	case QUIC:
		openers = openers[1:]
	}
	var errs []error
	for _, o := range openers {
		limited, cancel := context.WithTimeout(ctx, blocktree.HandshakeTimeout/2)
		id, err := e.discover(limited, o)
		cancel()
		if err == nil {
			return id, nil
		}
		if errs = append(errs, err); blocktree.KindOf(err) == blocktree.Unauthenticated {
			break // somebody is there, and says who it is
		}
	}
	return cred.Identity{}, &blocktree.Error{Op: op, Path: addr, Kind: blocktree.KindOf(errs[len(errs)-1]), Err: errors.Join(errs...)}
}

// discover exchanges hellos by one carrier.
func (e *Endpoint) discover(ctx context.Context, o opener) (id cred.Identity, err error) {
	c, _, answer, proven, _, err := e.openLane(ctx, o, &hello{conn: newConnID(), lanes: 1, chain: e.own.Load().chain})
	if err != nil {
		return id, err
	}
	defer c.close()
	id, err = e.identify(answer.chain, proven)
	if err == nil && id.Anonymous() {
		err = blocktree.E("hello", blocktree.Unauthenticated, errors.New("it shows no credentials"))
	}
	return id, err
}
