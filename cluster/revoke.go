package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

const (
	// revokeSkew is how far the time in a revocation may be from the clock of the node that takes it: it makes room by that time.
	revokeSkew = time.Hour
	// revokedEvery is how often a client asks who is revoked.
	revokedEvery = time.Minute
)

// revoked is what a runtime has heard of principals that are believed no more: at most meta.RevokedMax revocations, as many as a cluster keeps.
type revoked struct {
	mu    sync.RWMutex
	by    map[blocktree.Principal][]meta.Revocation
	count int
}

// add adds to what was heard, and reports whether any of it is new. whole says that the list is all that the cluster has, if who answered is to be believed. Where there are more
// than can be, those are forgotten that have ended by now, as the cluster does; and then, of one who has told of more than a cluster keeps, all but what it says now.
func (r *revoked) add(list []meta.Revocation, now time.Time, whole bool) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news = r.note(list)
	if r.count > meta.RevokedMax {
		ended := now.UnixNano()
		for i := range list { // the cluster forgets by the time in the command
			if !whole {
				ended = max(ended, list[i].Time)
			}
		}
		r.forget(ended - int64(meta.RevokedAfter))
	}
	if whole && r.count > meta.RevokedMax {
		r.by, r.count = nil, 0
		r.note(list)
	}
	return news
}

// note adds a list to what is kept. The later end of two revocations of one principal below one path counts.
func (r *revoked) note(list []meta.Revocation) (news bool) {
	if r.by == nil {
		r.by = map[blocktree.Principal][]meta.Revocation{}
	}
	for _, x := range list {
		known := r.by[x.Principal]
		if i := slices.IndexFunc(known, func(y meta.Revocation) bool { return y.Scope == x.Scope }); i >= 0 {
			known[i].Until = max(known[i].Until, x.Until)
			continue
		}
		r.by[x.Principal] = append(known, x)
		r.count++
		news = true
	}
	return news
}

// forget drops what ended before a time.
func (r *revoked) forget(before int64) {
	r.count = 0
	for p, list := range r.by {
		list = slices.DeleteFunc(list, func(x meta.Revocation) bool { return x.Until < before })
		if r.by[p] = list; len(list) == 0 {
			delete(r.by, p)
		}
		r.count += len(list)
	}
}

// refuses says why a runtime is not believed, nil if it is. It is what bttp.Endpoint.SetRefused takes.
func (r *revoked) refuses(id cred.Identity) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, p := range id.Chain {
		for _, x := range r.by[p] {
			if x.Covers(id.Path, id.Chain) {
				return &blocktree.Error{Op: "credentials", Path: id.Path.Short(), Kind: blocktree.Unauthenticated,
					Err: errors.New("principal " + p.String() + " was revoked"), Hint: meta.RevokedHint}
			}
		}
	}
	return nil
}

// permitRevoke says whether from may revoke: user id 0, at and below its own path.
func (s *Service) permitRevoke(from cred.Identity, o meta.RevokePrincipal) error {
	skew := time.Duration(s.cfg.Clock.Now().UnixNano() - o.Time)
	switch {
	case from.Anonymous() || from.UID != 0:
		return &blocktree.Error{Op: "cluster", Kind: blocktree.Permission, Err: errors.New("only user id 0 revokes"),
			Hint: "use credentials with --uid 0, issued for a path at or above that of whom you revoke"}
	case o.Scope != from.Path:
		return denied("a revocation holds at and below one's own path")
	case skew > revokeSkew || skew < -revokeSkew:
		return &blocktree.Error{Op: "cluster", Kind: blocktree.Invalid, Err: errors.New("the time in the command is more than an hour from the node's"),
			Hint: "look at the clocks of both machines"}
	}
	return nil
}

// refuses says whom the node has no connection with.
func (s *Service) refuses(id cred.Identity) error {
	if err := s.revoked.refuses(id); err != nil {
		return err
	}
	return s.roster.refuses(id)
}

// revoke refuses from now on, and cuts off, those that the list means. A node that it means itself ends.
func (s *Service) revoke(list []meta.Revocation) {
	if !s.revoked.add(list, s.cfg.Clock.Now(), false) {
		return
	}
	for _, x := range list {
		s.cfg.Logger.Warn("a principal is revoked", "principal", x.Principal.String(), "below", x.Scope.Short(), "until", time.Unix(0, x.Until).UTC())
	}
	s.endpoint.SetRefused(s.refuses)
	if err := s.revoked.refuses(s.endpoint.Identity()); err != nil {
		s.fail(&blocktree.Error{Op: "this node was revoked", Err: err})
	}
}

// readRevoked goes by all revocations that are applied here.
func (s *Service) readRevoked() error {
	list, err := s.group.Revoked()
	if err == nil && len(list) > 0 {
		s.revoke(list)
	}
	return err
}

// SetCredentials has the node known by newer credentials of its key and path. Kinds: those of bttp.Endpoint.SetCredentials.
func (s *Service) SetCredentials(chain cred.Credentials) error {
	return s.endpoint.SetCredentials(chain)
}

// SetCredentials has the client known by newer credentials of its key and path, without a new connection. Kinds: those of
// bttp.Endpoint.SetCredentials.
func (c *Client) SetCredentials(chain cred.Credentials) error {
	return c.endpoint.SetCredentials(chain)
}

// Identity is who the client is, as long as its credentials are valid.
func (c *Client) Identity() cred.Identity { return c.endpoint.Identity() }

// followRevoked refuses and cuts off, as nodes do, who is revoked: a node that was stolen may be the only one that answers.
func (c *Client) followRevoked() {
	for {
		ctx, cancel := context.WithTimeout(c.ctx, askTimeout)
		list, err := c.Revoked(ctx)
		cancel()
		if t := c.tree; err == nil && t.revokedOf(c.cfg.Scope).add(list, c.cfg.Clock.Now(), true) { // else it is asked for again; who one cluster has revoked, none is believed to be
			c.endpoint.SetRefused(t.refuses)
		}
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(revokedEvery):
		}
	}
}

// revokedOf is what was heard of those whom the cluster of a directory has revoked: each has its own room, as what one tells must not have another's forgotten. At most treeClustersMax are
// kept; one that the client keeps no connections to makes room.
func (t *tree) revokedOf(dir blocktree.Path) *revoked {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.revoked[dir]
	if r == nil {
		for other := range t.revoked {
			if t.byDir[other] == nil && len(t.revoked) >= treeClustersMax {
				delete(t.revoked, other)
			}
		}
		r = &revoked{}
		t.revoked[dir] = r
	}
	return r
}

// refuses says why a runtime is not believed, nil if it is, by what any cluster has told.
func (t *tree) refuses(id cred.Identity) error {
	t.mu.Lock()
	all := slices.Collect(maps.Values(t.revoked))
	t.mu.Unlock()
	for _, r := range all {
		if err := r.refuses(id); err != nil {
			return err
		}
	}
	return nil
}

// Revoked returns the revocations of the cluster, ascending by principal and scope. Kinds: those of a query.
func (c *Client) Revoked(ctx context.Context) (all []meta.Revocation, err error) {
	for len(all) < meta.RevokedMax {
		a, err := c.query(ctx, meta.Query{Kind: meta.QueryRevoked, After: strconv.Itoa(len(all)), Limit: meta.RevokedPageMax})
		if err != nil {
			return nil, &blocktree.Error{Op: "revocations", Err: err}
		}
		if all = append(all, a.Revoked...); !a.More || len(a.Revoked) == 0 {
			break
		}
	}
	return all, nil
}

// RevokePrincipal has nobody at or below the client's own path believed any more who has the principal in its chain. It is kept until then. It returns
// where that is in force: a node that has not said so goes by it before it answers anybody again, if it is down, or as soon as it hears of it. Kinds:
// Permission (not user id 0), NoSpace, Invalid, those of a proposal.
func (c *Client) RevokePrincipal(ctx context.Context, p blocktree.Principal, until time.Time) (Applied, error) {
	revoke := func(ctx context.Context, c *Client) (Applied, error) {
		r, err := c.proposeHere(ctx, meta.Command{ID: meta.NewCommandID(), Op: meta.RevokePrincipal{Revocation: meta.Revocation{Principal: p, Scope: c.cfg.Path,
			Time: c.cfg.Clock.Now().UnixNano(), Until: until.UnixNano()}}})
		if err == nil {
			err = r.Err("cluster")
		}
		if err != nil {
			return Applied{}, &blocktree.Error{Op: "revoke " + p.String(), Err: err}
		}
		return c.awaitApplied(ctx, r.Index), nil
	}
	out, err := revoke(ctx, c)
	if err == nil && c.tree != nil { // each cluster has a set of its own (docs/design/0033)
		out.Beneath, out.More = c.beneath(ctx, c.cfg.Scope, func(ctx context.Context, cc *Client, b *Beneath) {
			var a Applied
			a, b.Err = revoke(ctx, cc)
			b.Nodes, b.Missing = a.Nodes, a.Missing
		})
	}
	return out, err
}
